//! What the owner of a node does to link it: prepare it, and try.

use core::num::NonZeroU64;

use crate::mutation::{Mutation, broken};
use crate::node::Node;
use crate::observer::{Observer, Step};
use crate::pair::access::Access;
use crate::pair::{MARK, Pair};
use crate::walk::Position;

/// A node on its way into a queue, and what its owner has stored in it so far.
pub(crate) struct Preparation<'node> {
    node: &'node Node,
    /// The payload at the end of the node's last stay; nobody trusts a higher one.
    floor: u64,
    /// The node's payload now.
    last: u64,
    /// Whether the mark has been cleared.
    prepared: bool,
}

/// What came of an attempt to link a node.
pub(crate) enum Attempt {
    /// It is in the queue, with this payload.
    Linked(u64),
    /// Payloads are exhausted at this tail's; the node is idle, as it was found.
    Exhausted { tail: u64 },
    /// The tail has changed: walk again.
    Stale,
}

impl<'node> Preparation<'node> {
    /// An idle node, whose payload has just been read.
    #[inline]
    pub(crate) fn new(node: &'node Node, payload: u64) -> Self {
        Self { node, floor: payload, last: payload, prepared: false }
    }

    /// Prepares the node for a place behind `tail`, and tries to link it there.
    ///
    /// # Safety
    /// The caller owns the node, which is not linked, and `tail` was read from the queue in which it may be.
    #[inline]
    pub(crate) unsafe fn link_behind<A: Access, O: Observer>(
        &mut self,
        access: A,
        tail: Position<'_>,
        n: NonZeroU64,
        obs: O,
    ) -> Attempt {
        let pair = &self.node.pair;
        let Some(payload) = tail.seen.payload.checked_add(n.get()) else {
            // SAFETY: as for this function.
            unsafe { self.retract(access, obs) };
            return Attempt::Exhausted { tail: tail.seen.payload };
        };
        // The never-down rule (INV-Q-6). The payload of the node's last stay must be exceeded. That of a failed
        // attempt of this call was never visible in the queue and may come again.
        let down = payload < self.last || (payload == self.last && !self.prepared);
        if down && !broken(&obs, Mutation::NoNeverDownRule) {
            // The two loads of the tail were torn: no tail was ever below what this node had.
            return Attempt::Stale;
        }
        if broken(&obs, Mutation::LinkPreparedBeforePayload) && !self.prepared {
            obs.step(Step::PrepareLink);
            // SAFETY: as below.
            unsafe { access.store_link(pair, 0) };
            self.prepared = true;
        }
        if payload != self.last {
            obs.step(Step::PreparePayload);
            // SAFETY: the node is not linked and the caller is its only owner.
            unsafe { access.store_payload(pair, payload) };
            self.last = payload;
        }
        if !self.prepared {
            // Payload before link: the mark goes only after the payload rose (INV-Q-5).
            obs.step(Step::PrepareLink);
            // SAFETY: as above.
            unsafe { access.store_link(pair, 0) };
            self.prepared = true;
        }
        obs.step(Step::LinkTail);
        let linked = Pair { payload: tail.seen.payload, link: self.node.address() };
        if access.compare_exchange(tail.cell, tail.seen, linked) {
            Attempt::Linked(payload)
        } else {
            Attempt::Stale
        }
    }

    /// Back to how the node was found, if something was stored in it. Were the unused payload left there, a later append with
    /// a smaller step could find no payload above it. The mark comes first: the payload of the last stay must never be
    /// seen beside a null link again.
    ///
    /// # Safety
    /// As for [`link_behind`](Self::link_behind).
    #[cold]
    unsafe fn retract<A: Access, O: Observer>(&mut self, access: A, obs: O) {
        if !self.prepared {
            return;
        }
        obs.step(Step::RetractLink);
        // SAFETY: the node is not linked and the caller is its only owner.
        unsafe { access.store_link(&self.node.pair, MARK) };
        if !broken(&obs, Mutation::UnusedPayloadKept) {
            obs.step(Step::RetractPayload);
            // SAFETY: as above.
            unsafe { access.store_payload(&self.node.pair, self.floor) };
        }
    }
}
