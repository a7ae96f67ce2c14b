//! Where PV entries come from: free ones of the address space, a new chunk, or what somebody else can spare.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::chunk::ENTRIES_PER_CHUNK;
use super::reclaim::Made;
use super::{ChunkPtr, PvPtr, PvSlot};
use crate::error::Shortage;
use crate::machine::{FrameUse, Machine};
use crate::mutation::Mutation;
use crate::pmap::{Core, State};
use crate::system::System;

/// How often a call waits for somebody else's lock and begins again before it reports a shortage.
const PATIENCE: usize = 16;

/// Why there is no PV entry.
pub(crate) enum NoEntry<'s, M: Machine> {
    /// Nobody has any to spare.
    Exhausted,
    /// This address space may have, but its lock is taken and must not be waited for now. Waiting for it without
    /// holding another one, and beginning again, may help.
    Busy(&'s Core<M>),
}

impl<M: Machine> From<Shortage> for NoEntry<'_, M> {
    fn from(_: Shortage) -> Self {
        Self::Exhausted
    }
}

/// How many chunks there may be.
pub(crate) struct Budget {
    limit: Option<u64>,
    used: AtomicU64,
}

impl Budget {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { limit, used: AtomicU64::new(0) }
    }

    /// Takes the right to a chunk; false if there are as many as may be.
    fn take(&self) -> bool {
        let Some(limit) = self.limit else { return true };
        let more = |used| (used < limit).then_some(used + 1);
        // ORD: Relaxed, both; a plain count.
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    fn give(&self) {
        if self.limit.is_some() {
            self.used.fetch_sub(1, Ordering::Relaxed); // ORD: as in `take`
        }
    }
}

impl<M: Machine> System<M> {
    /// Makes `attempt` with the lock of `core` held; again, a bounded number of times, if it fails only because somebody
    /// else's lock was taken. A failed attempt leaves nothing changed but what reclaiming took away.
    pub(crate) fn with_entries<'s, T>(
        &'s self,
        core: &'s Core<M>,
        mut attempt: impl FnMut(&mut State) -> Result<T, NoEntry<'s, M>>,
    ) -> Result<T, Shortage> {
        for _ in 0..PATIENCE {
            let mut state = core.lock();
            match attempt(&mut state) {
                Ok(done) => return Ok(done),
                Err(NoEntry::Exhausted) => return Err(Shortage),
                Err(NoEntry::Busy(other)) => {
                    drop(state);
                    self.count(|c| &c.pv_reclaim_waits, 1);
                    drop(other.lock());
                }
            }
        }
        Err(Shortage)
    }

    /// A PV entry of the address space, whose lock is held; reclaims if there is neither a free one nor a frame for a
    /// chunk. Then other mappings of this address space, and page-table pages that they leave empty, may be
    /// gone afterwards. `pv` may hold nothing afterwards.
    pub(crate) fn take_pv<'s>(
        &'s self,
        core: &'s Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
    ) -> Result<PvPtr, NoEntry<'s, M>> {
        match self.take_pv_quick(core, state) {
            Ok(entry) => Ok(entry),
            Err(Shortage) => self.take_pv_from_others(core, state, pv),
        }
    }

    /// As [`take_pv`](Self::take_pv), but does not reclaim: for mappings that are not worth another one.
    pub(crate) fn take_pv_quick(&self, core: &Core<M>, state: &mut State) -> Result<PvPtr, Shortage> {
        if let Ok(entry) = self.take_free_pv(state) {
            return Ok(entry);
        }
        let page = self.chunk_page().ok_or(Shortage)?;
        self.add_chunk(core, state, page);
        self.take_free_pv(state)
    }

    #[cold]
    fn take_pv_from_others<'s>(
        &'s self,
        core: &'s Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
    ) -> Result<PvPtr, NoEntry<'s, M>> {
        self.reclaim_for(core, state, pv)?;
        Ok(self.take_free_pv(state)?)
    }

    fn take_free_pv(&self, state: &mut State) -> Result<PvPtr, Shortage> {
        let entry = state.chunks.take().ok_or(Shortage)?;
        self.count(|c| &c.pv_allocated, 1);
        Ok(entry)
    }

    /// Frees a PV entry of the address space, whose lock is held. The entry is on no page's list any more.
    pub(crate) fn free_pv(&self, core: &Core<M>, state: &mut State, entry: PvPtr) {
        self.count(|c| &c.pv_freed, 1);
        if let Some(chunk) = state.chunks.put(entry) {
            self.discard_chunk(core, chunk);
        }
    }

    /// Makes sure that the address space, whose lock is held, has `needed` free PV entries. What was got before a
    /// shortage stays.
    pub(crate) fn reserve_pv<'s>(
        &'s self,
        core: &'s Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        needed: usize,
    ) -> Result<(), NoEntry<'s, M>> {
        let mut have = state.chunks.free_entries(needed);
        while have < needed {
            if let Some(page) = self.chunk_page() {
                self.add_chunk(core, state, page);
                have += ENTRIES_PER_CHUNK;
                continue;
            }
            self.reclaim_for(core, state, pv)?;
            // The entries may lie in one of our own chunks, of which some were counted (H-5).
            let now = if self.mutation().is(Mutation::NoRecount) {
                have + ENTRIES_PER_CHUNK
            } else {
                state.chunks.free_entries(needed)
            };
            // Never round and round: reclaiming that gains nothing has come to its end.
            if now <= have {
                return Err(NoEntry::Exhausted);
            }
            have = now;
        }
        Ok(())
    }

    /// Gives back the chunks of an address space without mappings, whose lock is held.
    pub(crate) fn discard_unused_chunks(&self, core: &Core<M>, state: &mut State) {
        while let Some(chunk) = state.chunks.take_unused() {
            self.discard_chunk(core, chunk);
        }
    }

    /// A page for a chunk, if there may be one more and there is a frame.
    fn chunk_page(&self) -> Option<NonNull<u8>> {
        if !self.chunk_budget().take() {
            return None;
        }
        match self.allocate_frame(FrameUse::PvChunk) {
            Some(frame) => Some(self.machine().direct_map(frame)),
            None => {
                self.chunk_budget().give();
                None
            }
        }
    }

    /// Reclaims until the address space, whose lock is held, has free entries.
    fn reclaim_for<'s>(
        &'s self,
        core: &'s Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
    ) -> Result<(), NoEntry<'s, M>> {
        // A page-table page becomes one chunk more; a chunk that changes hands does not.
        let one_more = self.chunk_budget().take();
        let made = self.reclaim(core, state, pv, one_more);
        if one_more && !matches!(made, Ok(Made::Chunk)) {
            self.chunk_budget().give();
        }
        made.map(|_| ())
    }

    /// Makes a chunk of the address space, whose lock is held, of a page that is counted in the budget.
    pub(super) fn add_chunk(&self, core: &Core<M>, state: &mut State, page: NonNull<u8>) {
        // SAFETY: the page is of a frame that `chunk_page` allocated or that `reclaim` took over, ours and zeroed; it
        // is given back only by `discard_chunk`, unused.
        let chunk = unsafe { ChunkPtr::set_up(page, core.as_owner()) };
        self.count(|c| &c.chunks_allocated, 1);
        state.chunks.push_front(chunk);
        self.chunks_by_age().lock(self.domain_of(chunk)).push(chunk);
    }

    /// Gives back an unused chunk of `core`, whose lock is held; it is off its owner's list.
    fn discard_chunk(&self, core: &Core<M>, chunk: ChunkPtr) {
        self.chunks_by_age().lock(self.domain_of(chunk)).remove(chunk, core.as_owner());
        self.count(|c| &c.chunks_freed, 1);
        self.chunk_budget().give();
        let frame = self.machine().frame_at(chunk.page());
        // SAFETY: allocated for this purpose; the chunk is unused and off both lists, so no pointer into it is left
        // (INV-PV-1), and it was never mapped by a page table of ours.
        unsafe { self.free_frame(frame, FrameUse::PvChunk) };
    }

    /// The domain on whose list the chunk is.
    pub(crate) fn domain_of(&self, chunk: ChunkPtr) -> usize {
        self.machine().domain_of_frame(self.machine().frame_at(chunk.page()))
    }
}
