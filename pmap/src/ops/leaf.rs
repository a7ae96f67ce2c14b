//! What every operation does when a leaf mapping comes or goes: PV entries, counts, page states.

use crate::addr::VirtAddr;
use crate::entry::{ACCESSED, Entry, MANAGED, Slot, WIRED};
use crate::error::Shortage;
use crate::flush::Gather;
use crate::machine::{FrameUse, Machine};
use crate::pmap::{Core, State};
use crate::pv::{ChunkPtr, PvPtr, PvSlot};
use crate::record::PageRecord;
use crate::system::System;

impl<M: Machine> System<M> {
    /// A PV entry of the address space, from a new chunk if all are full.
    pub(crate) fn take_pv(&self, core: &Core<M>, state: &mut State) -> Result<PvPtr, Shortage> {
        if let Some(entry) = state.chunks.take() {
            self.count(|c| &c.pv_allocated, 1);
            return Ok(entry);
        }
        let frame = self.allocate_frame(FrameUse::PvChunk).ok_or(Shortage)?;
        // SAFETY: the frame is zeroed and ours; it is given back only by `free_pv`, once the chunk is
        // unused.
        let chunk = unsafe { ChunkPtr::set_up(self.machine().direct_map(frame), frame, core.as_owner()) };
        self.count(|c| &c.chunks_allocated, 1);
        state.chunks.push_front(chunk);
        let entry = state.chunks.take().ok_or(Shortage)?;
        self.count(|c| &c.pv_allocated, 1);
        Ok(entry)
    }

    /// Frees a PV entry that is on no list any more.
    pub(crate) fn free_pv(&self, state: &mut State, entry: PvPtr) {
        self.count(|c| &c.pv_freed, 1);
        if let Some(chunk) = state.chunks.put(entry) {
            self.count(|c| &c.chunks_freed, 1);
            // SAFETY: allocated by `take_pv` for this purpose; the chunk is unused and off its list, so no
            // pointer into it is left (INV-PV-1), and it was never mapped by a page table of ours.
            unsafe { self.free_frame(chunk.frame(), FrameUse::PvChunk) };
        }
    }

    /// Accounts for a leaf entry that is gone, and moves its accessed and dirty bits to the page.
    pub(crate) fn account_removed(
        &self,
        core: &Core<M>,
        state: &mut State,
        old: Entry,
    ) -> Option<&PageRecord> {
        core.add_resident(-1);
        if old.has(WIRED) {
            state.wired -= 1;
        }
        self.transfer_bits(old)
    }

    /// Moves the accessed and dirty bits of an entry that is gone to its page, if that is managed.
    pub(crate) fn transfer_bits(&self, old: Entry) -> Option<&PageRecord> {
        if !old.has(MANAGED) {
            return None;
        }
        let page = self.page(old.frame())?;
        if old.is_modified() {
            page.set_dirty();
        }
        if old.has(ACCESSED) {
            page.set_referenced();
        }
        Some(page)
    }

    /// Destroys the valid leaf mapping at `va`, whose entry is `slot`, without flushing: the translation
    /// goes into `gather`, and inside a DI section the page is marked before its PV-list lock can be
    /// released (INV-DI-5). Returns whether the leaf table went, too.
    pub(crate) fn remove_leaf(
        &self,
        core: &Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        gather: &mut Gather<'_, M>,
        va: VirtAddr,
        slot: Slot<'_, M>,
    ) -> bool {
        let old = slot.take();
        gather.add(va, old);
        if let Some(page) = self.account_removed(core, state, old) {
            pv.change_to(page);
            // First the mark: who sees the page without its writeable mark, which goes with the last PV entry,
            // sees the generation to wait for.
            if let Some(word) = pv.word() {
                self.machine().participant().mark(word);
            }
            let entry = pv.find(page, core.as_owner(), va);
            debug_assert!(entry.is_some(), "a managed mapping has a PV entry");
            if let Some(entry) = entry {
                pv.unlink(page, entry);
                self.free_pv(state, entry);
            }
        }
        self.drop_table_entry(core, va, gather)
    }
}
