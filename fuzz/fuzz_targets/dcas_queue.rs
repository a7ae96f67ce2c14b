//! Bytes to sequences of operations on one queue, which interrupt each other between their atomic steps; after each
//! operation the queue is compared with an oracle.
//!
//! Run on stable with `cargo fuzz run -s none dcas_queue`, from the workspace's root.
#![no_main]

#[path = "../../dcas-queue/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // The first byte says where the watermark starts: at 0 mostly, or so near the end that payloads run out.
    let Some((&first, rest)) = bytes.split_first() else { return };
    let watermark = if first < 200 { 0 } else { u64::MAX - 4 * u64::from(first - 200) };
    support::World::new(watermark, rest).run();
});
