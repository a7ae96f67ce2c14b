//! Explicit-state check of the queue's algorithm: every reachable state of small configurations, every property.
//!
//! | file | has |
//! |---|---|
//! | `model.rs` | the algorithm as a transition system; one arm per [`Step`](dcas_queue::Step) of the real code |
//! | `encoding.rs` | a whole state in 127 bits; one representative among states that differ only in names |
//! | `properties.rs` | what is checked after every step (INV-Q-1 to INV-Q-4, and lemmas: INV-P-3, INV-P-4, INV-Q-6, -9 and -11) |
//! | `search.rs` | breadth-first search and shortest counterexamples |
//! | `mutations.rs` | errors that must be found |
//! | `hazards.rs` | what the published algorithm has to fear, by name |
//! | `conformance.rs` | the real queue against the model, step by step |
//!
//! Half accesses are separate steps, nodes are used again in every round, and steps of the payload may vary. The
//! visited set holds whole states, so "exhaustive" has no probability in it.
//!
//! # Progress
//! From every reachable state each thread, if it alone goes on, finishes its operation in a bounded number of steps,
//! whatever the others were doing when they stopped. That is obstruction freedom by exhaustion. Lock-freedom follows:
//! a walk restarts only when a step of another thread changed a pair, and each operation changes pairs in a bounded
//! number of ways unless it is itself disturbed (`MODEL.md`, INV-Q-4).
//!
//! # What this check cannot see
//! * *Weak memory.* Steps happen one after the other here. On x86-64 that is the truth but for store buffers: a
//!   thread's own stores may become visible to others after its later loads. The algorithm stores (other than by locked
//!   instructions, which drain the buffer) only in `PreparePayload`, `PrepareLink`, `RetractLink` and
//!   `RetractPayload`, to a node that is not linked. The first two become visible in program order and before the
//!   `LinkTail` that publishes the node; their delay past own loads cannot be told from the thread having been slow,
//!   since no load lies between them and that locked instruction. The last two end their operation, also become visible
//!   in program order, and nobody can reach the node before the next `LinkTail`. Loads of one thread are not reordered.
//!   On other architectures every access is a 128-bit one and at least acquire or release; that the properties hold
//!   there rests on the argument in `MODEL.md` ("Memory orders"), not on this check.
//! * *More threads, more rounds.* The errors in `mutations` need at most 3 threads and 2 rounds, or 2 and 3.
//! * *Free choice of steps with three threads and two rounds.* That has more than 256 million states. Searched is
//!   the assignment in which the missing never-down rule shows: 1 in the first round, 2 in the second.
//! * *A node that changes its thread* between rounds. The algorithm never looks at who owns a node; the stress test
//!   hands nodes around.
//! * *Errors of transcription.* `conformance.rs` runs the code and the model in lock step, on samples.

#[path = "explicit_state/conformance.rs"]
mod conformance;
#[path = "explicit_state/encoding.rs"]
mod encoding;
#[path = "explicit_state/hazards.rs"]
mod hazards;
#[path = "explicit_state/model.rs"]
mod model;
#[path = "explicit_state/mutations.rs"]
mod mutations;
#[path = "explicit_state/properties.rs"]
mod properties;
#[path = "explicit_state/search.rs"]
mod search;

use model::PayloadSteps;
use search::{Clean, Configuration, search};

/// Searches a configuration that must be clean and have exactly the states that it had when it was last understood: a
/// model that loses behaviour by a slip gets smaller and would otherwise pass unnoticed.
fn clean(configuration: Configuration, states: usize, longest_solo: u32) {
    match search(&configuration) {
        Err(counterexample) => panic!("{configuration:?}: {counterexample:?}"),
        Ok(Clean { states: s, longest_solo: l, transitions, .. }) => {
            println!("{configuration:?}: {s} states, {transitions} steps, at most {l} alone");
            assert_eq!(
                (s, l),
                (states, longest_solo),
                "(states, longest run alone) changed: was that intended?"
            );
        }
    }
}

#[test]
fn two_threads_three_rounds() {
    clean(Configuration::new(2, 3), 26_195, 14);
}

#[test]
fn two_threads_three_rounds_varying_steps() {
    clean(Configuration::new(2, 3).n(PayloadSteps::UpTo(2)), 492_298, 14);
}

#[test]
fn three_threads_one_round() {
    clean(Configuration::new(3, 1), 64_663, 19);
}

#[test]
fn three_threads_one_round_varying_steps() {
    clean(Configuration::new(3, 1).n(PayloadSteps::UpTo(2)), 498_439, 19);
}

#[test]
fn two_threads_two_rounds_and_a_completer() {
    clean(Configuration::new(2, 2).completers(1, 2), 528_628, 17);
}

/// About 15 seconds and 350 MB.
#[test]
fn three_threads_two_rounds() {
    clean(Configuration::new(3, 2), 8_625_859, 20);
}

/// As the last, with steps that vary: where the never-down rule is needed (see `mutations`), it is enough.
#[test]
fn three_threads_two_rounds_varying_steps() {
    let n = PayloadSteps::ByRound { before_last: 1, last: 2 };
    clean(Configuration::new(3, 2).n(n), 8_767_423, 20);
}

/// Payloads run out: appends fail at any point of their attempts, and nodes go on being used.
#[test]
fn two_threads_exhaust_payloads() {
    clean(Configuration::new(2, 3).n(PayloadSteps::UpTo(3)).limit(6), 556_667, 14);
}

#[test]
fn three_threads_exhaust_payloads() {
    clean(Configuration::new(3, 2).limit(3), 1_062_707, 19);
}
