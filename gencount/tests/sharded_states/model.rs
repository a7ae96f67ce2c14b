//! The algorithm of `sharded` as a machine of single steps: two threads that open sections, two that wait.
//!
//! A step is one access to shared memory. A critical section of the table's lock is several steps for a waiter, whose re-check
//! scans the slots meanwhile, and one step for a waker, who only compares tokens with the watermark.

pub(crate) const SECTIONS: usize = 2;
pub(crate) const WAITERS: usize = 2;

/// What is left out of the algorithm, or done in another order.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Variant {
    /// The algorithm as it is.
    Faithful,
    /// A mark reads the clock itself, instead of using the section's generation: as safe.
    MarkReadsTheClock,
    /// A section leaves its first reading published, though the clock has moved: as safe, but it holds up more waiters.
    PublishesOnce,
    /// A section marks with what it read before it published.
    FirstReading,
    /// The clock is read for the second time before the section is published, as without a fence.
    PublishDelayed,
    /// A waiter does not raise the clock, and takes it for raised.
    NotRaised,
    /// A waiter reads the clock after the slots.
    SlotsBeforeClock,
    /// A waiter trusts the clock and looks at no slot.
    NoScan,
    /// A waiter queues without looking again.
    NoRecheck,
    /// A waiter registers after it has looked again, as without a fence.
    RegistersLate,
    /// A finish looks for waiters before it closes the slot, as without a fence.
    LooksEarly,
    /// A finish does not look for waiters.
    FinishBlind,
    /// A finish that sees waiters does not scan.
    FinishDoesNotSettle,
    /// A finish stores, and leaves the fence to waiters: as right.
    Light,
    /// The same, but a waiter makes a fence for itself only.
    LightWithoutHeavyFence,
    /// The same, but a finish that sees waiters scans with its store still on the way.
    LightScanWithoutFence,
}

impl Variant {
    fn is_light(self) -> bool {
        matches!(self, Self::Light | Self::LightWithoutHeavyFence | Self::LightScanWithoutFence)
    }
}

/// A pass over the slots.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
struct Scan {
    limit: u8,
    at: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Section {
    step: u8,
    rounds: u8,
    reading: u8,
    /// The generation of the open section; 0 if none.
    generation: u8,
    marked: bool,
    /// On the way through the steps of a finish that follow the closing, although it has only published once more.
    opening: bool,
    saw_waiters: bool,
    scan: Scan,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Waiter {
    step: u8,
    waits: u8,
    target: u8,
    /// Sections that had marked the word when the wait began, and are open still: one bit each.
    owed: u8,
    queued: bool,
    scan: Scan,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct State {
    clock: u8,
    watermark: u8,
    word: u8,
    waiters: u8,
    /// The waiter that holds the table's lock, plus 1.
    table: u8,
    slots: [u8; SECTIONS],
    /// Sections whose closing store is on the way: in the processor's buffer, where nobody else sees it.
    on_the_way: [bool; SECTIONS],
    sections: [Section; SECTIONS],
    waits: [Waiter; WAITERS],
}

/// What a thread can do in a state.
pub(crate) enum Next {
    Done,
    Blocked,
    To(State),
    Wrong(&'static str),
}

impl State {
    /// Each thread with its number of rounds.
    pub(crate) fn new(rounds: [u8; SECTIONS], waits: [u8; WAITERS]) -> Self {
        let mut state = Self { clock: 1, ..Self::default() };
        for (section, rounds) in state.sections.iter_mut().zip(rounds) {
            section.rounds = rounds;
        }
        for (waiter, waits) in state.waits.iter_mut().zip(waits) {
            waiter.waits = waits;
        }
        state
    }

    pub(crate) fn step(self, thread: usize, variant: Variant) -> Next {
        let next = if thread < SECTIONS {
            self.section(thread, variant)
        } else if thread < SECTIONS + WAITERS {
            self.wait(thread - SECTIONS, variant)
        } else {
            self.arrive(thread - SECTIONS - WAITERS)
        };
        if let Next::To(state) = &next
            && state.sections.iter().any(|one| one.generation != 0 && state.watermark >= one.generation)
        {
            return Next::Wrong("the watermark passed an open section");
        }
        next
    }

    /// A store that is on the way arrives.
    fn arrive(mut self, number: usize) -> Next {
        if !self.on_the_way[number] {
            return Next::Done;
        }
        self.fence(number);
        Next::To(self)
    }

    /// What a full fence of the section's processor does.
    fn fence(&mut self, number: usize) {
        if core::mem::take(&mut self.on_the_way[number]) {
            self.slots[number] = 0;
        }
    }

    /// One step of a scan; true when it is over.
    fn scan(&self, scan: &mut Scan, variant: Variant, own: Option<usize>) -> bool {
        if variant == Variant::NoScan {
            return true;
        }
        let at = usize::from(scan.at);
        // A thread sees its own stores at once.
        let forwarded = own == Some(at) && self.on_the_way[at];
        match self.slots[at] {
            _ if forwarded => {}
            0 => {}
            reading => scan.limit = scan.limit.min(reading - 1),
        }
        scan.at += 1;
        usize::from(scan.at) == SECTIONS
    }

    /// Takes those off the queue whose target is reached.
    fn wake(&mut self) {
        for waiter in &mut self.waits {
            waiter.queued &= waiter.target > self.watermark;
        }
    }

    fn section(mut self, number: usize, variant: Variant) -> Next {
        let mut me = self.sections[number];
        match me.step {
            0 if me.rounds == 0 => return Next::Done,
            0 => {
                me.reading = self.clock;
                me.step = 1;
            }
            1 if variant == Variant::PublishDelayed => {
                me.generation = self.clock;
                me.step = 2;
            }
            1 => {
                // An exchange, so what was on the way has arrived.
                self.fence(number);
                self.slots[number] = me.reading;
                me.step = 2;
            }
            2 => {
                match variant {
                    Variant::PublishDelayed => self.slots[number] = me.reading,
                    Variant::FirstReading => me.generation = me.reading,
                    _ => me.generation = self.clock,
                }
                me.step = match variant {
                    Variant::MarkReadsTheClock => 3,
                    Variant::FirstReading | Variant::PublishDelayed | Variant::PublishesOnce => 4,
                    _ if me.generation == me.reading => 4,
                    _ => 12,
                };
            }
            12 => {
                self.slots[number] = me.generation;
                me.opening = true;
                me.step = 6;
            }
            3 => {
                me.generation = self.clock;
                me.step = 4;
            }
            4 => {
                self.word = self.word.max(me.generation);
                me.marked = true;
                // What is not needed any more makes no two states of one.
                me.reading = 0;
                me.step = 5;
            }
            5 if variant == Variant::LooksEarly && me.scan.at == 0 => {
                me.saw_waiters = self.waiters != 0;
                // Remembers that the look is over.
                me.scan.at = 1;
            }
            5 => {
                if variant.is_light() {
                    self.on_the_way[number] = true;
                } else {
                    self.slots[number] = 0;
                }
                me.generation = 0;
                me.marked = false;
                for waiter in &mut self.waits {
                    waiter.owed &= !(1 << number);
                }
                me.step = 6;
            }
            6 => {
                if variant != Variant::LooksEarly {
                    me.saw_waiters = self.waiters != 0 && variant != Variant::FinishBlind;
                }
                me.step = match (me.saw_waiters, variant) {
                    (false, _) => 11,
                    (true, Variant::FinishDoesNotSettle) => 10,
                    (true, _) => 7,
                };
            }
            7 => {
                if variant != Variant::LightScanWithoutFence {
                    self.fence(number);
                }
                let limit = if variant == Variant::NotRaised { self.clock } else { self.clock - 1 };
                me.scan = Scan { limit, at: 0 };
                me.step = 8;
            }
            8 => {
                if self.scan(&mut me.scan, Variant::Faithful, Some(number)) {
                    me.step = 9;
                }
            }
            9 => {
                self.watermark = self.watermark.max(me.scan.limit);
                me.scan = Scan::default();
                me.step = 10;
            }
            _ => {
                if me.step == 10 {
                    if self.table != 0 {
                        return Next::Blocked;
                    }
                    self.wake();
                }
                me = if me.opening {
                    Section { step: 4, opening: false, saw_waiters: false, scan: Scan::default(), ..me }
                } else {
                    Section { rounds: me.rounds - 1, ..Section::default() }
                };
            }
        }
        self.sections[number] = me;
        Next::To(self)
    }

    fn wait(mut self, number: usize, variant: Variant) -> Next {
        let mut me = self.waits[number];
        match me.step {
            0 if me.waits == 0 => return Next::Done,
            0 => {
                me.target = self.word;
                me.owed = (0..SECTIONS).filter(|&at| self.sections[at].marked).map(|at| 1 << at).sum();
                me.step = 1;
            }
            1 if self.watermark >= me.target => me.step = 20,
            1 => me.step = 2,
            2 => {
                // A compare-exchange that fails has been forestalled by another one.
                if variant != Variant::NotRaised && self.clock == me.target {
                    self.clock += 1;
                }
                me.step = 3;
            }
            // The first scan, and the one under the table's lock.
            3 | 11 => {
                me.scan = Scan { limit: self.limit(variant), at: 0 };
                me.step += 1;
            }
            4 | 12 => {
                if self.scan(&mut me.scan, variant, None) {
                    me.step += 1;
                }
            }
            5 => {
                let advanced = self.advance(me.scan, variant);
                me.scan = Scan::default();
                me.step = if advanced { 6 } else { 8 };
            }
            6 | 14 => {
                me.step += if self.waiters == 0 { 2 } else { 1 };
            }
            7 | 15 => {
                if self.table != 0 {
                    return Next::Blocked;
                }
                self.wake();
                self.waits[number] = Waiter { step: me.step + 1, queued: me.queued, ..me };
                return Next::To(self);
            }
            8 if self.watermark >= me.target => me.step = 20,
            8 => me.step = 9,
            9 => {
                if variant != Variant::RegistersLate {
                    self.waiters += 1;
                }
                me.step = if variant == Variant::Light || variant == Variant::LightScanWithoutFence {
                    21
                } else {
                    10
                };
            }
            // One processor after the other executes the fence that this one asks for.
            21..=22 => {
                self.fence(usize::from(me.step - 21));
                me.step = if me.step == 22 { 10 } else { 22 };
            }
            10 => {
                if self.table != 0 {
                    return Next::Blocked;
                }
                self.table = number as u8 + 1;
                me.step = if variant == Variant::NoRecheck { 17 } else { 11 };
            }
            13 => {
                let advanced = self.advance(me.scan, variant);
                me.scan = Scan::default();
                if advanced {
                    self.table = 0;
                    me.step = 14;
                } else if self.watermark >= me.target {
                    self.table = 0;
                    me.step = 16;
                } else {
                    me.step = 17;
                }
            }
            16 => {
                if self.watermark >= me.target {
                    if variant != Variant::RegistersLate {
                        self.waiters -= 1;
                    }
                    me.step = 20;
                } else {
                    me.step = 10;
                }
            }
            17 => {
                if variant == Variant::RegistersLate {
                    self.waiters += 1;
                }
                me.queued = true;
                self.table = 0;
                me.step = 18;
            }
            18 => {
                if me.queued {
                    return Next::Blocked;
                }
                if variant == Variant::RegistersLate {
                    self.waiters -= 1;
                }
                me.step = 16;
            }
            _ => {
                if me.owed != 0 {
                    return Next::Wrong("a wait returned while a section that it owes to is open");
                }
                me = Waiter { waits: me.waits - 1, ..Waiter::default() };
            }
        }
        self.waits[number] = me;
        Next::To(self)
    }

    fn limit(&self, variant: Variant) -> u8 {
        match variant {
            Variant::NotRaised => self.clock,
            // Read later.
            Variant::SlotsBeforeClock => u8::MAX,
            _ => self.clock - 1,
        }
    }

    fn advance(&mut self, scan: Scan, variant: Variant) -> bool {
        let limit =
            if variant == Variant::SlotsBeforeClock { scan.limit.min(self.clock - 1) } else { scan.limit };
        let before = self.watermark;
        self.watermark = before.max(limit);
        self.watermark > before
    }
}
