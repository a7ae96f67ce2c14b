//! A table, the simulated threads that use it, the reference, and their comparison.

use core::cell::Cell;
use core::num::NonZeroUsize;
use std::boxed::Box;
use std::rc::Rc;
use std::sync::Arc;
use std::vec::Vec;

use turnstile::simulated::{Machine, State};
use turnstile::{Address, Deadlock, Decision, Edge, Ending, Hold, PiTurnstiles, Priority, Queue, ThreadId};

use super::model::{Closing, Model, Share, Wait};
use super::step::{Ask, Step};
use super::{ADDRESSES, HOLDS, THREADS};

type Table<const CHAINS: usize> = PiTurnstiles<Arc<Machine>, CHAINS>;

fn thread(number: usize) -> ThreadId {
    ThreadId::new(NonZeroUsize::new(number + 1).unwrap())
}

fn number(thread: ThreadId) -> usize {
    thread.get().get() - 1
}

fn queue(shared: bool) -> Queue {
    if shared { Queue::Shared } else { Queue::Exclusive }
}

/// Where a thread is told what to do, and tells what came of it.
#[derive(Default)]
struct Desk {
    ask: Cell<Option<(Ask, Option<u64>)>>,
    /// Its decision has run since this was last looked at.
    decided: Cell<bool>,
    answer: Cell<Option<Result<Ending, Deadlock>>>,
    stop: Cell<bool>,
}

/// How far a thread is, by the reference.
#[derive(Clone, Copy)]
enum Progress {
    AtLeisure,
    /// Told to block, and not yet under the table's lock.
    Asked(Ask, Option<u64>),
    Queued {
        deadline: Option<u64>,
    },
    /// Somebody has ended its wait, and it has not yet gone on.
    Ended(Ending),
}

/// Both sides.
pub(crate) struct World<const CHAINS: usize> {
    pub(crate) machine: Arc<Machine>,
    pub(crate) table: Arc<Table<CHAINS>>,
    desks: Vec<Rc<Desk>>,
    holds: [Box<Hold>; HOLDS],
    model: Model,
    progress: Vec<Progress>,
}

impl<const CHAINS: usize> World<CHAINS> {
    pub(crate) fn new() -> Self {
        let machine = Arc::new(Machine::new());
        let table = Arc::new(Table::new(machine.clone()));
        let desks: Vec<_> = (0..THREADS)
            .map(|_| {
                let desk = Rc::new(Desk::default());
                let (machine, table, own) = (machine.clone(), table.clone(), desk.clone());
                machine.clone().spawn(Priority::LOWEST, move || work(&machine, &table, &own));
                desk
            })
            .collect();
        let model = Model { own: std::vec![0; THREADS], waits: Vec::new(), shares: Vec::new(), arrivals: 0 };
        Self {
            machine,
            table,
            desks,
            holds: core::array::from_fn(|_| Box::default()),
            model,
            progress: std::vec![Progress::AtLeisure; THREADS],
        }
    }

    /// Plays the steps, and brings the run to an end.
    pub(crate) fn play(&mut self, steps: impl IntoIterator<Item = Step>) {
        steps.into_iter().for_each(|step| self.apply(step));
        for name in 0..HOLDS {
            self.apply(Step::Release { name });
        }
        for who in 0..THREADS {
            // One that has only been told to block may queue yet.
            while !matches!(self.progress[who], Progress::AtLeisure) {
                self.apply(Step::Cancel { thread: who });
                self.apply(Step::Run { thread: who });
            }
            self.desks[who].stop.set(true);
            turnstile::Scheduler::unpark(&*self.machine, thread(who));
        }
        assert_eq!(self.machine.run(), Ok(()));
        assert!((0..THREADS).all(|who| self.machine.loan(thread(who)).is_none()), "a loan is left over");
    }

    pub(crate) fn apply(&mut self, step: Step) {
        match step {
            Step::Block { thread: who, ask, runs } => {
                if matches!(self.progress[who], Progress::AtLeisure) {
                    let deadline = ask.patience.map(|patience| self.machine.now() + patience);
                    self.desks[who].ask.set(Some((ask, deadline)));
                    self.progress[who] = Progress::Asked(ask, deadline);
                    turnstile::Scheduler::unpark(&*self.machine, thread(who));
                    (0..runs).for_each(|_| self.run(who));
                }
            }
            Step::Run { thread: who } => self.run(who),
            Step::Wake { address, shared, limit, least_token } => {
                self.wake(address, shared, limit, least_token);
            }
            Step::Claim { address, owner } => self.claim(address, owner),
            Step::HandOver { address } => self.hand_over(address),
            Step::Hold { name, owner, address, level } => self.hold(name, owner, address, level),
            Step::Release { name } => {
                let known = self.model.shares.iter().any(|share| share.name == name);
                // SAFETY: the hold is used with this table only.
                let released = self.table.locked(|table| unsafe { table.release(&self.holds[name]) });
                assert_eq!(released, known);
                self.model.shares.retain(|share| share.name != name);
            }
            Step::Cancel { thread: who } => {
                let waits = self.model.wait_of(who).is_some();
                assert_eq!(self.table.cancel(thread(who)), waits);
                if waits {
                    self.end(who, Ending::Cancelled);
                }
            }
            Step::Advance { ticks } => self.machine.advance(ticks),
            Step::Priority { thread: who, own } => {
                self.model.own[who] = own;
                self.machine.set_own_priority(thread(who), Priority::new(own));
                self.table.priority_changed(thread(who));
            }
        }
        self.check();
    }

    fn end(&mut self, who: usize, ending: Ending) {
        self.model.waits.retain(|wait| wait.thread != who);
        self.progress[who] = Progress::Ended(ending);
    }

    /// Lets a thread go on up to its next scheduling point, and sees what it did.
    fn run(&mut self, who: usize) {
        if self.machine.state(thread(who)) != State::Ready {
            return;
        }
        self.machine.resume(thread(who));
        let desk = self.desks[who].clone();
        if desk.decided.take() {
            let Progress::Asked(ask, deadline) = self.progress[who] else { panic!("it was not asked") };
            let Ask { address, shared, token, owner, .. } = ask;
            let arrival = self.model.arrivals;
            let limited = deadline.is_some();
            let wait = Wait { thread: who, address, shared, token, owner, arrival, limited };
            let closing = Closing::Wait(wait.clone());
            if self.model.refuses(&closing) {
                let answer = desk.answer.take().expect("nothing happens behind a refusal");
                let deadlock = answer.expect_err("a cycle is refused");
                assert_eq!(deadlock.links().next().unwrap().thread, thread(who));
                self.check_cycle(&deadlock, |owner| owner == who);
                self.progress[who] = Progress::AtLeisure;
                return;
            }
            self.give_way(&closing);
            self.model.arrivals += 1;
            self.model.waits.push(wait);
            self.progress[who] = Progress::Queued { deadline };
        }
        if let Some(answer) = desk.answer.take() {
            match (self.progress[who], answer) {
                (Progress::Ended(expected), Ok(ending)) => assert_eq!(ending, expected),
                (Progress::Queued { deadline: Some(deadline) }, Ok(Ending::TimedOut)) => {
                    assert!(deadline <= self.machine.now());
                    self.model.waits.retain(|wait| wait.thread != who);
                }
                (_, unexpected) => panic!("thread {who} came back with {unexpected:?}"),
            }
            self.progress[who] = Progress::AtLeisure;
        }
        self.check();
    }

    /// Takes note of the waits with a time limit that the table has ended, so that what was about to close cycles did not.
    fn give_way(&mut self, closing: &Closing) {
        let left = blocked(&edges(|room| self.table.edges(room)));
        let waited = self.model.waits.iter().map(|wait| wait.thread);
        let ended: Vec<_> = waited.filter(|who| !left.contains(who)).collect();
        assert!(
            self.model.is_possible_without(closing, &ended),
            "{ended:?} were ended for the sake of a cycle"
        );
        ended.into_iter().for_each(|who| self.end(who, Ending::TimedOut));
    }

    fn wake(&mut self, address: usize, shared: bool, limit: usize, least_token: u64) {
        // Those taken off first change the priorities of those behind, if they lent to them: the reference goes one by one too.
        let mut order = Vec::new();
        let mut model = self.model.clone();
        while order.len() < limit {
            let next = model.queue(address, shared).into_iter().find(|wait| wait.token >= least_token);
            let Some(next) = next else { break };
            order.push(next.thread);
            model.waits.retain(|wait| wait.thread != next.thread);
        }
        let parked: Vec<_> =
            order.iter().copied().filter(|who| self.machine.state(thread(*who)) != State::Ready).collect();
        let woken = self.table.locked(|table| {
            table.wake_where(Address::new(address), queue(shared), limit, |waiting| {
                waiting.token >= least_token
            })
        });
        assert_eq!(woken.count, order.len());
        assert_eq!(woken.remaining, !model.queue(address, shared).is_empty());
        let ready: Vec<_> = self.machine.ready().into_iter().map(number).collect();
        assert!(ready.ends_with(&parked), "{ready:?} were not unparked in the order {parked:?}");
        order.into_iter().for_each(|who| self.end(who, Ending::Woken));
    }

    fn claim(&mut self, address: usize, owner: Option<usize>) {
        let waiting: Vec<_> =
            self.model.waits.iter().filter(|wait| wait.address == address).map(|wait| wait.thread).collect();
        let closing = owner.map(|owner| Closing::Owner { owner, address, level: 0 });
        let refused = closing.as_ref().is_some_and(|closing| self.model.refuses(closing));
        match self.table.locked(|table| table.claim(Address::new(address), owner.map(thread))) {
            Ok(()) => {
                assert!(!refused);
                if let Some(closing) = closing {
                    self.give_way(&closing);
                }
                self.model.own_address(address, owner);
            }
            Err(deadlock) => {
                assert!(refused);
                self.check_cycle(&deadlock, |end| waiting.contains(&end));
            }
        }
    }

    fn hand_over(&mut self, address: usize) {
        let next = self.model.queue(address, false).first().map(|wait| wait.thread);
        let here = Address::new(address);
        self.table.locked(|table| {
            table.disown(here);
            let first = table.first(here, Queue::Exclusive).map(|waiting| waiting.thread);
            // Without the owner's loan the first may be another one than before.
            table.wake(here, Queue::Exclusive, 1);
            table.claim(here, first).expect("whoever was just woken waits for nothing");
            self.model.own_address(address, None);
            let first = first.map(number);
            assert_eq!(first, self.model.queue(address, false).first().map(|wait| wait.thread));
            assert_eq!(first.is_some(), next.is_some());
            if let Some(first) = first {
                self.model.waits.retain(|wait| wait.thread != first);
                self.progress[first] = Progress::Ended(Ending::Woken);
                self.model.own_address(address, Some(first));
            }
        });
    }

    fn hold(&mut self, name: usize, owner: usize, address: usize, level: u64) {
        if self.model.shares.iter().any(|share| share.name == name) {
            return;
        }
        let closing = Closing::Owner { owner, address, level };
        let refused = self.model.refuses(&closing);
        let held = self.table.locked(|table| {
            // SAFETY: not registered, says the model; boxed, and released at the end of `play`.
            unsafe { table.hold(&self.holds[name], Address::new(address), thread(owner), level) }
        });
        assert_eq!(held.is_err(), refused);
        if !refused {
            self.give_way(&closing);
            self.model.shares.push(Share { name, owner, address, level });
        }
    }

    fn check_cycle(&self, deadlock: &Deadlock, last: impl Fn(usize) -> bool) {
        let links: Vec<_> = deadlock.links().collect();
        assert_eq!(links.len(), deadlock.length().min(7));
        for pair in links.windows(2).skip(1) {
            let wait = self.model.wait_of(number(pair[0].thread)).unwrap();
            assert_eq!(Address::new(wait.address), pair[0].address);
            assert!(self.model.owners(wait).contains(&number(pair[1].thread)));
        }
        if let (Some(end), true) = (links.get(1..).and_then(<[_]>::last), links.len() == deadlock.length()) {
            let wait = self.model.wait_of(number(end.thread)).unwrap();
            assert!(self.model.owners(wait).into_iter().any(last));
        }
    }

    /// INV-L-2 to INV-L-4, and that introspection tells the truth.
    fn check(&self) {
        for who in 0..THREADS {
            assert_eq!(
                self.machine.loan(thread(who)).map(Priority::level),
                self.model.loan(who),
                "loan of {who}"
            );
        }
        let all = edges(|room| self.table.edges(room));
        for address in 0..ADDRESSES {
            for shared in [false, true] {
                let expected: Vec<_> =
                    self.model.queue(address, shared).into_iter().map(|wait| wait.thread).collect();
                let here = Address::new(address);
                let of = all.iter().filter(|edge| edge.address == here && edge.queue == queue(shared));
                let mut found: Vec<_> = of.map(|edge| number(edge.thread)).collect();
                found.dedup();
                assert_eq!(found, expected, "queue of {address}");
                self.table.locked(|table| {
                    let first = table.first(here, queue(shared)).map(|waiting| number(waiting.thread));
                    assert_eq!(first, expected.first().copied());
                    assert_eq!(table.waiting(here, queue(shared)), expected.len());
                    assert!(expected.is_empty() || table.is_awaited(here));
                });
            }
        }
        for edge in &all {
            let wait = self.model.wait_of(number(edge.thread)).unwrap();
            assert_eq!(edge.priority.level(), self.model.effective(wait.thread));
            match edge.owner {
                Some(owner) => assert!(self.model.owners(wait).contains(&number(owner))),
                None => assert!(self.model.owners(wait).is_empty()),
            }
        }
        assert_eq!(blocked(&all).len(), self.model.waits.len());
        for who in 0..THREADS {
            let chain = edges(|room| self.table.chain_of(thread(who), room));
            let expected: Vec<_> = (0..THREADS)
                .filter(|other| self.model.wait_of(*other).is_some() && self.model.reaches(who, *other))
                .collect();
            assert_eq!(blocked(&chain), expected, "chain of {who}");
            let tree = edges(|room| self.table.tree_of(thread(who), room));
            let expected: Vec<_> =
                (0..THREADS).filter(|other| *other != who && self.model.reaches(*other, who)).collect();
            assert_eq!(blocked(&tree), expected, "tree of {who}");
        }
    }
}

/// What a thread of the machine does: what it is told, until it is told to stop.
fn work<const CHAINS: usize>(machine: &Machine, table: &Table<CHAINS>, desk: &Desk) {
    while !desk.stop.get() {
        let Some((ask, deadline)) = desk.ask.take() else {
            turnstile::Scheduler::park(machine);
            continue;
        };
        let (address, queue, token) = (Address::new(ask.address), queue(ask.shared), ask.token);
        let decide = |_: &mut turnstile::Locked<'_, Arc<Machine>, CHAINS>| {
            desk.decided.set(true);
            ask.owner.map_or(Decision::Wait, |owner| Decision::WaitFor(thread(owner)))
        };
        desk.answer.set(Some(match deadline {
            Some(deadline) => table.block_until(address, queue, token, deadline, decide),
            None => table.block(address, queue, token, decide),
        }));
    }
}

/// What an introspection gives.
fn edges(ask: impl Fn(&mut [Edge]) -> usize) -> Vec<Edge> {
    let nothing = Edge {
        thread: thread(0),
        address: Address::new(0),
        queue: Queue::Shared,
        token: 0,
        priority: Priority::LOWEST,
        owner: None,
        depth: 0,
    };
    let mut room = std::vec![nothing; THREADS * (HOLDS + 1)];
    let count = ask(&mut room);
    room.truncate(count);
    room
}

/// Who waits, by the edges.
fn blocked(edges: &[Edge]) -> Vec<usize> {
    let mut threads: Vec<_> = edges.iter().map(|edge| number(edge.thread)).collect();
    threads.sort_unstable();
    threads.dedup();
    threads
}
