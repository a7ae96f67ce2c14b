//! Asking what is mapped.

use crate::addr::{Frame, PhysAddr, VirtAddr};
use crate::entry::{Entry, MANAGED};
use crate::machine::Machine;
use crate::pmap::Pmap;
use crate::protection::Protection;
use crate::record::PageRecord;
use crate::system::System;

impl<M: Machine> Pmap<'_, M> {
    fn entry_at(&self, va: VirtAddr) -> Option<Entry> {
        let slot = self.system().leaf_slot(self.root(), va)?;
        Some(slot.load()).filter(|entry| entry.is_present())
    }

    /// The physical address that `va` translates to; `None` if nothing is mapped there (H-52).
    #[must_use]
    pub fn extract(&self, va: VirtAddr) -> Option<PhysAddr> {
        if !va.is_user() {
            return None;
        }
        let _state = self.core().lock();
        self.entry_at(va).map(|entry| PhysAddr(entry.frame().addr().0 | va.page_offset()))
    }

    /// The rights of the mapping at `va`; `None` if nothing is mapped there.
    #[must_use]
    pub fn protection(&self, va: VirtAddr) -> Option<Protection> {
        if !va.is_user() {
            return None;
        }
        let _state = self.core().lock();
        self.entry_at(va).map(Entry::protection)
    }

    /// The managed page mapped at `va`, if the mapping permits `prot`, with a hold on it that keeps its
    /// identity. Given back with [`System::unhold`].
    #[must_use = "the hold must be given back"]
    pub fn extract_and_hold(&self, va: VirtAddr, prot: Protection) -> Option<Frame> {
        if !va.is_user() {
            return None;
        }
        // The hold is taken under the pmap lock: whoever removes the mapping to reuse the page comes later
        // and sees it.
        let _state = self.core().lock();
        let entry = self.entry_at(va).filter(|e| e.has(MANAGED) && e.protection().contains(prot))?;
        self.system().page(entry.frame())?.hold();
        Some(entry.frame())
    }
}

impl<M: Machine> System<M> {
    /// Undoes one [`Pmap::extract_and_hold`]. Returns false, and does nothing, if the page was not held.
    pub fn unhold(&self, page: &PageRecord) -> bool {
        page.unhold()
    }
}
