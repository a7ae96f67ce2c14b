//! What every operation does when a leaf mapping comes or goes: PV entries, counts, page states.

use crate::addr::VirtAddr;
use crate::entry::{ACCESSED, Entry, MANAGED, Slot, WIRED};
use crate::flush::Gather;
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::{Core, State};
use crate::pv::{PvPtr, PvSlot};
use crate::record::{Knew, PageRecord};
use crate::system::System;

/// A mapping that is to go.
#[derive(Clone, Copy)]
pub(crate) enum Mapping {
    /// By its address.
    At(VirtAddr),
    /// By its PV entry, which spares the search for it on the page's list.
    Of(PvPtr),
}

impl Mapping {
    fn va(self) -> VirtAddr {
        match self {
            Self::At(va) => va,
            Self::Of(entry) => entry.va(),
        }
    }
}

impl<M: Machine> System<M> {
    /// Accounts for a leaf entry that is gone, and moves its accessed and dirty bits to the page.
    pub(crate) fn account_removed(
        &self,
        core: &Core<M>,
        state: &mut State,
        old: Entry,
    ) -> Option<&PageRecord> {
        self.count_removed(core, state, old);
        self.transfer_bits(old)
    }

    /// Accounts for a leaf entry that is gone.
    fn count_removed(&self, core: &Core<M>, state: &mut State, old: Entry) {
        core.add_resident(-1);
        if old.has(WIRED) {
            state.wired -= 1;
        }
    }

    /// The managed page of an entry.
    fn page_of(&self, entry: Entry) -> Option<&PageRecord> {
        if entry.has(MANAGED) { self.page(entry.frame()) } else { None }
    }

    /// What an entry that is gone knew of its page.
    fn knew(&self, old: Entry) -> Knew {
        Knew {
            modified: old.is_modified() && !self.mutation().is(Mutation::ForgetDirty),
            referenced: old.has(ACCESSED) && !self.mutation().is(Mutation::ForgetReferenced),
        }
    }

    /// Moves the accessed and dirty bits of an entry that is gone to its page, if that is managed.
    pub(crate) fn transfer_bits(&self, old: Entry) -> Option<&PageRecord> {
        let page = self.page_of(old)?;
        page.take_up(self.knew(old), false);
        Some(page)
    }

    /// Destroys a valid leaf mapping, whose entry is `slot`, without flushing: the translation
    /// goes into `gather`, and inside a DI section the page is marked before its PV-list lock can be
    /// released (INV-DI-5). Returns whether the leaf table went, too.
    pub(crate) fn remove_leaf(
        &self,
        core: &Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        gather: &mut Gather<'_, M>,
        mapping: Mapping,
        slot: Slot<'_, M>,
    ) -> bool {
        let (entry, table_gone) = self.unmap_leaf(core, state, pv, gather, mapping, slot);
        if let Some(entry) = entry {
            self.free_pv(core, state, entry);
        }
        table_gone
    }

    /// As [`remove_leaf`](Self::remove_leaf), but returns the PV entry of a managed mapping, which is on no list
    /// any more, for the caller to free.
    pub(crate) fn unmap_leaf(
        &self,
        core: &Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        gather: &mut Gather<'_, M>,
        mapping: Mapping,
        slot: Slot<'_, M>,
    ) -> (Option<PvPtr>, bool) {
        let va = mapping.va();
        let old = slot.take();
        gather.add(va, old);
        self.count_removed(core, state, old);
        let mut entry = None;
        if let Some(page) = self.page_of(old) {
            pv.change_to(page);
            // First the mark: who sees the page without its writeable mark, which goes with the last PV entry,
            // sees the generation to wait for.
            if let Some(word) = pv.word()
                && !self.mutation().is(Mutation::NoMark)
            {
                self.machine().participant().mark(word);
            }
            entry = match mapping {
                Mapping::At(va) => pv.find(page, core.as_owner(), va),
                Mapping::Of(entry) => Some(entry),
            };
            debug_assert!(entry.is_some(), "a managed mapping has a PV entry");
            if let Some(entry) = entry {
                pv.unlink_knowing(page, entry, self.knew(old));
            }
        }
        (entry, self.drop_table_entry(core, state, va, slot, gather))
    }
}
