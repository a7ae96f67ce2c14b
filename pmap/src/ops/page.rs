//! Taking a page's mappings away, in whatever address spaces they are: `remove_all` and `remove_write`.
//!
//! Both end with the wait for delayed invalidations, without any lock: another thread may have unlinked
//! its PV entry already, so that we did not see it, and not have flushed yet (H-28).

use core::ops::ControlFlow;

use crate::addr::{Frame, VirtRange};
use crate::entry::{ACCESSED, DIRTY, WRITABLE};
use crate::error::{FrameError, RetireError, StillMapped};
use crate::flush::{Freed, Gather};
use crate::machine::{Guarantee, Machine};
use crate::mutation::Mutation;
use crate::pmap::Core;
use crate::pv::PvPtr;
use crate::record::PageRecord;
use crate::shootdown::Invalidation;
use crate::system::System;

impl<M: Machine> System<M> {
    /// Removes every managed mapping of `page`, wired ones too, from all address spaces. The page's dirty and
    /// referenced marks take up what the mappings knew.
    ///
    /// On return no CPU can reach the page through a mapping, by whomever it was removed. The caller keeps the
    /// page from being entered anew meanwhile. Must not be called inside a DI section or with a lock
    /// held that a DI section may need: it waits.
    ///
    /// # Panics
    ///
    /// If the page belongs to another system.
    pub fn remove_all(&self, page: &PageRecord) {
        self.assert_own(page);
        self.count(|c| &c.remove_all_calls, 1);
        let mut freed = Freed::default();
        let mut pv = self.pv_locks().write(page);
        let skips_wait = page.first_pv().is_none() && self.mutation().is(Mutation::NoWaitIfEmpty);
        while let Some(entry) = page.first_pv() {
            let Ok((core, mut state)) = self.lock_owner(&mut pv, page, entry) else { continue };
            let va = entry.va();
            let mut gather = Gather::new(self, core);
            if let Some(slot) = self.leaf_slot(core.root(), va) {
                let old = slot.take();
                gather.add(va, old);
                self.account_removed(core, &mut state, old);
                self.drop_table_entry(core, &mut state, va, slot, &mut gather);
            }
            // Flushed before the PV entry goes: nothing is delayed here.
            freed.merge(self, gather.flush());
            self.guarantee_unmapped(core, VirtRange::page_of(va));
            pv.unlink(page, entry);
            self.free_pv(core, &mut state, entry);
        }
        page.clear_writeable();
        drop(pv);
        if !skips_wait {
            self.wait_for_invalidations(page);
        }
        freed.give_back(self);
        self.machine().guarantee(Guarantee::PageUnmapped { frame: page.frame() });
    }

    /// Takes the right to write away from every mapping of `page`; their dirty bits move to the page.
    ///
    /// On return no CPU can store to the page through a mapping. The caller keeps the page from being
    /// entered anew meanwhile. Must not be called inside a DI section: it waits.
    ///
    /// # Panics
    ///
    /// If the page belongs to another system.
    pub fn remove_write(&self, page: &PageRecord) {
        self.assert_own(page);
        if page.is_writeable() {
            self.count(|c| &c.remove_write_calls, 1);
            self.write_protect_mappings(page);
        } else if self.mutation().is(Mutation::NoWaitIfReadOnly) {
            self.machine().guarantee(Guarantee::PageReadOnly { frame: page.frame() });
            return;
        }
        // Also if no mapping is writable: the last one may have been unlinked by somebody who has not flushed.
        self.wait_for_invalidations(page);
        self.machine().guarantee(Guarantee::PageReadOnly { frame: page.frame() });
    }

    fn write_protect_mappings(&self, page: &PageRecord) {
        let mut pv = self.pv_locks().write(page);
        let restrict = |core: &Core<M>, pv: PvPtr| {
            let va = pv.va();
            let old = self
                .leaf_slot(core.root(), va)
                .and_then(|slot| slot.update(|e| e.has(WRITABLE).then(|| e.without(WRITABLE | DIRTY))));
            if let Some(old) = old {
                if old.is_modified() {
                    page.set_dirty();
                }
                if old.has(ACCESSED) {
                    self.invalidate(core, Invalidation::of_page(va));
                }
                self.guarantee_restricted(core, VirtRange::page_of(va));
            }
            ControlFlow::<()>::Continue(())
        };
        // Over again after a change: a mapping that is read-only already costs a look.
        self.walk_mappings(&mut pv, page, || {}, restrict);
        page.clear_writeable();
    }

    /// Whether the page has a managed mapping. Says nothing about translations that are still being flushed.
    ///
    /// # Panics
    ///
    /// If the page belongs to another system.
    #[must_use]
    pub fn page_is_mapped(&self, page: &PageRecord) -> bool {
        self.assert_own(page);
        let _list = self.pv_locks().read(page);
        page.first_pv().is_some()
    }

    /// Excludes `page` from management, so that its mappings get no PV entries, or takes it in again.
    ///
    /// A mapping that somebody is entering at this moment may be of the one kind or of the other: the caller keeps the page from
    /// being entered meanwhile. Unmanaged mappings that there are when the page is taken in are not known, and remain.
    ///
    /// # Errors
    ///
    /// [`StillMapped`] if the page has managed mappings; nothing has changed.
    ///
    /// # Panics
    ///
    /// If the page belongs to another system.
    pub fn set_unmanaged(&self, page: &PageRecord, unmanaged: bool) -> Result<(), StillMapped> {
        self.assert_own(page);
        let _list = self.pv_locks().write(page);
        if page.first_pv().is_some() {
            return Err(StillMapped);
        }
        page.set_unmanaged(unmanaged);
        Ok(())
    }

    /// Takes `frame` out of use for good: no entry maps it, the pmap keeps nothing in it, whoever hands it out.
    /// For frames that some processors must not use, as [`SKZ63`](crate::SKZ63), and those with errors.
    /// Frame 0 is out of use from the beginning: entries that were cleared point there, and some processors read
    /// through them (L1 terminal fault).
    ///
    /// # Errors
    ///
    /// [`RetireError`] if the page has managed mappings or is just getting one, holds something of the pmap's, or is none of
    /// the machine's memory; nothing has changed. Unmanaged mappings are not known: they remain, and one that somebody is
    /// entering at this moment may come into being all the same.
    pub fn retire(&self, frame: Frame) -> Result<(), RetireError> {
        let page = self.page(frame).ok_or(RetireError::Frame(FrameError::NotMemory))?;
        let _list = self.pv_locks().write(page);
        if page.first_pv().is_some() {
            return Err(RetireError::StillMapped);
        }
        page.retire()
    }

    /// Waits until every DI section that marked the page has finished its flushes.
    fn wait_for_invalidations(&self, page: &PageRecord) {
        if !self.mutation().is(Mutation::NoDiWait) {
            self.machine().participant().wait(self.pv_locks().word(page));
        }
    }
}
