//! The algorithm as a transition system: one atomic [`Step`] of one thread at a time.
//!
//! `Thread::advance` has one arm per `Step`, in the order of the code. The comment at each arm names the place in
//! `src/`. What a thread does between two steps touches nothing shared and belongs to the arm before.

use core::ops::Range;

use dcas_queue::Step;

/// Most threads that a state has room for.
pub(crate) const MAX_THREADS: usize = 3;

/// A link: 0 is null, otherwise the index of a cell, 1 to 3. The mark is a bit of its own, as in the code.
pub(crate) type Link = u8;
pub(crate) const NULL: Link = 0;
pub(crate) const MARK: Link = 4;

/// The head's cell. Thread `t` owns the node in cell `t + 1`.
pub(crate) const HEAD: usize = 0;

/// A pair.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) payload: u8,
    pub(crate) link: Link,
}

/// What a thread is doing; with its [`Step`] the program counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    /// `Queue::append`. About to take its first step: the thread's node is idle.
    Append,
    /// `Queue::remove`. About to take its first step: the thread's section is open.
    Remove,
    /// `Queue::complete_removals`.
    Complete,
    /// All rounds done.
    Done,
}

impl Operation {
    pub(crate) const ALL: [Self; 4] = [Self::Append, Self::Remove, Self::Complete, Self::Done];
}

/// A thread: program counter and registers. Registers that are not live hold 0, lest equal states look different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Thread {
    pub(crate) operation: Operation,
    /// The step that comes next.
    pub(crate) step: Step,
    /// Rounds (append and remove, or one `complete_removals`) not yet finished.
    pub(crate) rounds: u8,
    /// `append`: whether the own link is null already.
    pub(crate) prepared: bool,
    /// `append`: the step of the payload, called `n` in the code.
    pub(crate) n: u8,
    /// `append`: the payload at the end of the own node's last stay. Live only if payloads have a limit.
    pub(crate) floor: u8,
    /// Walk: the cell of the position.
    pub(crate) here: u8,
    /// Walk: the words that were read from it.
    pub(crate) seen: Cell,
    /// Walk: the words read from the next node, or what is to be donated.
    pub(crate) next: Cell,
    /// `append`: the own node's payload (`last`). Open section: the payload issued to it. `remove`: the
    /// own frozen payload.
    pub(crate) value: u8,
}

/// Everything shared and everything private.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State {
    pub(crate) cells: [Cell; MAX_THREADS + 1],
    pub(crate) threads: [Thread; MAX_THREADS],
}

/// The algorithm's parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) mutation: Option<Mutation>,
    /// The largest payload there is; appends that would exceed it fail. `None`: payloads never run out.
    pub(crate) limit: Option<u8>,
}

impl Rules {
    fn is(self, mutation: Mutation) -> bool {
        self.mutation == Some(mutation)
    }
}

/// What `append` may add to the tail's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PayloadSteps {
    /// Any of 1 to this, each time.
    UpTo(u8),
    /// One value in a thread's last round and one in all before.
    ByRound { before_last: u8, last: u8 },
}

impl PayloadSteps {
    pub(crate) fn largest(self) -> u8 {
        match self {
            Self::UpTo(largest) => largest,
            Self::ByRound { before_last, last } => before_last.max(last),
        }
    }
}

/// A deliberate error in the algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    /// Advance to the next node without reading the predecessor again.
    NoRecheck,
    /// Read every link before the payload beside it.
    LinkReadBeforePayload,
    /// Clear the own mark before raising the own payload.
    LinkPreparedBeforePayload,
    /// `remove` reads the own payload before it sets the mark.
    PayloadReadBeforeMark,
    /// A helper donates the payload that it read before it saw the mark.
    HelperKeepsEarlierPayload,
    /// A walk that meets another thread's marked node starts again instead of finishing the removal.
    NoHelping,
    /// `append` stores whatever it derived, even below what its node had.
    NoNeverDownRule,
    /// An `append` that fails leaves the payload that it prepared in its node.
    UnusedPayloadKept,
    /// `remove` donates its own payload plus one (a step of its own), not exactly the removed one.
    DonationChanged,
}

impl Thread {
    pub(crate) const DONE: Self = Self {
        operation: Operation::Done,
        step: Step::ReadHeadPayload,
        rounds: 0,
        prepared: false,
        n: 0,
        floor: 0,
        here: 0,
        seen: Cell { payload: 0, link: 0 },
        next: Cell { payload: 0, link: 0 },
        value: 0,
    };

    /// About to begin the first of `rounds` rounds.
    pub(crate) fn start(operation: Operation, rounds: u8, rules: Rules) -> Self {
        let mut thread = Self { operation, rounds, ..Self::DONE };
        thread.begin(operation, rules);
        thread
    }

    /// The first step of an operation.
    fn begin(&mut self, operation: Operation, rules: Rules) {
        self.operation = operation;
        (self.prepared, self.n, self.floor) = (false, 0, 0);
        self.start_walk(rules);
        match operation {
            Operation::Append => self.step = Step::ReadIdlePayload,
            Operation::Remove if rules.is(Mutation::PayloadReadBeforeMark) => {
                self.step = Step::ReadOwnPayload;
            }
            Operation::Remove => self.step = Step::Mark,
            Operation::Complete | Operation::Done => {}
        }
    }

    /// The first step of a walk: `walk_once` is entered, at first or again.
    fn start_walk(&mut self, rules: Rules) {
        (self.here, self.seen, self.next) = (0, Cell::default(), Cell::default());
        self.step = if rules.is(Mutation::LinkReadBeforePayload) {
            Step::ReadHeadLink
        } else {
            Step::ReadHeadPayload
        };
    }

    /// One round less; on to the next, or done.
    fn finish_round(&mut self, again: Operation, rules: Rules) {
        let rounds = self.rounds - 1;
        *self = if rounds == 0 { Self::DONE } else { Self::start(again, rounds, rules) };
    }

    /// The payload issued to the thread's section, while that is open: appended, and its removal not begun.
    pub(crate) fn open(&self) -> Option<u8> {
        (self.operation == Operation::Remove && self.step == Step::Mark).then_some(self.value)
    }
}

impl State {
    /// The choices of `n` that the next step of thread `t` has: only the first step of `append` has any. None at all
    /// when the thread is done.
    pub(crate) fn choices(&self, t: usize, n: PayloadSteps) -> Range<u8> {
        let thread = &self.threads[t];
        match (thread.operation, thread.step) {
            (Operation::Done, _) => 0..0,
            (_, Step::ReadIdlePayload) => match n {
                PayloadSteps::UpTo(largest) => 1..largest + 1,
                PayloadSteps::ByRound { before_last, last } => {
                    let n = if thread.rounds == 1 { last } else { before_last };
                    n..n + 1
                }
            },
            _ => 1..2,
        }
    }

    /// Takes the next step of thread `t`.
    pub(crate) fn advance(mut self, t: usize, n: u8, rules: Rules) -> Self {
        let cells = &mut self.cells;
        let own = t + 1;
        let thread = &mut self.threads[t];
        let link_first = rules.is(Mutation::LinkReadBeforePayload);
        match thread.step {
            // queue.rs, append: `floor` and `last`.
            Step::ReadIdlePayload => {
                thread.value = cells[own].payload;
                thread.floor = rules.limit.map_or(0, |_| thread.value);
                thread.n = n;
                thread.start_walk(rules);
            }
            // walk.rs, walk_once: `here` is the head.
            Step::ReadHeadPayload => {
                thread.seen.payload = cells[HEAD].payload;
                thread.step = Step::ReadHeadLink;
                if link_first {
                    thread.arrive(own, cells[own].link, rules);
                }
            }
            Step::ReadHeadLink => {
                thread.seen.link = cells[HEAD].link;
                thread.step = Step::ReadHeadPayload;
                if !link_first {
                    thread.arrive(own, cells[own].link, rules);
                }
            }
            // walk.rs, walk_once: `next`.
            Step::ReadNextPayload => {
                thread.next.payload = cells[usize::from(thread.seen.link)].payload;
                thread.step = Step::ReadNextLink;
                if link_first {
                    thread.judge_next(own, cells[own].link, rules);
                }
            }
            Step::ReadNextLink => {
                thread.next.link = cells[usize::from(thread.seen.link)].link;
                thread.step = Step::ReadNextPayload;
                if !link_first {
                    thread.judge_next(own, cells[own].link, rules);
                }
            }
            // walk.rs, walk_once: `here` again.
            Step::RecheckLink => {
                if cells[usize::from(thread.here)].link == thread.seen.link {
                    thread.step = Step::RecheckPayload;
                } else {
                    thread.start_walk(rules);
                }
            }
            Step::RecheckPayload => {
                if cells[usize::from(thread.here)].payload == thread.seen.payload {
                    thread.move_on(own, cells[own].link, rules);
                } else {
                    thread.start_walk(rules);
                }
            }
            // walk.rs, walk_once: finish another thread's removal.
            Step::ReadFrozenPayload => {
                thread.next.payload = cells[usize::from(thread.seen.link)].payload;
                thread.next.link &= !MARK;
                thread.step = Step::Unlink;
            }
            // walk.rs, unlink.
            Step::Unlink => {
                let here = &mut cells[usize::from(thread.here)];
                if *here == thread.seen {
                    *here = thread.next;
                    if thread.operation == Operation::Remove && usize::from(thread.seen.link) == own {
                        thread.finish_round(Operation::Append, rules);
                    } else {
                        (thread.seen, thread.next) = (thread.next, Cell::default());
                        thread.arrive(own, cells[own].link, rules);
                    }
                } else {
                    thread.start_walk(rules);
                }
            }
            // queue.rs, append: prepare.
            Step::PreparePayload => {
                let derived = thread.seen.payload + thread.n;
                cells[own].payload = derived;
                thread.value = derived;
                thread.step = if thread.prepared { Step::LinkTail } else { Step::PrepareLink };
                if rules.is(Mutation::LinkPreparedBeforePayload) {
                    thread.step = Step::LinkTail;
                }
            }
            Step::PrepareLink => {
                cells[own].link = NULL;
                thread.prepared = true;
                thread.step = if rules.is(Mutation::LinkPreparedBeforePayload) {
                    Step::PreparePayload
                } else {
                    Step::LinkTail
                };
            }
            // queue.rs, append: link.
            Step::LinkTail => {
                let tail = &mut cells[usize::from(thread.here)];
                if *tail == thread.seen {
                    tail.link = own as Link;
                    let issued = thread.seen.payload + thread.n;
                    thread.begin(Operation::Remove, rules);
                    thread.value = issued;
                } else {
                    thread.start_walk(rules);
                }
            }
            // queue.rs, remove.
            Step::Mark => {
                cells[own].link |= MARK;
                if rules.is(Mutation::PayloadReadBeforeMark) {
                    thread.start_walk(rules);
                } else {
                    thread.value = 0;
                    thread.step = Step::ReadOwnPayload;
                }
            }
            Step::ReadOwnPayload => {
                thread.value = cells[own].payload;
                if rules.is(Mutation::DonationChanged) {
                    thread.value += 1;
                }
                if rules.is(Mutation::PayloadReadBeforeMark) {
                    thread.step = Step::Mark;
                } else {
                    thread.start_walk(rules);
                }
            }
            // queue.rs, append: payloads are exhausted.
            Step::RetractLink => {
                cells[own].link = MARK;
                thread.prepared = false;
                thread.step = Step::RetractPayload;
                if rules.is(Mutation::UnusedPayloadKept) {
                    thread.finish_round(Operation::Append, rules);
                }
            }
            Step::RetractPayload => {
                cells[own].payload = thread.floor;
                thread.finish_round(Operation::Append, rules);
            }
        }
        self
    }
}

impl Thread {
    /// walk.rs, walk_once: the loop's head, `here` and `seen` being known. Then what the caller does at the end.
    fn arrive(&mut self, own: usize, own_link: Link, rules: Rules) {
        if self.seen.link == NULL {
            match self.operation {
                Operation::Append => self.derive(rules),
                // Unlinked by somebody else.
                Operation::Remove => self.finish_round(Operation::Append, rules),
                Operation::Complete => self.finish_round(Operation::Complete, rules),
                Operation::Done => unreachable!("takes no steps"),
            }
        } else if self.operation == Operation::Remove && usize::from(self.seen.link) == own {
            // The own link needs no register: it is frozen since the mark.
            self.next = Cell { payload: self.value, link: own_link & !MARK };
            self.step = Step::Unlink;
        } else if rules.is(Mutation::LinkReadBeforePayload) {
            self.step = Step::ReadNextLink;
        } else {
            self.step = Step::ReadNextPayload;
        }
    }

    /// walk.rs, walk_once: both words of the next node are known.
    fn judge_next(&mut self, own: usize, own_link: Link, rules: Rules) {
        if self.next.link & MARK == 0 {
            if rules.is(Mutation::NoRecheck) {
                self.move_on(own, own_link, rules);
            } else {
                self.step = Step::RecheckLink;
            }
        } else if rules.is(Mutation::NoHelping) {
            self.start_walk(rules);
        } else if rules.is(Mutation::HelperKeepsEarlierPayload) {
            self.next.link &= !MARK;
            self.step = Step::Unlink;
        } else {
            self.next.payload = 0;
            self.step = Step::ReadFrozenPayload;
        }
    }

    /// walk.rs, walk_once: the next node becomes `here`.
    fn move_on(&mut self, own: usize, own_link: Link, rules: Rules) {
        self.here = self.seen.link;
        (self.seen, self.next) = (self.next, Cell::default());
        self.arrive(own, own_link, rules);
    }

    /// queue.rs, append: the tail is known; overflow, the never-down rule, and what has to be stored.
    fn derive(&mut self, rules: Rules) {
        let derived = self.seen.payload + self.n;
        if rules.limit.is_some_and(|limit| derived > limit) {
            if self.prepared {
                (self.here, self.seen) = (0, Cell::default());
                self.step = Step::RetractLink;
            } else {
                self.finish_round(Operation::Append, rules);
            }
            return;
        }
        let down = derived < self.value || (derived == self.value && !self.prepared);
        self.step = if down && !rules.is(Mutation::NoNeverDownRule) {
            self.start_walk(rules);
            self.step
        } else if rules.is(Mutation::LinkPreparedBeforePayload) && !self.prepared {
            Step::PrepareLink
        } else if derived != self.value {
            Step::PreparePayload
        } else if !self.prepared {
            Step::PrepareLink
        } else {
            Step::LinkTail
        };
    }
}
