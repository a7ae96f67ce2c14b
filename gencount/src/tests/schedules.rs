//! Thousands of interleavings of begin, mark, finish and wait, chosen by seed; and the same with a step left out, which
//! must be noticed.
//!
//! Every run checks the contract: a wait returns only when all sections that had marked the word before it was called
//! have called finish (INV-DI-1); and progress: no thread stays parked (INV-DI-8).

use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use crate::tests::Fault;
use crate::tests::steps::{Outcome, Steps, Table};
use crate::waiting::Helper;
use crate::{Counters, Domain, GenerationWord, Implementation, Participant, PiTurnstiles};

type Steady = Domain<Arc<Table>>;

fn domain(implementation: Implementation, fault: Fault, steps: &Arc<Steps>) -> Arc<Steady> {
    let mut domain = Domain::new(implementation, steps.table());
    domain.common.fault = fault;
    Arc::new(domain)
}

/// A word, and the sections that marked it and have not called finish yet: a name of their own each, for they can share
/// a generation, and the generation.
#[derive(Default)]
struct Page {
    word: GenerationWord,
    unfinished: Mutex<Vec<(u64, u64)>>,
}

/// One section that marks the pages, in the order given.
fn work(participant: &Participant<Arc<Table>>, name: u64, pages: &[&Page]) {
    let section = participant.begin();
    for page in pages {
        section.mark(&page.word);
        page.unfinished.lock().unwrap().push((name, section.generation()));
        participant.domain().common.point();
        assert!(participant.domain().watermark() < section.generation());
    }
    for page in pages {
        page.unfinished.lock().unwrap().retain(|&(other, _)| other != name);
    }
    drop(section);
}

/// A wait, with the contract's check.
fn wait(participant: &Participant<Arc<Table>>, page: &Page) {
    let marked = page.unfinished.lock().unwrap().clone();
    participant.wait(&page.word);
    let unfinished = page.unfinished.lock().unwrap();
    for (name, generation) in marked {
        assert!(
            !unfinished.contains(&(name, generation)),
            "wait returned before section {name} of generation {generation} had called finish"
        );
        assert!(participant.domain().watermark() >= generation);
    }
}

/// Two threads that open sections on two pages, and two that wait for the pages, one of which opens sections too.
fn mixed(implementation: Implementation, fault: Fault, seed: u64) -> (Outcome, Counters) {
    let steps = Steps::new(seed, 4);
    let domain = domain(implementation, fault, &steps);
    let pages: Arc<[Page; 2]> = Arc::default();
    let mut bodies: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for thread in 0..2 {
        let (domain, pages) = (domain.clone(), pages.clone());
        bodies.push(Box::new(move || {
            let participant = domain.join();
            for round in 0..2 {
                let name = 2 * thread + round;
                work(&participant, name as u64, &[&pages[(thread + round) % 2], &pages[thread]]);
            }
        }));
    }
    {
        let (domain, pages) = (domain.clone(), pages.clone());
        bodies.push(Box::new(move || {
            let participant = domain.join();
            for page in pages.iter() {
                wait(&participant, page);
            }
        }));
    }
    {
        let (domain, pages) = (domain.clone(), pages.clone());
        bodies.push(Box::new(move || {
            let participant = domain.join();
            work(&participant, 4, &[&pages[0]]);
            wait(&participant, &pages[1]);
            wait(&participant, &pages[0]);
        }));
    }
    let outcome = steps.run(bodies);
    let counters = domain.counters();
    if !outcome.stuck {
        assert_eq!(counters.di_blocks, 5);
        assert_eq!(counters.di_wait_calls, 4);
        assert!(counters.invl_wait_slow <= counters.invl_wait && counters.invl_wait <= 4);
        if implementation == Implementation::Sharded {
            assert_eq!(counters.invl_max_qlen, 0);
            // The clock moves at most once for each wait.
            assert!(domain.watermark() <= 4);
        } else {
            assert!((1..=5).contains(&counters.invl_max_qlen), "{counters:?}");
            assert_eq!(domain.watermark(), 5);
        }
        assert!(pages.iter().all(|page| domain.is_complete(&page.word)));
    }
    (outcome, counters)
}

#[test]
fn every_schedule_keeps_the_contract() {
    for implementation in Implementation::ALL {
        let mut sum = Counters::default();
        for seed in 0..1000 {
            let (outcome, counters) = std::panic::catch_unwind(|| mixed(implementation, Fault::None, seed))
                .unwrap_or_else(|panic| {
                    std::eprintln!("failed with {implementation} and seed {seed}");
                    std::panic::resume_unwind(panic)
                });
            assert!(!outcome.stuck, "a thread is stuck with {implementation} and seed {seed}");
            sum += counters;
        }
        // The schedules reach what they are meant to reach.
        assert!(sum.invl_wait_slow > 50, "{implementation}: {sum:?}");
        assert!(sum.invl_wait > sum.invl_wait_slow, "{implementation}: {sum:?}");
        if implementation == Implementation::Lockfree {
            assert!(sum.invl_start_restart > 100 && sum.invl_finish_restart > 100, "{sum:?}");
        }
    }
}

/// A failing seed can be run again: it fails again.
#[test]
fn a_seed_decides_everything() {
    for implementation in Implementation::ALL {
        for seed in 0..30 {
            assert_eq!(
                mixed(implementation, Fault::NoRecheck, seed),
                mixed(implementation, Fault::NoRecheck, seed),
                "{implementation}, seed {seed}"
            );
        }
    }
}

/// Whether some schedule gets stuck with the fault.
fn gets_stuck(implementation: Implementation, fault: Fault) -> bool {
    (0..500).any(|seed| mixed(implementation, fault, seed).0.stuck)
}

#[test]
fn without_the_recheck_a_waiter_sleeps_for_ever() {
    for implementation in Implementation::ALL {
        assert!(gets_stuck(implementation, Fault::NoRecheck), "{implementation}");
    }
}

#[test]
fn without_registration_a_waiter_sleeps_for_ever() {
    for implementation in Implementation::ALL {
        assert!(gets_stuck(implementation, Fault::WaiterUnregistered), "{implementation}");
    }
}

#[test]
fn without_the_look_at_the_waiter_count_a_waiter_sleeps_for_ever() {
    for implementation in Implementation::ALL {
        assert!(gets_stuck(implementation, Fault::FinishBlind), "{implementation}");
    }
}

#[test]
fn without_the_settling_of_a_finish_a_waiter_sleeps_for_ever() {
    assert!(gets_stuck(Implementation::Sharded, Fault::FinishDoesNotSettle));
}

/// Whether some schedule of `sharded` breaks the contract with the fault.
fn breaks_the_contract(fault: Fault) -> bool {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let broken = (0..500)
        .any(|seed| std::panic::catch_unwind(|| mixed(Implementation::Sharded, fault, seed)).is_err());
    std::panic::set_hook(hook);
    broken
}

#[test]
fn without_the_second_reading_the_watermark_passes_an_open_section() {
    assert!(breaks_the_contract(Fault::FirstReading));
}

#[test]
fn without_raising_the_clock_the_watermark_passes_an_open_section() {
    assert!(breaks_the_contract(Fault::NotRaised));
}

/// How many points a finish passes when nobody disturbs it: from the one before the mark to the one before the look at
/// the waiter count.
fn points_of_finish() -> u64 {
    let steps = Steps::new(1, 1);
    let domain = domain(Implementation::Lockfree, Fault::None, &steps);
    let passed = Arc::new(Mutex::new(0));
    {
        let (steps, passed) = (steps.clone(), passed.clone());
        let _ = steps.clone().run(std::vec![Box::new(move || {
            let participant = domain.join();
            participant.begin_raw();
            let begun = steps.points(0);
            participant.finish_raw();
            *passed.lock().unwrap() = steps.points(0) - begun;
        })]);
    }
    let passed = *passed.lock().unwrap();
    assert!(passed > 4);
    passed
}

/// When the first thread of [`frozen`] calls finish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Waiter {
    /// At any time.
    Anywhere,
    /// When the waiter is parked.
    Parked,
}

/// What the threads of a scene do.
type Bodies = Vec<Box<dyn FnOnce() + Send>>;

/// The first two threads of a scene with three: the first is frozen at the `point`-th scheduling point of its finish,
/// while the second waits for its section, which has marked the page.
fn frozen_and_waiter(
    fault: Fault,
    waiter: Waiter,
    seed: u64,
    point: u64,
) -> (Arc<Steps>, Arc<Steady>, Arc<Page>, Bodies) {
    let steps = Steps::new(seed, 3);
    let domain = domain(Implementation::Lockfree, fault, &steps);
    let page = Arc::new(Page::default());
    let mut bodies: Bodies = Vec::new();
    {
        let (domain, page, steps) = (domain.clone(), page.clone(), steps.clone());
        bodies.push(Box::new(move || {
            let participant = domain.join();
            page.word.raise(participant.begin_raw());
            while waiter == Waiter::Parked && domain.common.parked() == 0 {
                domain.common.point();
            }
            steps.freeze(0, steps.points(0) + point);
            participant.finish_raw();
        }));
    }
    {
        let (domain, page) = (domain.clone(), page.clone());
        bodies.push(Box::new(move || {
            let participant = domain.join();
            while page.word.get() == 0 {
                domain.common.point();
            }
            participant.wait(&page.word);
        }));
    }
    (steps, domain, page, bodies)
}

/// The first thread is frozen at the `point`-th scheduling point of its finish, while the second waits for its section;
/// once it is frozen, the third thread opens a section of its own.
fn frozen(fault: Fault, waiter: Waiter, seed: u64, point: u64) -> Outcome {
    let (steps, domain, _, mut bodies) = frozen_and_waiter(fault, waiter, seed, point);
    {
        let steps = steps.clone();
        bodies.push(Box::new(move || {
            let participant = domain.join();
            while !steps.has_frozen() {
                domain.common.point();
            }
            // Its finish would look at the waiter count in any case: only begin.
            participant.begin_raw();
            core::mem::forget(participant);
        }));
    }
    let outcome = steps.run(bodies);
    assert!(outcome.frozen && !outcome.stuck);
    outcome
}

/// A thread that stops for ever between the mark and the unlink holds nobody up, not even those who wait for it.
#[test]
fn a_stopped_finish_holds_nobody_up() {
    let last = points_of_finish();
    for waiter in [Waiter::Anywhere, Waiter::Parked] {
        // Before the mark the section is open, and whoever waits for it must wait.
        assert!((0..10).all(|seed| frozen(Fault::None, waiter, seed, 1).stuck_behind_frozen));
        for point in 2..last {
            for seed in 0..20 {
                let outcome = frozen(Fault::None, waiter, seed, point);
                assert!(!outcome.stuck_behind_frozen, "stopped at point {point} of {last}, seed {seed}");
            }
        }
    }
}

#[test]
fn without_the_helpers_look_a_stopped_finish_holds_its_waiters_up() {
    let fault = Fault::HelperBlind(Helper::Begin);
    assert!((0..10).all(|seed| frozen(fault, Waiter::Parked, seed, 2).stuck_behind_frozen));
}

/// The first thread is frozen between mark and unlink while the second is parked on its section; the third, a second
/// waiter, is the only one that can complete the removal. If `early`, it starts to wait before the freeze.
fn frozen_with_two_waiters(fault: Fault, early: bool, seed: u64) -> Outcome {
    // The second point is the one after the mark.
    let (steps, domain, page, mut bodies) = frozen_and_waiter(fault, Waiter::Parked, seed, 2);
    {
        let steps = steps.clone();
        bodies.push(Box::new(move || {
            let participant = domain.join();
            while domain.common.parked() == 0 || !(early || steps.has_frozen()) {
                domain.common.point();
            }
            participant.wait(&page.word);
        }));
    }
    steps.run(bodies)
}

#[test]
fn each_walk_of_a_waiter_wakes_those_whom_it_lets_go() {
    let stopped = |fault, early, seed| {
        let outcome = frozen_with_two_waiters(fault, early, seed);
        assert!(!outcome.stuck, "early: {early}, seed {seed}");
        outcome.stuck_behind_frozen
    };
    assert!((0..300).all(|seed| !stopped(Fault::None, false, seed)));
    // If both are parked before the freeze, they wait for the last look of the one that is frozen, as documented. The
    // same schedule up to the missing look tells whether it was that.
    let blind = |helper, early| {
        let fault = Fault::HelperBlind(helper);
        (0..300).any(|seed| stopped(fault, early, seed) && !stopped(Fault::None, early, seed))
    };
    assert!(blind(Helper::FirstWalk, false), "the first walk need not look, it seems");
    assert!(blind(Helper::Recheck, true), "the walk under the table's lock need not look, it seems");
}

/// A begin inside a begin of the same thread, as by an interrupt handler, is refused before it touches the queue.
#[test]
fn a_second_begin_of_the_same_thread_is_refused_half_way_through_the_first() {
    use core::cell::{Cell, RefCell};

    std::thread_local! {
        static ARMED: Cell<bool> = const { Cell::new(false) };
        static AGAIN: RefCell<Option<Arc<Participant<PiTurnstiles<Reentrant>>>>> = const { RefCell::new(None) };
    }
    struct Reentrant;
    // SAFETY: all calls go to `Hosted`. `point` breaks rule 3 on purpose, and expects to be refused.
    unsafe impl turnstile::Scheduler for Reentrant {
        type RawLock = <turnstile::Hosted as turnstile::Scheduler>::RawLock;

        fn current(&self) -> crate::ThreadId {
            turnstile::Hosted.current()
        }

        fn priority(&self, thread: crate::ThreadId) -> crate::Priority {
            turnstile::Hosted.priority(thread)
        }

        fn park(&self) {
            turnstile::Hosted.park();
        }

        fn unpark(&self, thread: crate::ThreadId) {
            turnstile::Hosted.unpark(thread);
        }

        fn point(&self) {
            if ARMED.replace(false) {
                let refused = AGAIN.with_borrow(|again| {
                    let again = again.clone().unwrap();
                    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| again.begin_raw())).is_err()
                });
                assert!(refused, "a second section was opened in the same slot");
            }
        }
    }
    // SAFETY: all calls go to `Hosted`.
    unsafe impl turnstile::LendingScheduler for Reentrant {
        fn own_priority(&self, thread: crate::ThreadId) -> crate::Priority {
            turnstile::Hosted.own_priority(thread)
        }

        fn lend(&self, thread: crate::ThreadId, priority: crate::Priority) {
            turnstile::Hosted.lend(thread, priority);
        }

        fn unlend(&self, thread: crate::ThreadId) {
            turnstile::Hosted.unlend(thread);
        }
    }
    for implementation in Implementation::ALL {
        let domain = Arc::new(Domain::new(implementation, PiTurnstiles::new(Reentrant)));
        let participant = Arc::new(domain.join());
        AGAIN.set(Some(participant.clone()));
        ARMED.set(true);
        participant.begin_raw();
        assert!(!ARMED.replace(true), "no point was reached");
        participant.finish_raw();
        assert!(!ARMED.get(), "no point was reached");
        AGAIN.set(None);
        assert_eq!(domain.counters().di_blocks, 1);
    }
}
