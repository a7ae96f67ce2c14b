//! Tests that whoever writes a scheduler, or a parker, can run on it. Each panics and says which rule is broken.
//!
//! They need an allocator, so they come with feature `conformance`, which `std` includes: a kernel can run them on its own threads, and
//! so can a test of it that is built for the host. What they cannot see: reorderings that the machine does not make, and wake-ups
//! that are lost once in a million.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::num::NonZeroUsize;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use core::sync::atomic::{AtomicBool, AtomicUsize};
#[cfg(feature = "std")]
use std::time::{Duration, Instant};

use lock_api::RawMutex as _;

#[cfg(feature = "std")]
use crate::Parker;
use crate::{LendingScheduler, Priority, Scheduler, ThreadId, TimedScheduler};

/// How often what could go wrong is tried.
const ROUNDS: usize = 2000;

/// What a thread of the scheduler under test is to do.
pub type Body = Box<dyn FnOnce() + Send>;

/// The rules of [`Parker`].
///
/// ```
/// turnstile::conformance::parker::<turnstile::HostedParker>();
/// ```
///
/// # Panics
///
/// If a rule is broken.
#[cfg(feature = "std")]
pub fn parker<P: Parker<Instant = Instant> + 'static>() {
    let soon = || Instant::now() + Duration::from_millis(20);
    let late = || Instant::now() + Duration::from_secs(20);

    let one = P::NEW;
    one.unpark();
    one.unpark();
    let start = Instant::now();
    one.park_until(late());
    assert!(start.elapsed() < Duration::from_secs(10), "rule 1: a token left before the park is lost");
    // What is left over at most once is a token too many, or a return for no reason.
    let returns = (0..100).take_while(|_| {
        let deadline = soon();
        one.park_until(deadline);
        Instant::now() < deadline
    });
    assert!(returns.count() < 100, "rule 1: the token is not taken");

    // Two threads hand a number to and fro; each sleeps until it is its turn.
    let pair = Arc::new(([P::NEW, P::NEW], AtomicUsize::new(0)));
    let play = |me: usize| {
        let pair = pair.clone();
        move || {
            for round in 0..ROUNDS {
                // ORD: Relaxed: that the token orders it is rule 2.
                while pair.1.load(Relaxed) != 2 * round + me {
                    let deadline = late();
                    pair.0[me].park_until(deadline);
                    assert!(Instant::now() < deadline, "rule 1: a wake-up is lost");
                }
                pair.1.fetch_add(1, Relaxed);
                pair.0[1 - me].unpark();
            }
        }
    };
    let other = std::thread::spawn(play(1));
    play(0)();
    if let Err(panic) = other.join() {
        std::panic::resume_unwind(panic);
    }
}

/// The rules of [`Scheduler`]. `run` runs each body as a thread of the scheduler's, all at the same time, and returns when
/// all have ended; a panic in one of them it lets out.
///
/// ```
/// use turnstile::{Hosted, conformance};
///
/// conformance::scheduler(Hosted, |bodies| {
///     let threads: Vec<_> = bodies.into_iter().map(std::thread::spawn).collect();
///     threads.into_iter().for_each(|thread| thread.join().unwrap());
/// });
/// ```
///
/// # Panics
///
/// If a rule is broken.
pub fn scheduler<S: Scheduler + Clone + 'static>(scheduler: S, run: impl Fn(Vec<Body>)) {
    ids(&scheduler, &run);
    raw_lock(&scheduler, &run);
    tokens(&scheduler, &run);
}

/// Threads by their place among those that run together; 0 as long as a place is free.
struct Ids<const N: usize>([AtomicUsize; N]);

impl<const N: usize> Ids<N> {
    fn new() -> Arc<Self> {
        Arc::new(Self([const { AtomicUsize::new(0) }; N]))
    }

    fn set(&self, place: usize, id: ThreadId) {
        // ORD: Release pairs with the Acquire in `get`: what the thread did before is not asked for, and does no harm.
        self.0[place].store(id.get().get(), Release);
    }

    fn get(&self, place: usize) -> Option<ThreadId> {
        // ORD: Acquire pairs with the Release in `set`.
        NonZeroUsize::new(self.0[place].load(Acquire)).map(ThreadId::new)
    }

    fn all_are_known(&self) -> bool {
        (0..N).all(|place| self.get(place).is_some())
    }
}

/// Rule 1, and that a thread that has ended can be unparked and asked for its priority.
fn ids<S: Scheduler + Clone + 'static>(scheduler: &S, run: &impl Fn(Vec<Body>)) {
    let seen = Ids::<4>::new();
    let body = |place: usize| -> Body {
        let (scheduler, seen) = (scheduler.clone(), seen.clone());
        Box::new(move || {
            let me = scheduler.current();
            seen.set(place, me);
            // All four are alive together.
            while !seen.all_are_known() {
                scheduler.relax(100);
                assert_eq!(scheduler.current(), me, "rule 1: a thread's id changes");
            }
        })
    };
    run((0..4).map(body).collect());
    assert!(seen.all_are_known(), "`run` has to run every body");
    let mut ids: Vec<_> = (0..4).filter_map(|place| seen.get(place)).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), 4, "rule 1: two threads that are alive have one id");
    for id in ids {
        let _ = scheduler.priority(id);
        scheduler.unpark(id);
    }
}

struct Counted<L> {
    lock: L,
    count: UnsafeCell<usize>,
}

// SAFETY: `count` is touched under the lock only; whether that excludes is what is tested, on a number.
unsafe impl<L: Sync> Sync for Counted<L> {}

/// Rule 2.
fn raw_lock<S: Scheduler + Clone + 'static>(scheduler: &S, run: &impl Fn(Vec<Body>)) {
    let counted = Arc::new(Counted { lock: S::RawLock::INIT, count: UnsafeCell::new(0) });
    let guard = counted.lock.try_lock().expect("rule 2: `INIT` is not unlocked");
    assert!(counted.lock.try_lock().is_none(), "rule 2: it can be held twice");
    // SAFETY: locked above, by this thread.
    unsafe { counted.lock.unlock(guard) };
    let body = || -> Body {
        let (scheduler, counted) = (scheduler.clone(), counted.clone());
        Box::new(move || {
            for _ in 0..ROUNDS {
                let guard = counted.lock.lock();
                // SAFETY: under the lock. In two steps, so that two threads inside together would lose one.
                let count = unsafe { counted.count.get().read_volatile() };
                core::hint::spin_loop();
                // SAFETY: as above; and locked above.
                unsafe {
                    counted.count.get().write_volatile(count + 1);
                    counted.lock.unlock(guard);
                }
                scheduler.point();
            }
        })
    };
    run((0..3).map(|_| body()).collect());
    // SAFETY: nobody else is left.
    assert_eq!(unsafe { *counted.count.get() }, 3 * ROUNDS, "rule 2: the lock does not exclude");
}

/// Rules 5 and 6: threads in a ring hand a number on, each asleep until it is its turn.
fn tokens<S: Scheduler + Clone + 'static>(scheduler: &S, run: &impl Fn(Vec<Body>)) {
    const RING: usize = 3;
    let ids = Ids::<RING>::new();
    let turn = Arc::new(AtomicUsize::new(0));
    let body = |me: usize| -> Body {
        let (scheduler, ids, turn) = (scheduler.clone(), ids.clone(), turn.clone());
        Box::new(move || {
            ids.set(me, scheduler.current());
            while !ids.all_are_known() {
                scheduler.relax(100);
            }
            let next = ids.get((me + 1) % RING).expect("all are known");
            for round in 0..ROUNDS {
                // ORD: Relaxed: that the tokens order it is rule 6.
                while turn.load(Relaxed) != round * RING + me {
                    scheduler.park();
                }
                turn.fetch_add(1, Relaxed);
                scheduler.unpark(next);
                // Twice may count as once, and must not count as none.
                scheduler.unpark(next);
            }
        })
    };
    run((0..RING).map(body).collect());
    // ORD: Relaxed: the threads have ended.
    assert_eq!(turn.load(Relaxed), RING * ROUNDS, "rule 5: a thread has not returned from its park");
}

/// What is written for [`LendingScheduler`]: a loan replaces the one before, leaves the own priority alone, and goes. (The simulated
/// machine's, and everybody's but a real-time scheduler's that is to be asked under a table's lock.)
///
/// # Panics
///
/// If a rule is broken.
pub fn lending<S: LendingScheduler + Clone + 'static>(scheduler: S, run: impl Fn(Vec<Body>)) {
    let done = Arc::new(AtomicBool::new(false));
    let body: Body = Box::new({
        let done = done.clone();
        move || {
            let me = scheduler.current();
            let own = scheduler.own_priority(me);
            let expect = |loan: Option<Priority>| {
                assert_eq!(scheduler.own_priority(me), own, "a loan changes the own priority");
                let now = loan.map_or(own, |loan| loan.max(own));
                assert_eq!(scheduler.priority(me), now, "the priority is not the larger of own and lent");
                if scheduler.is_unsettled() {
                    scheduler.settle();
                }
                assert!(!scheduler.is_unsettled(), "a thread that has been lowered is not settled");
            };
            expect(None);
            for level in [1, 0, 2].map(|more| Priority::new(own.level().saturating_add(more))) {
                scheduler.lend(me, level);
                expect(Some(level));
            }
            scheduler.lend(me, Priority::LOWEST);
            expect(Some(Priority::LOWEST));
            for _ in 0..2 {
                scheduler.unlend(me);
                expect(None);
            }
            done.store(true, Relaxed); // ORD: read after the thread has ended
        }
    });
    run(Vec::from([body]));
    // ORD: Relaxed: the thread has ended.
    assert!(done.load(Relaxed), "`run` has to run every body");
}

/// What is written for [`TimedScheduler`]: a park ends at its deadline, or before it with a token. `moment` is a short time.
///
/// # Panics
///
/// If a rule is broken.
pub fn timed<S: TimedScheduler + Clone + 'static>(
    scheduler: S,
    moment: impl Fn() -> S::Duration + Send + 'static,
    run: impl Fn(Vec<Body>),
) {
    let done = Arc::new(AtomicBool::new(false));
    let body: Body = Box::new({
        let done = done.clone();
        move || {
            let deadline = scheduler.after(moment()).expect("a short time from now can be said");
            let mut returns = 0;
            while !scheduler.is_past(deadline) {
                returns += 1;
                assert!(returns < 10_000, "`park_until` returns at once, again and again");
                scheduler.park_until(deadline);
            }
            // Past it, and with a token, it returns at once: else this never ends.
            scheduler.park_until(deadline);
            scheduler.unpark(scheduler.current());
            scheduler.park();
            done.store(true, Relaxed); // ORD: read after the thread has ended
        }
    });
    run(Vec::from([body]));
    // ORD: Relaxed: the thread has ended.
    assert!(done.load(Relaxed), "`run` has to run every body");
}
