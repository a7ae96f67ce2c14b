//! The node that users embed.

use crate::pair::{AtomicPair, MARK, Pair};
use crate::primitive::constructor;

/// A node: one [`AtomicPair`], embedded in or pointed to by what it stands for.
///
/// A node is *idle* (marked, not in a queue), *in the queue* (unmarked, or marked while its removal goes on), or being
/// prepared by `append`. Its payload never goes down (INV-Q-6), but for
/// an `append` that fails and puts back what it found.
///
/// Nodes are linked by address, so a node stays where it is from its first `append` on; see the safety section of
/// [`Queue`](crate::Queue).
#[derive(Debug)]
#[repr(transparent)]
pub struct Node {
    pub(crate) pair: AtomicPair,
}

impl Node {
    constructor! {
        /// An idle node that was never in a queue.
        #[must_use]
        pub fn new() -> Self {
            Self { pair: AtomicPair::new(Pair { payload: 0, link: MARK }) }
        }
    }

    /// The payload: the last one that was issued to the node, grown by the donations of the successors that were
    /// removed while it was in the queue. Acquire.
    #[inline]
    #[must_use]
    pub fn payload(&self) -> u64 {
        // ORD: Acquire inside; pairs with the compare-exchange that donated and with the owner's Release store.
        self.pair.load_payload()
    }

    /// Whether the node is marked: idle, or its removal has begun. Acquire.
    #[inline]
    #[must_use]
    pub fn is_marked(&self) -> bool {
        // ORD: Acquire inside; pairs with the SeqCst mark and with the owner's Release store.
        self.pair.load_link() & MARK != 0
    }

    /// The node's address as links hold it.
    #[inline]
    pub(crate) fn address(&self) -> usize {
        core::ptr::from_ref(&self.pair).expose_provenance()
    }
}

impl Default for Node {
    fn default() -> Self {
        Self::new()
    }
}
