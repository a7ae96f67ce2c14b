//! Bytes to concurrent histories on one queue: three threads, their programs, and the schedule of their single atomic steps;
//! the invariants are checked in every state. Deterministic: a finding replays and shrinks.
//!
//! Run on stable with `cargo fuzz run -s none dcas_queue_histories`, from the workspace's root.
#![no_main]

#[path = "../../dcas-queue/tests/schedules/mod.rs"]
mod schedules;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| schedules::run(bytes, None));
