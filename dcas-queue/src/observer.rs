//! Names for the single atomic steps of the algorithm, and the hook that is called before each.

use crate::primitive::spin_loop;

/// One atomic step: a single access to a pair that other threads may see.
///
/// The explicit-state check in `tests/explicit_state/` uses the same names, so code and model can be compared line by
/// line. Between two steps a thread touches nothing shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Walk: read the head's payload.
    ReadHeadPayload,
    /// Walk: read the head's link.
    ReadHeadLink,
    /// Walk: read the next node's payload.
    ReadNextPayload,
    /// Walk: read the next node's link.
    ReadNextLink,
    /// Walk: the next node is not marked; read its predecessor's link again.
    RecheckLink,
    /// Walk: then the predecessor's payload. Unchanged: the next node was in the queue when it was read.
    RecheckPayload,
    /// Walk: the next node is marked; read its payload, which is frozen now.
    ReadFrozenPayload,
    /// Walk: compare-exchange on the predecessor that unlinks the next node and takes over its payload.
    Unlink,
    /// Append: the owner reads the payload that its idle node was left with.
    ReadIdlePayload,
    /// Append: the owner stores the derived payload into its node.
    PreparePayload,
    /// Append: the owner stores a null link into its node, which clears the mark.
    PrepareLink,
    /// Append: compare-exchange on the tail that links the node.
    LinkTail,
    /// Append: payloads are exhausted; the owner marks its prepared node again.
    RetractLink,
    /// Append: and puts back the payload that the node was left with.
    RetractPayload,
    /// Remove: set the mark in the own node, which freezes it.
    Mark,
    /// Remove: read the own payload, frozen now.
    ReadOwnPayload,
}

impl Step {
    /// All steps, in the order of the declaration.
    pub const ALL: [Self; 16] = [
        Self::ReadHeadPayload,
        Self::ReadHeadLink,
        Self::ReadNextPayload,
        Self::ReadNextLink,
        Self::RecheckLink,
        Self::RecheckPayload,
        Self::ReadFrozenPayload,
        Self::Unlink,
        Self::ReadIdlePayload,
        Self::PreparePayload,
        Self::PrepareLink,
        Self::LinkTail,
        Self::RetractLink,
        Self::RetractPayload,
        Self::Mark,
        Self::ReadOwnPayload,
    ];
}

/// What a thread does when a walk has to start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Queue::append`](crate::Queue::append).
    Append,
    /// [`Queue::remove`](crate::Queue::remove).
    Remove,
    /// [`Queue::complete_removals`](crate::Queue::complete_removals).
    CompleteRemovals,
    /// [`Queue::snapshot`](crate::Queue::snapshot).
    Snapshot,
}

/// The largest number of pauses that [`Observer::backoff`] is asked for.
pub const LONGEST_BACKOFF: u32 = 1024;

/// Hooks into an operation; every method does nothing (or the ordinary thing) by default and is then compiled away.
///
/// Schedulers of simulated threads switch in [`step`](Self::step), counters count in [`restarted`](Self::restarted).
/// No hook may panic: an operation that unwinds half-way leaves its node neither idle nor in the queue.
pub trait Observer {
    /// Called immediately before each atomic step. It may block: no other thread waits for this one.
    #[inline]
    fn step(&self, step: Step) {
        let _ = step;
    }

    /// Called when `operation` found that the queue changed under it, before it backs off and walks again.
    #[inline]
    fn restarted(&self, operation: Operation) {
        let _ = operation;
    }

    /// Called after [`restarted`](Self::restarted) to wait for about `pauses` processor pauses: 32, 128, 512, and then
    /// [`LONGEST_BACKOFF`] again and again within an operation.
    ///
    /// The default executes them. With feature `std` it gives the processor up instead when they are that many: with more
    /// threads than processors, those that were preempted in an open section lengthen everybody's walk until they go on.
    /// A simulation or a tickless kernel may do otherwise.
    #[inline]
    fn backoff(&self, pauses: u32) {
        #[cfg(all(feature = "std", not(any(dcas_queue_loom, dcas_queue_shuttle))))]
        if pauses >= LONGEST_BACKOFF {
            std::thread::yield_now();
            return;
        }
        for _ in 0..pauses {
            spin_loop();
        }
    }

    /// Called when a walk ends that met nodes, with their number. A walk that starts again meets them again.
    #[inline]
    fn walked(&self, nodes: u64) {
        let _ = nodes;
    }

    /// Called after this thread advanced the watermark to `watermark`, in whatever operation: whoever keeps
    /// waiters for the watermark must look at them before the operation's caller goes on to other things.
    #[inline]
    fn watermark_advanced(&self, watermark: u64) {
        let _ = watermark;
    }

    /// The rule that this observer's operations do without, for tests that show that their checks notice. An observer
    /// that names one here takes the queue's guarantees away, those of memory safety included.
    #[cfg(feature = "mutations")]
    #[inline]
    fn mutation(&self) -> Option<crate::Mutation> {
        None
    }

    /// Called when a walk has found, by its re-check, that the node at address `node` was in the queue and not marked at a
    /// moment after the operation began, behind a predecessor whose payload was `predecessor` then. (For the first node that
    /// is the watermark.) A walk that starts again may meet a node again.
    ///
    /// A node that is in the queue and unmarked from before a [`Queue::complete_removals`](crate::Queue::complete_removals)
    /// until it returns is met by it. The predecessor's payload stays the same as long as the node is in the queue, whoever
    /// the predecessor is: a predecessor that leaves hands its payload on (INV-Q-10), and one that stays grows only
    /// by the removal of its successor.
    #[inline]
    fn open_node(&self, node: usize, predecessor: u64) {
        let _ = (node, predecessor);
    }
}

/// Observes nothing.
impl Observer for () {}

impl<O: Observer + ?Sized> Observer for &O {
    #[inline]
    fn step(&self, step: Step) {
        (**self).step(step);
    }

    #[inline]
    fn restarted(&self, operation: Operation) {
        (**self).restarted(operation);
    }

    #[inline]
    fn backoff(&self, pauses: u32) {
        (**self).backoff(pauses);
    }

    #[inline]
    fn walked(&self, nodes: u64) {
        (**self).walked(nodes);
    }

    #[inline]
    fn watermark_advanced(&self, watermark: u64) {
        (**self).watermark_advanced(watermark);
    }

    #[cfg(feature = "mutations")]
    #[inline]
    fn mutation(&self) -> Option<crate::Mutation> {
        (**self).mutation()
    }

    #[inline]
    fn open_node(&self, node: usize, predecessor: u64) {
        (**self).open_node(node, predecessor);
    }
}
