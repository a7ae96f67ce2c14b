//! A node on the heap, and the pin under which walks may read it.

use alloc::boxed::Box;
use core::ptr::NonNull;

use crossbeam_epoch::Guard;

use crate::Node;

/// An owned heap node. Not a `Box`: other threads read and change the node while its owner moves this, which a
/// `Box`'s claim to be the only pointer would forbid.
///
/// It has no `Drop`: whoever lets go of one says what becomes of the memory, by [`retire`](Self::retire) or by leaving
/// it to the queue that it is linked in.
pub(super) struct HeapNode(NonNull<Node>);

// SAFETY: a `Node` is `Send` and `Sync`, and this is a pointer to one with no thread-bound state.
unsafe impl Send for HeapNode {}
// SAFETY: as above; a shared `HeapNode` gives out shared references to the node only.
unsafe impl Sync for HeapNode {}

impl HeapNode {
    /// A new idle node.
    pub(super) fn new() -> Self {
        let node = Box::into_raw(Box::new(Node::new()));
        // The tracker may have to free it by the address in a link.
        node.expose_provenance();
        // SAFETY: a `Box` is not null.
        Self(unsafe { NonNull::new_unchecked(node) })
    }

    pub(super) fn get(&self) -> &Node {
        // SAFETY: it came from a `Box`, is freed only by `retire` and `free_linked`, which end this owner's use of
        // it, and is never borrowed mutably.
        unsafe { self.0.as_ref() }
    }

    /// Frees the node when no walk that may know of it runs any more.
    ///
    /// # Safety
    /// The node is not in the queue, all walks of the queue that it was in run under guards of `guard`'s collector, and
    /// it is retired once.
    pub(super) unsafe fn retire(&self, guard: &Guard) {
        let node = self.0.as_ptr();
        // SAFETY: no walk that pins later can reach the node (INV-S-1), which is what deferring rests on. The closure
        // frees a `Box` that nobody else frees, and it may do so in any thread, since a `Node` is `Send`.
        unsafe { guard.defer_unchecked(move || drop(Box::from_raw(node))) };
    }
}

/// Frees a node that its owner has forgotten.
///
/// # Safety
/// `address` is that of the pair of a `HeapNode`'s node that was never retired, and nothing uses the node any more.
pub(super) unsafe fn free_linked(address: usize) {
    let node: *mut Node = core::ptr::with_exposed_provenance_mut(address);
    // SAFETY: a node and its pair have one address (`repr(transparent)`), and the caller vouches for the rest.
    drop(unsafe { Box::from_raw(node) });
}
