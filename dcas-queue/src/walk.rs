//! The walk: hand over hand from the head, finishing every removal that it meets.
//!
//! The walk keeps one [`Position`]: a pair that was in the queue and unmarked when it was read, with the words
//! that were read. It relies on four facts, each an invariant of `MODEL.md`:
//!
//! * A pair's payload never goes down, and a node's next stay in the queue has a higher payload than the one before
//!   (INV-Q-6). So the same payload at two moments means the same stay, with no donation in between.
//! * A mark is only cleared by the owner, after it raised the payload (INV-Q-5). So the same payload and an unmarked
//!   link mean that the pair is still in the queue.
//! * A link that changes from one node to another changes together with the payload, which the donation raises
//!   (INV-Q-10). So the same payload and the same link at two moments mean that the link never changed in between.
//! * A marked pair is frozen (INV-P-3). So a payload read after the mark was seen is the one that must be donated.

use crate::Queue;
use crate::backoff::Backoff;
use crate::mutation::{Mutation, broken};
use crate::observer::{Observer, Operation, Step};
use crate::pair::access::Access;
use crate::pair::{AtomicPair, MARK, Pair};

/// A pair of the queue (the head or a node) with the words that were read from it while it was unmarked.
#[derive(Clone, Copy)]
pub(crate) struct Position<'queue> {
    pub(crate) cell: &'queue AtomicPair,
    pub(crate) seen: Pair,
}

/// An own node on its way out: its address and its frozen words.
#[derive(Clone, Copy)]
pub(crate) struct Target {
    pub(crate) address: usize,
    /// The payload to donate and the link to hand on, without the mark.
    pub(crate) donation: Pair,
}

/// How a walk ended.
pub(crate) enum Ended<'queue> {
    /// At the end of the queue: the tail, with a null link. A target that was not met on the way was unlinked by
    /// somebody else.
    AtTail(Position<'queue>),
    /// The target was unlinked here.
    TargetUnlinked,
}

/// A walk that has to start again: something changed under it.
pub(crate) struct Stale;

/// One operation's walks: what they serve, and what they did.
pub(crate) struct Walker<A, O> {
    access: A,
    operation: Operation,
    observer: O,
    backoff: Backoff,
    /// Whether a walk of this operation advanced the watermark.
    pub(crate) advanced: bool,
}

impl<A: Access, O: Observer + Copy> Walker<A, O> {
    #[inline]
    pub(crate) fn new(access: A, operation: Operation, observer: O) -> Self {
        Self { access, operation, observer, backoff: Backoff::new(), advanced: false }
    }

    /// Counts a restart and backs off.
    #[cold]
    fn restart(&mut self) {
        self.observer.restarted(self.operation);
        self.observer.backoff(self.backoff.next());
    }

    /// Reads the head, with which every walk begins.
    #[inline]
    pub(crate) fn head<'queue>(&self, queue: &'queue Queue) -> Position<'queue> {
        let seen = self.read(&queue.head, Step::ReadHeadPayload, Step::ReadHeadLink);
        Position { cell: &queue.head, seen }
    }

    /// Walks, again and again until no change comes in between, to the target or to the end: from the head as it was just read, or,
    /// if something has changed since, after backing off.
    ///
    /// Lock-free: a walk starts again only if another thread appended, removed or unlinked meanwhile.
    ///
    /// # Safety
    /// The safety section of [`Queue`].
    pub(crate) unsafe fn walk<'queue>(
        &mut self,
        queue: &'queue Queue,
        mut from: Option<Position<'queue>>,
        target: Option<Target>,
    ) -> Ended<'queue> {
        loop {
            let head = from.take().unwrap_or_else(|| {
                self.restart();
                self.head(queue)
            });
            let mut nodes = 0;
            // SAFETY: as for this function.
            let ended = unsafe { self.walk_on(queue, head, target, &mut nodes) };
            self.observer.walked(nodes);
            if let Ok(ended) = ended {
                return ended;
            }
        }
    }

    /// One walk from `here` on; counts the nodes that it meets.
    ///
    /// # Safety
    /// As for [`walk`](Self::walk).
    unsafe fn walk_on<'queue>(
        &mut self,
        queue: &'queue Queue,
        mut here: Position<'queue>,
        target: Option<Target>,
        nodes: &mut u64,
    ) -> Result<Ended<'queue>, Stale> {
        while here.seen.link != 0 {
            if let Some(target) = target
                && target.address == here.seen.link
            {
                // The own words are known and frozen: nothing has to be read.
                self.unlink(queue, here, target.donation)?;
                return Ok(Ended::TargetUnlinked);
            }
            // SAFETY: `here` linked to it while in this queue, and nodes are type-stable while walks run.
            let next: &'queue AtomicPair = unsafe { pair_at(here.seen.link) };
            *nodes += 1;

            let seen = self.read(next, Step::ReadNextPayload, Step::ReadNextLink);

            here = if seen.link & MARK == 0 {
                if !self.breaks(Mutation::NoRecheck) {
                    // Link before payload: the payload, read last, vouches for the whole time since it was first read.
                    self.observer.step(Step::RecheckLink);
                    if self.access.load_link(here.cell) != here.seen.link {
                        return Err(Stale);
                    }
                    self.observer.step(Step::RecheckPayload);
                    if self.access.load_payload(here.cell) != here.seen.payload {
                        return Err(Stale);
                    }
                }
                self.observer.open_node(here.seen.link, here.seen.payload);
                Position { cell: next, seen }
            } else {
                if self.breaks(Mutation::NoHelping) {
                    return Err(Stale);
                }
                // Finish the removal. No recheck: the compare-exchange succeeds only if `here` did not change
                // since it was read, and then `next` was its successor, marked and frozen, all along.
                let mut payload = seen.payload;
                if !self.breaks(Mutation::HelperKeepsEarlierPayload) {
                    self.observer.step(Step::ReadFrozenPayload);
                    payload = self.access.load_payload(next);
                }
                self.unlink(queue, here, Pair { payload, link: seen.link & !MARK })?
            };
        }
        Ok(Ended::AtTail(here))
    }

    /// Reads a pair, half by half: payload before link, for the other way round an open section can be lost (INV-Q-7).
    #[inline]
    fn read(&self, cell: &AtomicPair, payload_step: Step, link_step: Step) -> Pair {
        if self.breaks(Mutation::LinkReadBeforePayload) {
            self.observer.step(link_step);
            let link = self.access.load_link(cell);
            self.observer.step(payload_step);
            return Pair { payload: self.access.load_payload(cell), link };
        }
        self.observer.step(payload_step);
        let payload = self.access.load_payload(cell);
        self.observer.step(link_step);
        Pair { payload, link: self.access.load_link(cell) }
    }

    #[inline]
    fn breaks(&self, mutation: Mutation) -> bool {
        broken(&self.observer, mutation)
    }

    /// Unlinks the node that `here` links to: `here` takes over its payload and its link, in one step.
    #[inline]
    pub(crate) fn unlink<'queue>(
        &mut self,
        queue: &Queue,
        here: Position<'queue>,
        donation: Pair,
    ) -> Result<Position<'queue>, Stale> {
        self.observer.step(Step::Unlink);
        if !self.access.compare_exchange(here.cell, here.seen, donation) {
            return Err(Stale);
        }
        if core::ptr::eq(here.cell, &raw const queue.head) {
            self.advanced = true;
            self.observer.watermark_advanced(donation.payload);
        }
        Ok(Position { cell: here.cell, seen: donation })
    }
}

/// The pair that a link points to.
///
/// # Safety
/// `link` is unmarked, not null, and was read from a pair of a queue whose nodes are type-stable for `'queue`.
#[inline]
pub(crate) unsafe fn pair_at<'queue>(link: usize) -> &'queue AtomicPair {
    debug_assert!(link != 0 && link & MARK == 0);
    // SAFETY: the address of a live `Node`'s pair, exposed by `Node::address` when it was appended.
    unsafe { &*core::ptr::with_exposed_provenance(link) }
}
