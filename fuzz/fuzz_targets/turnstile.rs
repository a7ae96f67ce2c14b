//! Bytes to operations on a table of lending turnstiles, whose threads are those of a simulated machine: block, go on, wake, claim,
//! hand over, hold, release, cancel, let deadlines pass, change priorities. After each, loans, queues and
//! introspection are compared with a reference. Deterministic: a finding replays and shrinks.
//!
//! Run on stable with `cargo fuzz run -s none turnstile`, from the workspace's root.
#![no_main]

#[path = "../../turnstile/tests/reference/mod.rs"]
mod reference;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| reference::run(bytes));
