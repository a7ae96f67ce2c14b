//! The schedulers and parkers of this crate under the tests that others can run on theirs; and some that break a rule.
#![cfg(feature = "std")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use turnstile::conformance::{self, Body};
use turnstile::{Hosted, HostedParker, Parker, Priority, RawParkingMutex, Scheduler, ThreadId};

fn threads(bodies: Vec<Body>) {
    let threads: Vec<_> = bodies.into_iter().map(std::thread::spawn).collect();
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn hosted() {
    conformance::parker::<HostedParker>();
    conformance::scheduler(Hosted, threads);
    conformance::lending(Hosted, threads);
    conformance::timed(Hosted, || Duration::from_millis(5), threads);
}

#[cfg(all(feature = "linux-rt", target_os = "linux"))]
#[test]
fn linux() {
    conformance::parker::<turnstile::FutexParker>();
    match turnstile::LinuxRt::new() {
        Ok(real) => {
            conformance::scheduler(real, threads);
            conformance::lending(real, threads);
            conformance::timed(real, || Duration::from_millis(5), threads);
        }
        Err(missing) => println!("skipped: {missing}"),
    }
}

#[cfg(feature = "simulated")]
#[test]
fn simulated() {
    use std::sync::Arc;
    use turnstile::simulated::Machine;

    let machine = Arc::new(Machine::new());
    let run = |bodies: Vec<Body>| {
        for body in bodies {
            machine.spawn(Priority::NORMAL, body);
        }
        // In turn: among equals, the one that waits for the others would run for ever.
        let mut turn = 0;
        let result = machine.run_with(|ready| {
            turn += 1;
            ready[turn % ready.len()]
        });
        assert_eq!(result, Ok(()));
    };
    conformance::scheduler(machine.clone(), run);
    conformance::lending(machine.clone(), run);
    conformance::timed(machine.clone(), || 50, run);
}

/// A parker that is never without a token.
struct Sleepless(HostedParker);

impl Parker for Sleepless {
    type Instant = Instant;
    const NEW: Self = Self(HostedParker::NEW);

    fn park(&self) {}

    fn park_until(&self, _: Instant) {}

    fn unpark(&self) {
        self.0.unpark();
    }
}

/// A scheduler all of whose threads have one id.
#[derive(Clone)]
struct Nameless;

// SAFETY: it is not: rule 1 is broken, and no table uses it.
unsafe impl Scheduler for Nameless {
    type RawLock = RawParkingMutex;

    fn current(&self) -> ThreadId {
        ThreadId::new(std::num::NonZeroUsize::MIN)
    }

    fn priority(&self, _: ThreadId) -> Priority {
        Priority::NORMAL
    }

    fn park(&self) {
        std::thread::yield_now();
    }

    fn unpark(&self, _: ThreadId) {}
}

#[test]
fn broken_rules_are_noticed() {
    let says = |test: fn()| {
        let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("a rule is broken");
        let text = panic.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or_default().to_owned()
    };
    assert!(says(conformance::parker::<Sleepless>).contains("the token is not taken"));
    assert!(says(|| conformance::scheduler(Nameless, threads)).contains("have one id"));
}
