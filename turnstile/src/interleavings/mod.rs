//! The locks and the tables under two checkers of interleavings: loom, every execution of two and three threads (with at most so many
//! preemptions as each test says) under the memory model, and shuttle, random and PCT schedules of up to six threads.
//!
//! `.ci/loom` and `.ci/shuttle` run it: `RUSTFLAGS="--cfg turnstile_loom" cargo test --release -p pi-turnstile --no-default-features --lib`, and
//! the same with `turnstile_shuttle`. A lost wake-up shows as a deadlock, which both checkers report. Beside the tests of a protocol stands
//! one that leaves a step of it out, and which must fail.
//!
//! # What loom cannot see
//!
//! * It does not let a load see a store that is later in the modification order than what a thread has stored itself (load buffering), and
//!   it bounds how old the values are that a load may see.
//! * More than the bounded number of preemptions, and more than three threads.
//!
//! # What shuttle cannot see
//!
//! * Weak memory: it is sequentially consistent.
//! * Everything: it samples.
//!
//! # What neither can see
//!
//! * The scheduler: tokens and the table's lock are the checker's mutexes and condition variables here (`scheduler`), so the parkers of
//!   `hosted` and `linux`, and their locks, are not checked here. Time is: a deadline passes whenever the checker likes.
//! * Many rounds of spinning: a thread hopes once for a free lock here, not seven times.

mod mutex;
mod rwlock;
mod scheduler;
mod tables;

#[cfg(turnstile_loom)]
use loom as checker;
#[cfg(turnstile_shuttle)]
use shuttle as checker;

use std::cell::UnsafeCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::String;
use std::sync::Arc;
use std::vec::Vec;

use crate::fault::{Fault, without};

/// Runs `body` in every execution with so many preemptions.
#[cfg(turnstile_loom)]
fn explore(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(preemptions));
    builder.max_branches = 20_000;
    builder.check(move || scheduler::execution(&body));
}

/// Runs `body` in `SHUTTLE_ITERATIONS` (default 3000) schedules of each kind.
#[cfg(turnstile_shuttle)]
fn explore(_: usize, body: impl Fn() + Send + Sync + 'static) {
    let iterations = std::env::var("SHUTTLE_ITERATIONS")
        .map_or(3000, |number| number.parse().expect("SHUTTLE_ITERATIONS is a number"));
    let body = Arc::new(move || scheduler::execution(&body));
    let again = || {
        let body = body.clone();
        move || body()
    };
    shuttle::check_random(again(), iterations);
    shuttle::check_pct(again(), iterations, 3);
    shuttle::check_pct(again(), iterations, 5);
}

/// Some execution of `body` fails with the step left out, and says so. (Loom's failures do not always get as far as a sentence of the test's.)
fn noticed(fault: Fault, says: &str, preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
    let traced = std::env::var("RUST_BACKTRACE").is_ok_and(|value| value != "0");
    assert!(
        !(cfg!(turnstile_loom) && traced),
        "loom's stacks are too small for backtraces: set RUST_BACKTRACE=0"
    );
    let result = catch_unwind(AssertUnwindSafe(|| without(fault, || explore(preemptions, body))));
    let Err(panic) = result else { panic!("{fault:?} was not noticed") };
    let said =
        panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    std::println!("{fault:?}: {}", said.unwrap_or("failed"));
    assert!(cfg!(turnstile_loom) || said.is_some_and(|said| said.contains(says)), "noticed as {said:?}");
}

/// A lock, what it protects, and the ways in and out that threads use.
trait Subject: Send + Sync + 'static {
    type Way: Copy + Sync + 'static;

    /// The way of the thread that comes when all others have gone.
    const LAST: Self::Way;

    fn new() -> Self;
    fn is_locked(&self) -> bool;
    fn use_once(&self, way: Self::Way);
}

fn fresh<L: Subject>() -> Arc<L> {
    let subject = L::new();
    // Makes the word, which loom wants done before threads use it.
    assert!(!subject.is_locked());
    Arc::new(subject)
}

/// Threads of these priorities, each with its ways, beside the main one, which has priority 1.
fn contend_for<L: Subject>(
    threads: &'static [(u8, &'static [L::Way])],
    mine: &'static [L::Way],
) -> impl Fn() + Send + Sync + 'static {
    move || {
        let subject = fresh::<L>();
        let others: Vec<_> = threads
            .iter()
            .map(|(own, ways)| {
                let subject = subject.clone();
                scheduler::spawn(*own, move || ways.iter().for_each(|way| subject.use_once(*way)))
            })
            .collect();
        mine.iter().for_each(|way| subject.use_once(*way));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(!subject.is_locked(), "nobody is inside any more");
        // A bit that is left over costs the next one a way through the table, and goes.
        subject.use_once(L::LAST);
    }
}

/// What a lock protects: a number that is not atomic, so that loom sees unordered accesses, and a scheduling point between its halves,
/// so that shuttle sees threads inside together.
#[derive(Default)]
struct Guarded {
    #[cfg(turnstile_loom)]
    checked: loom::cell::UnsafeCell<u64>,
    inside: UnsafeCell<(usize, usize)>,
}

// SAFETY: the checkers run one thread at a time; `inside` is not accessed across a switch.
unsafe impl Sync for Guarded {}

impl Guarded {
    /// Alone, or the test fails.
    fn write(&self) {
        // SAFETY: see `Sync`.
        let inside = unsafe { &mut *self.inside.get() };
        assert_eq!(*inside, (0, 0), "a writer is not alone");
        inside.1 = 1;
        #[cfg(turnstile_loom)]
        // SAFETY: loom checks that nobody else accesses it.
        self.checked.with_mut(|count| unsafe { *count += 1 });
        checker::thread::yield_now();
        // SAFETY: see `Sync`.
        unsafe { &mut *self.inside.get() }.1 = 0;
    }

    /// Together with other readers, or the test fails.
    fn read(&self) {
        // SAFETY: see `Sync`.
        let inside = unsafe { &mut *self.inside.get() };
        assert_eq!(inside.1, 0, "a reader beside a writer");
        inside.0 += 1;
        #[cfg(turnstile_loom)]
        // SAFETY: loom checks that nobody writes it.
        self.checked.with(|count| unsafe { core::ptr::read(count) });
        checker::thread::yield_now();
        // SAFETY: see `Sync`.
        unsafe { &mut *self.inside.get() }.0 -= 1;
    }
}
