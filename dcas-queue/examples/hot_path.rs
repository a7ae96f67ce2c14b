//! The two operations as a kernel would call them, under names that can be found in the assembly.
//!
//! `.ci/assembly` builds this and compares the locked instructions of `begin` and `finish`, and of all that they call,
//! with `dcas-queue/assembly/x86_64.txt`. Run, it shows that they work: `cargo run --example hot_path`.

use std::num::NonZeroU64;

use dcas_queue::{Node, Queue};

static QUEUE: Queue = Queue::new(0);

/// # Safety
/// As for [`Queue::append`] on `QUEUE`.
// SAFETY: (of `no_mangle`) no other symbol of the program has this name.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn dcas_queue_begin(node: &Node) -> u64 {
    // SAFETY: as for this function.
    unsafe { QUEUE.append(node, NonZeroU64::MIN, ()) }.unwrap_or(0)
}

/// # Safety
/// As for [`Queue::remove`] on `QUEUE`.
// SAFETY: (of `no_mangle`) no other symbol of the program has this name.
#[unsafe(no_mangle)]
#[inline(never)]
unsafe extern "C" fn dcas_queue_finish(node: &Node) -> bool {
    // SAFETY: as for this function.
    unsafe { QUEUE.remove(node, ()) }.watermark_advanced
}

fn main() {
    static NODE: Node = Node::new();
    for round in 1..=3 {
        // SAFETY: statics are type-stable, this queue is the only one, one thread; idle.
        let payload = unsafe { dcas_queue_begin(&NODE) };
        // SAFETY: as above; just appended.
        let advanced = unsafe { dcas_queue_finish(&NODE) };
        assert!(payload == round && advanced);
        println!("section {payload} began and finished; the watermark is {}", QUEUE.watermark());
    }
}
