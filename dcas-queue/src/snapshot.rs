//! A picture of the queue, for debuggers and for whoever must find the open sections.

use crate::Queue;
use crate::observer::{Observer, Operation, Step};
use crate::pair::MARK;
use crate::walk::pair_at;

/// One node as a [`Queue::snapshot`] saw it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// The node's address (that of the [`Node`](crate::Node), which may be embedded in something larger).
    pub address: usize,
    /// The predecessor's payload (for the first node, the watermark). The payload that was issued to this node is
    /// above it, whatever has been donated to the node since.
    pub predecessor: u64,
    /// The node's payload.
    pub payload: u64,
    /// Whether the node was marked: its removal has begun.
    pub marked: bool,
}

/// What [`Queue::snapshot`] found beside the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The watermark at the beginning of the walk.
    pub watermark: u64,
    /// How many entries of the buffer were filled, from its beginning.
    pub len: usize,
    /// Whether the walk reached the end of the queue. If not, the buffer was too small, or the queue
    /// changed under every one of the attempts.
    pub complete: bool,
    /// How often the walk had to start again.
    pub restarts: u32,
}

impl Queue {
    /// How often [`snapshot`](Self::snapshot) starts again before it is content with what it has.
    pub const SNAPSHOT_RESTARTS: u32 = 64;

    /// Writes the queue's nodes into `out`, from the head on, and changes nothing: marked nodes are shown.
    ///
    /// Best effort, bounded work: at most `out.len()` nodes and [`SNAPSHOT_RESTARTS`](Self::SNAPSHOT_RESTARTS) restarts.
    /// Each entry was in the queue at a moment during the call; the entries need not have been there together.
    ///
    /// # Safety
    /// The [safety section of the queue](Queue#safety-of-the-operations). The memory of the nodes found stays
    /// type-stable only as long as that section's first item is kept: an address in `out` is good as long.
    pub unsafe fn snapshot<O: Observer>(&self, out: &mut [Entry], obs: &O) -> Snapshot {
        let mut restarts = 0;
        loop {
            // SAFETY: as for this function.
            let (picture, stale) = unsafe { self.snapshot_once(out, obs) };
            if !stale || restarts == Self::SNAPSHOT_RESTARTS {
                return Snapshot { restarts, ..picture };
            }
            restarts += 1;
            obs.restarted(Operation::Snapshot);
        }
    }

    /// One walk; also says whether the queue changed under it.
    ///
    /// The walk re-checks the last *unmarked* pair that it passed. As long as that one is unchanged, the marked nodes behind
    /// it are in the queue and frozen, links included, so the first unmarked node after them is too.
    ///
    /// # Safety
    /// As for [`snapshot`](Self::snapshot).
    unsafe fn snapshot_once<O: Observer>(&self, out: &mut [Entry], obs: &O) -> (Snapshot, bool) {
        obs.step(Step::ReadHeadPayload);
        let watermark = self.head.load_payload();
        obs.step(Step::ReadHeadLink);
        let mut next = self.head.load_link();

        let mut picture = Snapshot { watermark, len: 0, complete: false, restarts: 0 };
        // The last unmarked pair, with the words that were read from it.
        let (mut anchor, mut anchor_payload, mut anchor_link) = (&self.head, watermark, next);
        let mut predecessor = watermark;
        while next != 0 {
            let Some(slot) = out.get_mut(picture.len) else { return (picture, false) };
            // SAFETY: the link was read from a pair of this queue, and nodes are type-stable while walks run.
            let pair = unsafe { pair_at(next) };
            obs.step(Step::ReadNextPayload);
            let mut payload = pair.load_payload();
            obs.step(Step::ReadNextLink);
            let link = pair.load_link();
            let marked = link & MARK != 0;
            if marked {
                obs.step(Step::ReadFrozenPayload);
                payload = pair.load_payload();
            }
            obs.step(Step::RecheckLink);
            if anchor.load_link() != anchor_link {
                return (picture, true);
            }
            obs.step(Step::RecheckPayload);
            if anchor.load_payload() != anchor_payload {
                return (picture, true);
            }
            *slot = Entry { address: next, predecessor, payload, marked };
            picture.len += 1;
            if !marked {
                (anchor, anchor_payload, anchor_link) = (pair, payload, link);
            }
            predecessor = payload;
            next = link & !MARK;
        }
        picture.complete = true;
        (picture, false)
    }

    /// The queue as it is this moment, under a model checker: for invariants, without a step.
    ///
    /// # Panics
    /// If `out` is too small.
    ///
    /// # Safety
    /// As for [`snapshot`](Self::snapshot).
    #[cfg(any(dcas_queue_loom, dcas_queue_shuttle))]
    pub unsafe fn newest(&self, out: &mut [Entry]) -> Snapshot {
        let head = self.head.newest();
        let (mut len, mut predecessor, mut next) = (0, head.payload, head.link);
        while next != 0 {
            // SAFETY: as for this function.
            let pair = unsafe { pair_at(next) }.newest();
            let marked = pair.link & MARK != 0;
            out[len] = Entry { address: next, predecessor, payload: pair.payload, marked };
            (len, predecessor, next) = (len + 1, pair.payload, pair.link & !MARK);
        }
        Snapshot { watermark: head.payload, len, complete: true, restarts: 0 }
    }
}
