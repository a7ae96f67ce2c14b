//! Bytes to whole lifetimes of participants in a domain of any implementation, and to the schedule of their single steps; what
//! is promised is checked at every step. Deterministic: a finding replays and shrinks.
//!
//! Run on stable with `cargo fuzz run -s none gencount`, from the workspace's root.
#![no_main]

#[path = "../../gencount/tests/histories/mod.rs"]
mod histories;
#[allow(dead_code, reason = "other harnesses freeze threads and count points")]
#[path = "../../gencount/tests/steps/mod.rs"]
mod steps;
#[path = "../../gencount/tests/world/mod.rs"]
mod world;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| histories::run(bytes, gencount::Domain::new));
