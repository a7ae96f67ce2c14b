//! How CPUs hand requests to each other and learn that they are done.
//!
//! Each CPU has a mailbox, so any number of them can be initiators at the same time, and no global lock is involved. An
//! initiator writes its message into its own box, fills its `pending` set with the targets, and names itself in the `incoming`
//! set of every target. A target takes its `incoming` set, reads each initiator's message, does what it says, and takes itself out
//! of that initiator's `pending` set. When that is empty, the message is done everywhere, and the box can be used again.
//!
//! Three lines a CPU: what others poll or add to (`incoming`), what its owner publishes (`message`), and what others write while
//! its owner spins (`pending`). `tests/loom.rs` checks these functions.

use crossbeam_utils::CachePadded;

use crate::cpuset::{AtomicCpuSet, CpuId, CpuSet};
use crate::primitive::{AtomicU64, Ordering};

/// Words of a message: a cache line.
pub(crate) const WORDS: usize = 8;

/// See the module documentation.
pub(crate) struct Mailbox {
    incoming: CachePadded<AtomicCpuSet>,
    message: CachePadded<[AtomicU64; WORDS]>,
    pending: CachePadded<AtomicCpuSet>,
}

impl Mailbox {
    pub(crate) const fn new() -> Self {
        Self {
            incoming: CachePadded::new(AtomicCpuSet::new()),
            message: CachePadded::new([const { AtomicU64::new(0) }; WORDS]),
            pending: CachePadded::new(AtomicCpuSet::new()),
        }
    }

    /// Initiator: writes the message, for all of `targets` to read. Its last message is done.
    pub(crate) fn write(&self, message: [u64; WORDS], targets: &CpuSet) {
        for (word, value) in self.message.iter().zip(message) {
            // ORD: Relaxed; published by the Release in `notify`.
            word.store(value, Ordering::Relaxed);
        }
        self.pending.store(targets, Ordering::Relaxed); // ORD: as above
    }

    /// Initiator: tells the owner of this box, a target, that `initiator` has written a message.
    pub(crate) fn notify(&self, initiator: CpuId) {
        // ORD: Release pairs with the Acquire in `collect`.
        self.incoming.insert(initiator, Ordering::Release);
    }

    /// Initiator: whether every target has done its message.
    pub(crate) fn is_done(&self) -> bool {
        // ORD: Acquire pairs with the Release in `acknowledge`.
        self.pending.load(Ordering::Acquire).is_empty()
    }

    /// Target: takes those who have notified it.
    pub(crate) fn collect(&self) -> CpuSet {
        // ORD: Acquire pairs with the Release in `notify`: the messages are visible, and what the initiators did before.
        self.incoming.take(Ordering::Acquire)
    }

    /// Target: the message in an initiator's box.
    pub(crate) fn read(&self) -> [u64; WORDS] {
        // ORD: Relaxed; ordered by `collect`, and the initiator leaves the message alone until the acknowledgement.
        core::array::from_fn(|i| self.message[i].load(Ordering::Relaxed))
    }

    /// Target: tells the initiator, whose box this is, that CPU `me` has done its message. Returns whether the initiator may be
    /// waiting for nobody else.
    pub(crate) fn acknowledge(&self, me: CpuId) -> bool {
        // ORD: Release pairs with the Acquire in `is_done`: what was done, and what the CPU did before, happens before the
        // initiator goes on.
        self.pending.remove(me, Ordering::Release)
    }
}
