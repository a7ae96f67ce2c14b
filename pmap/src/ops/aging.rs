//! Modified and referenced: what the page daemon asks.

use crate::addr::VirtRange;
use crate::entry::{ACCESSED, DIRTY, Entry, PRESENT};
use crate::machine::Machine;
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
        page.is_writeable() && self.any_mapping(page, Entry::is_modified)
    }

    /// Whether some mapping of the page has been accessed since it was made or last cleared.
    #[must_use]
    pub fn is_referenced(&self, page: &PageRecord) -> bool {
        self.any_mapping(page, |entry| entry.has(PRESENT | ACCESSED))
    }

    /// Number of mappings of the page that are wired.
    #[must_use]
    pub fn page_wired_mappings(&self, page: &PageRecord) -> u64 {
        let mut count = 0;
        // A change of the list starts the scan over, and the count with it.
        let mut seen = page.generation();
        self.any_mapping(page, |entry| {
            if page.generation() != seen {
                seen = page.generation();
                count = 0;
            }
            count += u64::from(entry.has(PRESENT | crate::entry::WIRED));
            false
        });
        count
    }

    /// Clears the dirty bit of every mapping of the page, for a page that is about to be written out. On
    /// return the next store by any CPU sets it again. The page's own mark is the caller's.
    pub fn clear_modify(&self, page: &PageRecord) {
        if !page.is_writeable() {
            return;
        }
        let mut pv = self.pv_locks().write(page.frame());
        'over: loop {
            for entry in page.pv_entries() {
                let Ok((core, state)) = self.lock_owner(&mut pv, page, entry) else { continue 'over };
                let va = entry.va();
                if let Some(slot) = self.leaf_slot(core.root(), va)
                    && slot.load().is_modified()
                {
                    let old = slot.clear(DIRTY);
                    if old.has(ACCESSED) {
                        self.invalidate(core, Invalidation::Range(VirtRange::page_of(va)));
                    }
                }
                drop(state);
            }
            return;
        }
    }

    /// Counts the mappings through which the page was accessed, up to five, and clears their accessed bits;
    /// mappings that were looked at go to the end of the list, so that calls share the work. Dirty
    /// bits that are met are noted in the page's mark. Returns 0 only if there really was no access.
    pub fn ts_referenced(&self, page: &PageRecord) -> u32 {
        let mut found = 0;
        let mut pv = self.pv_locks().write(page.frame());
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
                        self.invalidate(core, Invalidation::Range(VirtRange::page_of(va)));
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
