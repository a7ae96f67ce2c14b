//! A page's PV list. Every function needs the page's PV-list lock: for reading to walk, for writing to
//! change.

use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, Ordering};

use super::{PvEntry, PvPtr};
use crate::record::PageRecord;

#[inline]
fn link(to: &AtomicPtr<PvEntry>) -> Option<PvPtr> {
    // ORD: Relaxed, here and below; protected by the page's PV-list lock.
    PvPtr::from_raw(to.load(Ordering::Relaxed))
}

#[inline]
fn as_raw(entry: Option<PvPtr>) -> *mut PvEntry {
    entry.map_or(null_mut(), PvPtr::as_ptr)
}

impl PageRecord {
    /// The first PV entry.
    #[inline]
    pub(crate) fn first_pv(&self) -> Option<PvPtr> {
        link(&self.pv_first)
    }

    /// Whether `entry`, which is on the list, is alone there.
    #[inline]
    pub(crate) fn is_only_pv(&self, entry: PvPtr) -> bool {
        self.first_pv() == Some(entry) && link(&entry.next).is_none()
    }

    /// The PV entries, oldest first.
    #[inline]
    pub(crate) fn pv_entries(&self) -> impl Iterator<Item = PvPtr> + use<> {
        let mut at = self.first_pv();
        core::iter::from_fn(move || {
            let entry = at?;
            at = link(&entry.next);
            Some(entry)
        })
    }

    /// Number of changes that the list has seen.
    #[inline]
    pub(crate) fn generation(&self) -> u64 {
        // ORD: Relaxed; protected by the PV-list lock.
        self.pv_generation.load(Ordering::Relaxed)
    }

    #[inline]
    fn count_change(&self) {
        // ORD: Relaxed; protected by the PV-list lock held for writing, so a plain increment is enough.
        self.pv_generation.store(self.generation() + 1, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn append_pv(&self, entry: PvPtr) {
        let last = link(&self.pv_last);
        // ORD: Relaxed, all four; as in `link`.
        entry.next.store(null_mut(), Ordering::Relaxed);
        entry.prev.store(as_raw(last), Ordering::Relaxed); // ORD: as in `link`
        match last {
            Some(l) => l.next.store(entry.as_ptr(), Ordering::Relaxed), // ORD: as in `link`
            None => self.pv_first.store(entry.as_ptr(), Ordering::Relaxed), // ORD: as in `link`
        }
        self.pv_last.store(entry.as_ptr(), Ordering::Relaxed); // ORD: as in `link`
        self.count_change();
    }

    #[inline]
    pub(super) fn unlink_pv(&self, entry: PvPtr) {
        let (next, prev) = (link(&entry.next), link(&entry.prev));
        match prev {
            Some(p) => p.next.store(as_raw(next), Ordering::Relaxed), // ORD: as in `link`
            None => self.pv_first.store(as_raw(next), Ordering::Relaxed), // ORD: as in `link`
        }
        match next {
            Some(n) => n.prev.store(as_raw(prev), Ordering::Relaxed), // ORD: as in `link`
            None => self.pv_last.store(as_raw(prev), Ordering::Relaxed), // ORD: as in `link`
        }
        self.count_change();
    }
}
