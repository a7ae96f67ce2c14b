//! Whole lifetimes of participants, and the schedule of their single steps, out of a string of bytes: for the property tests and
//! for the fuzz target.
//!
//! Three threads join, open sections, mark, finish, wait, wait with a time limit, ask, leave and join again, in an order that the
//! scheduler of `steps` takes from the bytes; so a run repeats and shrinks. What is promised is checked at every point that any
//! thread passes, and what each operation promises at its end.
//!
//! The first bytes choose the implementation and say how many operations there are, the next are the threads' priorities and
//! programs, the rest is the schedule.

use std::boxed::Box;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use gencount::{Domain, GenerationWord, Implementation, Participant, Priority};

use super::steps::{Steps, Table};

const THREADS: usize = 3;
const WORDS: usize = 2;
/// Operations of a thread at most.
const OPERATIONS: usize = 12;

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
    doing: [Doing; THREADS],
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
        (0..THREADS).any(|other| other != thread && self.doing[other] != Doing::Idle)
    }
}

/// One run.
struct World {
    domain: Arc<Domain<Arc<Table>>>,
    steps: Arc<Steps>,
    words: [GenerationWord; WORDS],
    oracle: Mutex<Oracle>,
}

impl World {
    fn oracle(&self) -> MutexGuard<'_, Oracle> {
        self.oracle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// INV-DI-1 of this moment, and that the watermark never goes down.
    fn check(&self) {
        let watermark = self.domain.watermark();
        let mut oracle = self.oracle();
        assert!(watermark >= oracle.watermark, "the watermark went down to {watermark}");
        oracle.watermark = watermark;
        for doing in oracle.doing {
            if let Doing::Section { generation, .. } = doing {
                assert!(watermark < generation, "INV-DI-1: {watermark} passed the open section {generation}");
            }
        }
    }

    /// Whether generations are issued one by one.
    fn issues_each_once(&self) -> bool {
        self.domain.implementation() != Implementation::Sharded
    }
}

/// One thread of a run.
struct Thread<'w> {
    world: &'w World,
    number: usize,
    participant: Option<Participant<Arc<Table>>>,
}

impl Thread<'_> {
    fn participant(&self) -> &Participant<Arc<Table>> {
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

    /// No point lies inside, so the baton stands in for the word's lock.
    fn mark(&self, word: usize) {
        self.participant().mark(&self.world.words[word]);
        let mut oracle = self.world.oracle();
        if let Doing::Section { generation, .. } = oracle.doing[self.number] {
            assert!(self.world.words[word].get() >= generation, "INV-DI-4");
            oracle.owed[word].push(self.number);
        }
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
        self.world.oracle().doing[self.number] = Doing::Idle;
        self.world.check();
    }

    /// A wait of any kind, which says whether it is over. A `patient` one may not say no.
    fn wait(
        &self,
        word: usize,
        patient: bool,
        wait: impl FnOnce(&Participant<Arc<Table>>, &GenerationWord) -> bool,
    ) {
        let mut oracle = self.world.oracle();
        oracle.waits += 1;
        let owed: Vec<_> = oracle.owed[word].iter().map(|&thread| (thread, oracle.doing[thread])).collect();
        let busy = oracle.others_busy(self.number) || oracle.doing[self.number] != Doing::Idle;
        let beginning = oracle.beginning;
        drop(oracle);
        let target = self.world.words[word].get();
        if wait(self.participant(), &self.world.words[word]) {
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
            // A section that begins meanwhile may share the generation that is asked for.
            let shared = !self.world.issues_each_once() && self.world.oracle().beginning > beginning;
            assert!(busy || shared, "not complete, and nobody has a section that it could wait for");
        }
        self.world.check();
    }

    fn wait_until(&self, word: usize, points: u64) {
        use turnstile::TimedScheduler;

        let steps = &self.world.steps;
        let deadline = steps.after(points).expect("not for ever");
        self.wait(word, false, |participant, word| {
            let over = participant.wait_timeout(word, points);
            assert!(over || steps.is_past(deadline), "gave up before its time");
            over
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
        let mut oracle = self.world.oracle();
        oracle.forgotten += u64::from(open);
        oracle.doing[self.number] = Doing::Idle;
    }

    fn act(&mut self, byte: u8) {
        let word = usize::from(byte) % WORDS;
        let kind = usize::from(byte) / WORDS % 10;
        match (self.in_section(), kind) {
            (false, 0..=3) => self.begin(),
            (false, 4 | 5) => self.wait(word, true, |participant, word| {
                participant.wait(word);
                true
            }),
            (false, 6) | (true, 0) => self.wait(word, false, Participant::try_wait),
            (false, 7) => self.wait_until(word, u64::from(byte) / 2),
            (_, 8) => {
                self.leave();
                self.join();
            }
            (false, _) => {
                self.begin();
                self.mark(word);
            }
            (true, 1..=4) => self.mark(word),
            (true, _) => self.finish(),
        }
    }

    /// Runs a program; then waits for everything, and leaves.
    fn run(&mut self, program: &[u8]) {
        self.join();
        for &byte in program {
            self.act(byte);
        }
        if self.in_section() {
            self.finish();
        }
        for word in 0..WORDS {
            self.act(4 * WORDS as u8 + word as u8);
        }
        self.leave();
    }
}

/// Runs what the bytes say in a domain that `make` makes.
///
/// # Panics
///
/// If the domain breaks a promise.
pub(super) fn run(bytes: &[u8], make: impl FnOnce(Implementation, Arc<Table>) -> Domain<Arc<Table>>) {
    let [implementation, operations, bytes @ ..] = bytes else { return };
    let implementation = Implementation::ALL[usize::from(*implementation) % Implementation::ALL.len()];
    let operations = usize::from(*operations) % OPERATIONS + 1;
    let (programs, schedule) = bytes.split_at(bytes.len().min((operations + 1) * THREADS));

    let steps = Steps::of_bytes(schedule, THREADS);
    let world = Arc::new(World {
        domain: Arc::new(make(implementation, steps.table())),
        steps: Arc::clone(&steps),
        words: Default::default(),
        oracle: Mutex::new(Oracle {
            doing: [Doing::Idle; THREADS],
            owed: Default::default(),
            issued: BTreeSet::new(),
            beginning: 0,
            begun: 0,
            waits: 0,
            forgotten: 0,
            watermark: 0,
        }),
    });
    // The scheduler must not keep the world alive, which keeps the scheduler alive.
    let weak = Arc::downgrade(&world);
    steps.check_at_points(move || weak.upgrade().expect("the threads have it").check());
    let bodies = (0..THREADS)
        .map(|number| -> Box<dyn FnOnce() + Send> {
            let world = Arc::clone(&world);
            let mut program: Vec<u8> =
                programs.iter().copied().skip(number * (operations + 1)).take(operations + 1).collect();
            if let Some(priority) = program.pop() {
                steps.set_own_priority(number, Priority::new(priority));
            }
            Box::new(move || Thread { world: &world, number, participant: None }.run(&program))
        })
        .collect();
    let outcome = steps.run(bodies);
    assert!(!outcome.stuck, "INV-DI-8: with {implementation} a thread waits for ever");

    world.check();
    let oracle = world.oracle();
    let counters = world.domain.counters();
    assert_eq!((counters.di_blocks, counters.di_forgotten), (oracle.begun, oracle.forgotten));
    assert_eq!(counters.di_wait_calls, oracle.waits);
    assert!(counters.invl_wait_slow <= counters.invl_wait && counters.invl_wait <= oracle.waits);
    assert!(world.words.iter().all(|word| world.domain.is_complete(word)));
    if world.issues_each_once() {
        assert_eq!(oracle.issued, (1..=oracle.begun).collect(), "INV-DI-3");
        assert_eq!(world.domain.watermark(), oracle.begun, "INV-DI-3");
    }
    for thread in 0..THREADS {
        assert_eq!(steps.loan(thread), None, "thread {thread} has kept a loan");
    }
}
