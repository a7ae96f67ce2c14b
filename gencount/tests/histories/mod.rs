//! Whole lifetimes of participants, and the schedule of their single steps, out of a string of bytes: for the property tests and
//! for the fuzz target. The scheduler of `steps` takes the order of three threads' steps from the bytes, so a run repeats and shrinks.
//!
//! The first bytes choose the implementation and say how many operations there are, the next are the threads' programs and
//! priorities, the rest is the schedule.

use std::boxed::Box;
use std::sync::Arc;
use std::vec::Vec;

use gencount::{Domain, Implementation, Priority};

use super::steps::{Steps, Table};
use super::world::World;

const THREADS: usize = 3;
/// Operations of a thread at most.
const OPERATIONS: usize = 12;

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
    let world = Arc::new(World::new(make(implementation, steps.table()), THREADS));
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
            Box::new(move || world.run(number, &program))
        })
        .collect();
    let outcome = steps.run(bodies);
    assert!(!outcome.stuck, "INV-DI-8: with {implementation} a thread waits for ever");

    world.at_the_end();
    for thread in 0..THREADS {
        assert_eq!(steps.loan(thread), None, "thread {thread} has kept a loan");
    }
}
