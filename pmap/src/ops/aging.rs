//! Modified and referenced: what the page daemon asks.

use core::cell::Cell;
use core::ops::ControlFlow;

use crate::entry::{ACCESSED, DIRTY, Entry, PRESENT, WIRED};
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::Core;
use crate::pv::PvPtr;
use crate::record::PageRecord;
use crate::shootdown::Invalidation;
use crate::system::System;

/// Enough references for the page daemon; scanning on would cost more than it tells.
const TS_REFERENCED_MAX: u32 = 5;

impl<M: Machine> System<M> {
    /// Whether some mapping of the page has been stored through since it was made or last cleared. The
    /// page's own mark, [`PageRecord::is_dirty`], is separate. Racy unless the page is kept from
    /// being entered.
    #[must_use]
    pub fn is_modified(&self, page: &PageRecord) -> bool {
        page.is_writeable() && self.any_mapping(page, || {}, Entry::is_modified)
    }

    /// Whether some mapping of the page has been accessed since it was made or last cleared.
    #[must_use]
    pub fn is_referenced(&self, page: &PageRecord) -> bool {
        self.any_mapping(page, || {}, |entry| entry.has(PRESENT | ACCESSED))
    }

    /// Number of mappings of the page that are wired.
    #[must_use]
    pub fn page_wired_mappings(&self, page: &PageRecord) -> u64 {
        let count = Cell::new(0);
        self.any_mapping(
            page,
            || count.set(0),
            |entry| {
                count.set(count.get() + u64::from(entry.has(PRESENT | WIRED)));
                false
            },
        );
        count.get()
    }

    /// Clears the dirty bit of every mapping of the page, for a page that is about to be written out. On
    /// return the next store through any of these mappings sets it again. The page's own mark is the caller's.
    ///
    /// A mapping that another thread is removing at this moment is none of them: its dirty bit is in the page's
    /// mark already, and stores through it may go on until that removal has flushed. Who must not miss
    /// them calls [`remove_write`](Self::remove_write), which waits.
    ///
    /// # Panics
    ///
    /// If the page belongs to another system.
    pub fn clear_modify(&self, page: &PageRecord) {
        self.assert_own(page);
        // Also if the page is not marked writeable: `remove_write` on another CPU may have taken the mark, and still wait for
        // somebody who took the right to write and has not flushed. Nobody could tell from the mark that stores go on.
        if self.mutation().is(Mutation::TrustWriteableMark) && !page.is_writeable() {
            return;
        }
        let mut pv = self.pv_locks().write(page);
        let clean = |core: &Core<M>, pv: PvPtr| {
            let va = pv.va();
            if let Some(slot) = self.leaf_slot(core.root(), va)
                && (slot.load().is_modified() || self.has_delayed(core))
            {
                let old = slot.clear(DIRTY);
                if old.has(ACCESSED) && !self.mutation().is(Mutation::NoFlushOfClean) {
                    self.invalidate(core, Invalidation::of_page(va));
                }
            }
            ControlFlow::<()>::Continue(())
        };
        self.walk_mappings(&mut pv, page, || {}, clean);
    }

    /// Counts the mappings through which the page was accessed, up to five, and clears their accessed bits;
    /// mappings that were looked at go to the end of the list, so that calls share the work. Dirty
    /// bits that are met are noted in the page's mark. Returns 0 only if there really was no access.
    ///
    /// # Panics
    ///
    /// If the page belongs to another system.
    pub fn ts_referenced(&self, page: &PageRecord) -> u32 {
        self.assert_own(page);
        let mut found = 0;
        let mut pv = self.pv_locks().write(page);
        'over: loop {
            let Some(first) = page.first_pv() else { return found };
            let mut entry = first;
            loop {
                let Ok((core, state)) = self.lock_owner(&mut pv, page, entry) else { continue 'over };
                let va = entry.va();
                if let Some(slot) = self.leaf_slot(core.root(), va) {
                    let now = slot.load();
                    if now.is_modified() {
                        page.set_dirty();
                    }
                    if now.has(ACCESSED) {
                        slot.clear(ACCESSED);
                        if !self.mutation().is(Mutation::NoFlushOfUnaccessed) {
                            self.invalidate(core, Invalidation::of_page(va));
                        }
                        found += 1;
                    }
                }
                drop(state);
                pv.rotate(page, entry);
                match page.first_pv() {
                    Some(next) if next != first && found < TS_REFERENCED_MAX => entry = next,
                    _ => return found,
                }
            }
        }
    }
}
