//! Bytes to sequences of operations on one queue, which interrupt each other between their atomic steps; after each
//! operation the queue is compared with an oracle.
//!
//! Run on stable with `cargo fuzz run -s none dcas_queue`, from the workspace's root.
#![no_main]

#[path = "../../dcas-queue/tests/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(world) = support::World::of_bytes(bytes) {
        world.run();
    }
});
