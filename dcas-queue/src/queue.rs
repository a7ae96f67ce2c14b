//! The queue: append, remove, and the walk that finishes what others left behind.

use core::num::NonZeroU64;

use crate::append::{Attempt, Preparation};
use crate::mutation::{Mutation, broken};
use crate::node::Node;
use crate::observer::{Observer, Operation, Step};
use crate::pair::access::Access;
use crate::pair::{AtomicPair, MARK, Pair, decided};
use crate::primitive::constructor;
use crate::walk::{Ended, Position, Target, Walker};

/// A lock-free singly linked queue of [`Node`]s whose payloads strictly increase, with a low watermark.
///
/// The head's payload is the watermark: it reaches `g` only when every node that was issued `g` or less has been
/// removed. It is one pair, 16 bytes; put it on a cache line of its own where it matters.
///
/// # Safety of the operations
/// All of `append`, `remove`, `complete_removals` and `snapshot` follow links to nodes, so for each of them the caller
/// vouches that, for every node ever appended to this queue:
///
/// 1. *Type-stable memory.* The node's memory stays mapped, and stays this node (it is not moved, re-initialised
///    or used as anything else), as long as any operation on this queue may run: a walk may still read a node
///    after its removal; it then notices and starts again.
/// 2. *One queue for life.* A node that was appended to a queue is never appended to another one.
/// 3. *One owner at a time.* At most one thread is inside `append` or `remove` for one node, and what the next one does
///    happens after the one before returned.
///
/// The queue itself enforces, in release builds too, what the properties rest on besides: a node's payload never goes
/// down, payloads do not overflow, and a removal donates exactly the removed payload.
#[derive(Debug)]
pub struct Queue {
    pub(crate) head: AtomicPair,
}

/// Payloads are exhausted: the tail's payload plus the step exceeds `u64::MAX`. The node is idle
/// and as it was; the queue issued nothing.
///
/// With steps of 1 this takes centuries. With larger steps, use smaller ones, or start a new queue with new nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Overflow {
    /// The payload that the step was to be added to.
    pub tail: u64,
    /// The step.
    pub step: NonZeroU64,
}

impl core::fmt::Display for Overflow {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(
            f,
            "payloads are exhausted: {} + {} exceeds u64::MAX; use smaller steps or a new queue with new nodes",
            self.tail, self.step
        )
    }
}

impl core::error::Error for Overflow {}

/// The result of [`Queue::remove`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Removed {
    /// The payload that the node donated to its predecessor: the last one issued to it, or a later one that was
    /// donated to it.
    pub payload: u64,
    /// Whether this call moved the watermark, by unlinking this node or other marked ones it met.
    pub watermark_advanced: bool,
    /// Whether another thread's walk unlinked the node. It may have moved the watermark by that, perhaps long before
    /// this call returned; that thread knows (see [`Observer::watermark_advanced`]).
    pub helped: bool,
}

impl Queue {
    constructor! {
        /// An empty queue whose watermark is `watermark`; the first payload issued will be above it.
        #[must_use]
        pub fn new(watermark: u64) -> Self {
            Self { head: AtomicPair::new(Pair { payload: watermark, link: 0 }) }
        }
    }

    /// The low watermark: every node that was issued this payload or less has been removed. One load, Acquire: all
    /// that the owners of those nodes did before removing them happens-before the return.
    #[inline]
    #[must_use]
    pub fn watermark(&self) -> u64 {
        // ORD: Acquire inside; pairs with the SeqCst compare-exchange of the walk that donated to the head.
        self.head.load_payload()
    }

    /// Whether no node is linked at the moment; a marked node counts until it is unlinked.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        // ORD: Acquire inside; pairs with the SeqCst compare-exchanges on the head.
        self.head.load_link() == 0
    }

    /// Links `node` at the tail and returns its payload: the tail's (the watermark if the queue is empty) plus `n`.
    ///
    /// Lock-free, O(length of the queue): it finds the tail by walking, and finishes the removals it meets.
    ///
    /// # Errors
    /// [`Overflow`] if the sum exceeds `u64::MAX`; the node is idle then.
    ///
    /// # Panics
    /// In debug builds, if `node` is not idle.
    ///
    /// # Safety
    /// The [safety section of the queue](Queue#safety-of-the-operations); and `node` is idle: new, or its last
    /// `remove` has returned, or its last `append` failed.
    #[inline]
    pub unsafe fn append<O: Observer + Copy>(
        &self,
        node: &Node,
        n: NonZeroU64,
        obs: O,
    ) -> Result<u64, Overflow> {
        debug_assert!(node.is_marked(), "append: the node is already in a queue");
        // SAFETY: as for this function.
        decided!(|access| unsafe { self.append_by(access, node, n, obs) })
    }

    /// The first attempt, if it is at the head. What follows then is out of line, and gets all that it needs by value: so
    /// nothing of this has to be in memory.
    ///
    /// # Safety
    /// As for [`append`](Self::append).
    #[inline]
    unsafe fn append_by<A: Access, O: Observer + Copy>(
        &self,
        access: A,
        node: &Node,
        n: NonZeroU64,
        obs: O,
    ) -> Result<u64, Overflow> {
        obs.step(Step::ReadIdlePayload);
        let mut own = Preparation::new(node, access.load_payload(&node.pair));
        let head = Walker::new(access, Operation::Append, obs).head(self);
        let appended = if head.seen.link == 0 {
            // SAFETY: the caller is the node's only owner, and it is not linked.
            match unsafe { own.link_behind(access, head, n, obs) } {
                Attempt::Linked(payload) => return Ok(payload),
                Attempt::Exhausted { tail } => Err(tail),
                // SAFETY: as for this function.
                Attempt::Stale => unsafe { self.append_on(access, own, n, obs, None) },
            }
        } else {
            // SAFETY: as for this function.
            unsafe { self.append_on(access, own, n, obs, Some(head)) }
        };
        appended.map_err(|tail| Overflow { tail, step: n })
    }

    /// The walk from the head as it was read, or after a restart, and all attempts that follow. Returns the payload, or that of
    /// the tail to which `n` cannot be added: results that fit registers.
    ///
    /// # Safety
    /// As for [`append`](Self::append).
    #[inline(never)]
    unsafe fn append_on<'queue, A: Access, O: Observer + Copy>(
        &'queue self,
        access: A,
        mut own: Preparation<'_>,
        n: NonZeroU64,
        obs: O,
        mut from: Option<Position<'queue>>,
    ) -> Result<u64, u64> {
        let mut walker = Walker::new(access, Operation::Append, obs);
        loop {
            // SAFETY: the safety section of the queue.
            let Ended::AtTail(tail) = (unsafe { walker.walk(self, from.take(), None) }) else {
                unreachable!("a walk without a target ends at the tail")
            };
            // SAFETY: the caller is the node's only owner, and it is not linked.
            match unsafe { own.link_behind(access, tail, n, obs) } {
                Attempt::Linked(payload) => return Ok(payload),
                Attempt::Exhausted { tail } => return Err(tail),
                Attempt::Stale => {}
            }
        }
    }

    /// Removes `node` from wherever it is in the queue; its payload goes to its predecessor in the same step.
    ///
    /// Lock-free, O(position in the queue). On return the node is idle: unlinked, by this call or by a walk of
    /// another thread.
    ///
    /// # Panics
    /// In debug builds, if `node` is idle. (In release builds the call then only finishes others' removals.)
    ///
    /// # Safety
    /// The [safety section of the queue](Queue#safety-of-the-operations); and `node` is in this queue: its last
    /// operation was an `append` here that succeeded.
    #[inline]
    pub unsafe fn remove<O: Observer + Copy>(&self, node: &Node, obs: O) -> Removed {
        // SAFETY: as for this function.
        decided!(|access| unsafe { self.remove_by(access, node, obs) })
    }

    /// The mark, and the unlink if it is at the head; what follows otherwise is out of line, as with
    /// [`append_by`](Self::append_by).
    ///
    /// # Safety
    /// As for [`remove`](Self::remove).
    #[inline]
    unsafe fn remove_by<A: Access, O: Observer + Copy>(&self, access: A, node: &Node, obs: O) -> Removed {
        let early = broken(&obs, Mutation::PayloadReadBeforeMark).then(|| {
            obs.step(Step::ReadOwnPayload);
            access.load_payload(&node.pair)
        });
        obs.step(Step::Mark);
        let link = access.mark(&node.pair);
        debug_assert!(link & MARK == 0, "remove: the node is not in a queue");
        // Only now: before the mark, a donation could still come in between (INV-Q-8).
        let payload = early.unwrap_or_else(|| {
            obs.step(Step::ReadOwnPayload);
            access.load_payload(&node.pair)
        });

        let donation = Pair { payload, link: link & !MARK };
        let mut walker = Walker::new(access, Operation::Remove, obs);
        let head = walker.head(self);
        if head.seen.link != node.address() {
            // SAFETY: as for this function.
            return unsafe { self.remove_on(access, node, donation, obs, Some(head)) };
        }
        if walker.unlink(self, head, donation).is_err() {
            // SAFETY: as for this function.
            return unsafe { self.remove_on(access, node, donation, obs, None) };
        }
        Removed { payload, watermark_advanced: true, helped: false }
    }

    /// The walk from the head as it was read, or after a restart.
    ///
    /// # Safety
    /// As for [`remove`](Self::remove).
    #[inline(never)]
    unsafe fn remove_on<'queue, A: Access, O: Observer + Copy>(
        &'queue self,
        access: A,
        node: &Node,
        donation: Pair,
        obs: O,
        from: Option<Position<'queue>>,
    ) -> Removed {
        let mut walker = Walker::new(access, Operation::Remove, obs);
        let target = Target { address: node.address(), donation };
        // SAFETY: the safety section of the queue.
        let helped = match unsafe { walker.walk(self, from, Some(target)) } {
            Ended::TargetUnlinked => false,
            // An unmarked chain from the head to the end without the node: it is in the queue no more.
            Ended::AtTail(_) => true,
        };
        Removed { payload: donation.payload, watermark_advanced: walker.advanced, helped }
    }

    /// Walks to the end and finishes every removal met on the way: those whose threads stopped between mark
    /// and unlink. Returns whether this call moved the watermark.
    ///
    /// Whoever is about to sleep until the watermark advances calls this first, lest it wait for somebody who has
    /// logically finished.
    ///
    /// # Safety
    /// The [safety section of the queue](Queue#safety-of-the-operations).
    pub unsafe fn complete_removals<O: Observer + Copy>(&self, obs: O) -> bool {
        // SAFETY: as for this function.
        decided!(|access| unsafe { self.complete_removals_by(access, obs) })
    }

    /// # Safety
    /// As for [`complete_removals`](Self::complete_removals).
    unsafe fn complete_removals_by<A: Access, O: Observer + Copy>(&self, access: A, obs: O) -> bool {
        let mut walker = Walker::new(access, Operation::CompleteRemovals, obs);
        let head = walker.head(self);
        // SAFETY: the safety section of the queue.
        unsafe { walker.walk(self, Some(head), None) };
        walker.advanced
    }
}

#[cfg(test)]
mod tests;
