//! A table of lending turnstiles against a reference: a string of bytes becomes operations on both, which are compared after
//! each. For the property tests, which can leave steps of the table out, and for the fuzz target `turnstile`.
//!
//! The threads are those of the simulated machine, on one thread of the host: the bytes say who does what and who goes on, down to the scheduling
//! points inside an operation. The same bytes give the same run, so a finding replays and shrinks.
//!
//! What this cannot see: races of several processors (the table's one lock excludes them; `tests/hosted` and the
//! checkers of interleavings have them), and weak memory.

mod model;
pub(crate) mod step;
pub(crate) mod world;

use world::World;

/// Threads of a run, and how many addresses, holds and levels of tokens there are.
const THREADS: usize = 6;
const ADDRESSES: usize = 4;
const HOLDS: usize = 6;
const TOKENS: u64 = 3;

/// Runs what `bytes` say: the first chooses the number of chains, so that addresses and threads share them or not.
///
/// # Panics
///
/// If table and reference differ.
pub(crate) fn run(bytes: &[u8]) {
    match bytes.split_first() {
        Some((first, rest)) if first % 2 == 0 => World::<1>::new().play(step::steps(rest)),
        Some((_, rest)) => World::<3>::new().play(step::steps(rest)),
        None => {}
    }
}
