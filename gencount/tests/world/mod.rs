//! Whole lifetimes of participants: what each thread does, and what has to hold meanwhile. Schedulers that choose who goes on drive
//! it: from a string of bytes (`histories`), and under a checker of schedules.
//!
//! A thread joins, opens sections, marks, finishes, waits, waits with a time limit, asks, leaves and joins again, as the bytes
//! of its program say. What is promised at any time is in [`World::check`], to be called at every point that any thread passes; what
//! each operation promises is checked at its end.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use gencount::{Domain, GenerationWord, Implementation, Participant};
use turnstile::{LendingScheduler, Scheduler, TableScheduler, TimedScheduler};

const WORDS: usize = 2;

/// A scheduler that the threads can run under: its clock counts points.
pub(super) trait Scheduling:
    TableScheduler<Threads: TimedScheduler<Instant = u64, Duration = u64>>
{
}

impl<S: TableScheduler<Threads: TimedScheduler<Instant = u64, Duration = u64>>> Scheduling for S {}

/// What a thread is doing, as it has told before it does it and after it has done it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doing {
    Idle,
    /// Inside begin, or inside finish or the drop that finishes.
    Changing,
    /// In a section of this generation; which section of the run it is, for they may share generations.
    Section {
        generation: u64,
        serial: u64,
    },
}

/// What is known of the run. Whoever holds the baton has it for itself.
struct Oracle {
    doing: Vec<Doing>,
    /// The sections that marked each word and have not called finish: their threads.
    owed: [Vec<usize>; WORDS],
    issued: BTreeSet<u64>,
    /// Calls of begin, and those that have returned.
    beginning: u64,
    begun: u64,
    waits: u64,
    forgotten: u64,
    watermark: u64,
}

impl Oracle {
    /// Whether some other thread might keep this one from seeing a word complete.
    fn others_busy(&self, thread: usize) -> bool {
        self.doing.iter().enumerate().any(|(other, doing)| other != thread && *doing != Doing::Idle)
    }
}

/// A word and the lock under which it is marked.
struct Page<S: Scheduler> {
    lock: lock_api::Mutex<S::RawLock, ()>,
    word: GenerationWord,
}

/// One run.
pub(super) struct World<S: Scheduling> {
    domain: Arc<Domain<S>>,
    pages: [Page<S>; WORDS],
    /// Never held over anything that might be a point.
    oracle: Mutex<Oracle>,
}

impl<S: Scheduling> World<S> {
    /// A world of so many threads.
    pub(super) fn new(domain: Domain<S>, threads: usize) -> Self {
        Self {
            domain: Arc::new(domain),
            pages: core::array::from_fn(|_| Page {
                lock: lock_api::Mutex::new(()),
                word: GenerationWord::new(),
            }),
            oracle: Mutex::new(Oracle {
                doing: std::vec![Doing::Idle; threads],
                owed: Default::default(),
                issued: BTreeSet::new(),
                beginning: 0,
                begun: 0,
                waits: 0,
                forgotten: 0,
                watermark: 0,
            }),
        }
    }

    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// INV-DI-1 of this moment, and that the watermark never goes down.
    pub(super) fn check(&self) {
        let watermark = self.domain.watermark();
        let mut oracle = self.oracle();
        assert!(watermark >= oracle.watermark, "the watermark went down to {watermark}");
        oracle.watermark = watermark;
        for &doing in &oracle.doing {
            if let Doing::Section { generation, .. } = doing {
                assert!(watermark < generation, "INV-DI-1: {watermark} passed the open section {generation}");
            }
        }
    }

    /// Whether generations are issued one by one.
    fn issues_each_once(&self) -> bool {
        self.domain.implementation() != Implementation::Sharded
    }

    /// Runs the program of a thread; then waits for everything, and leaves.
    pub(super) fn run(&self, number: usize, program: &[u8]) {
        let mut thread = Thread { world: self, number, participant: None };
        thread.join();
        for &byte in program {
            thread.act(byte);
        }
        if thread.in_section() {
            thread.finish();
        }
        for page in 0..WORDS {
            thread.wait_for_ever(page);
        }
        thread.leave();
    }

    /// What holds when all threads have run.
    pub(super) fn at_the_end(&self) {
        self.check();
        let counters = self.domain.counters();
        let complete = self.pages.iter().all(|page| self.domain.is_complete(&page.word));
        let watermark = self.domain.watermark();
        let oracle = self.oracle();
        assert!(complete);
        assert_eq!((counters.di_blocks, counters.di_forgotten), (oracle.begun, oracle.forgotten));
        assert_eq!(counters.di_wait_calls, oracle.waits);
        assert!(counters.invl_wait_slow <= counters.invl_wait && counters.invl_wait <= oracle.waits);
        if self.issues_each_once() {
            assert_eq!(oracle.issued, (1..=oracle.begun).collect(), "INV-DI-3");
            assert_eq!(watermark, oracle.begun, "INV-DI-3");
        }
    }
}

/// One thread of a run.
struct Thread<'w, S: Scheduling> {
    world: &'w World<S>,
    number: usize,
    participant: Option<Participant<S>>,
}

impl<S: Scheduling> Thread<'_, S> {
    fn participant(&self) -> &Participant<S> {
        self.participant.as_ref().expect("joined")
    }

    fn in_section(&self) -> bool {
        matches!(self.world.oracle().doing[self.number], Doing::Section { .. })
    }

    fn begin(&self) {
        let mut oracle = self.world.oracle();
        oracle.doing[self.number] = Doing::Changing;
        oracle.beginning += 1;
        drop(oracle);
        let generation = self.participant().begin_raw();
        let mut oracle = self.world.oracle();
        oracle.doing[self.number] = Doing::Section { generation, serial: oracle.begun };
        oracle.begun += 1;
        let new = oracle.issued.insert(generation);
        assert!(generation > 0 && (new || !self.world.issues_each_once()), "INV-DI-3: {generation}");
        assert!(generation > oracle.watermark, "begun below the watermark");
        drop(oracle);
        self.world.check();
    }

    fn mark(&self, page: usize) {
        let Page { lock, word } = &self.world.pages[page];
        let _lock = lock.lock();
        self.participant().mark(word);
        let marked = word.get();
        let mut oracle = self.world.oracle();
        if let Doing::Section { generation, .. } = oracle.doing[self.number] {
            assert!(marked >= generation, "INV-DI-4");
            oracle.owed[page].push(self.number);
        }
    }

    /// H-75: outside of a section a thread is as urgent as it is by itself, however the section began and ended.
    fn has_no_loan(&self) {
        let scheduler = self.world.domain.scheduler().table().scheduler();
        let this = scheduler.current();
        assert_eq!(
            scheduler.priority(this),
            scheduler.own_priority(this),
            "INV-DI-12: a loan outlives its section"
        );
    }

    /// What everybody may rely on from the call of finish on.
    fn finishing(&self) {
        let mut oracle = self.world.oracle();
        oracle.doing[self.number] = Doing::Changing;
        oracle.owed.iter_mut().for_each(|owed| owed.retain(|&thread| thread != self.number));
    }

    fn finish(&self) {
        self.finishing();
        self.participant().finish_raw();
        self.has_no_loan();
        self.world.oracle().doing[self.number] = Doing::Idle;
        self.world.check();
    }

    /// A wait of any kind, which says whether it is over. A `patient` one may not say no.
    fn wait(&self, page: usize, patient: bool, wait: impl FnOnce(&Participant<S>, &GenerationWord) -> bool) {
        let word = &self.world.pages[page].word;
        let target = word.get();
        let mut oracle = self.world.oracle();
        oracle.waits += 1;
        let owed: Vec<_> = oracle.owed[page].iter().map(|&thread| (thread, oracle.doing[thread])).collect();
        let busy = oracle.others_busy(self.number) || oracle.doing[self.number] != Doing::Idle;
        let beginning = oracle.beginning;
        drop(oracle);
        if wait(self.participant(), word) {
            assert!(self.world.domain.watermark() >= target, "over before the watermark was there");
            let oracle = self.world.oracle();
            for (thread, doing) in owed {
                assert!(
                    oracle.doing[thread] != doing,
                    "INV-DI-5: over while {doing:?} of thread {thread}, which marked the word before, goes on"
                );
            }
        } else {
            assert!(!patient, "a wait without a limit gave up");
            // A section that begins meanwhile may mark the word, or share the generation that is asked for.
            let concerned = word.get() != target || !self.world.issues_each_once();
            let meanwhile = concerned && self.world.oracle().beginning > beginning;
            assert!(busy || meanwhile, "not complete, and nobody has a section that it could wait for");
        }
        self.world.check();
    }

    fn wait_until(&self, page: usize, points: u64) {
        let steps = self.world.domain.scheduler().table().scheduler();
        let deadline = steps.after(points).expect("not for ever");
        self.wait(page, false, |participant, word| {
            let over = participant.wait_timeout(word, points);
            assert!(over || steps.is_past(deadline), "gave up before its time");
            over
        });
    }

    fn wait_for_ever(&self, page: usize) {
        self.wait(page, true, |participant, word| {
            participant.wait(word);
            true
        });
    }

    fn join(&mut self) {
        self.participant = Some(self.world.domain.join());
    }

    fn leave(&mut self) {
        let open = self.in_section();
        if open {
            self.finishing();
        }
        drop(self.participant.take());
        self.has_no_loan();
        let mut oracle = self.world.oracle();
        oracle.forgotten += u64::from(open);
        oracle.doing[self.number] = Doing::Idle;
    }

    fn act(&mut self, byte: u8) {
        let page = usize::from(byte) % WORDS;
        let kind = usize::from(byte) / WORDS % 10;
        match (self.in_section(), kind) {
            (false, 0..=3) => self.begin(),
            (false, 4 | 5) => self.wait_for_ever(page),
            (false, 6) | (true, 0) => self.wait(page, false, Participant::try_wait),
            (false, 7) => self.wait_until(page, u64::from(byte) / 2),
            (_, 8) => {
                self.leave();
                self.join();
            }
            (false, _) => {
                self.begin();
                self.mark(page);
            }
            (true, 1..=4) => self.mark(page),
            (true, _) => self.finish(),
        }
    }
}
