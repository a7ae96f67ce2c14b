//! An address space: its map, its private pages, and its pmap.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use pmap::{PAGE_SHIFT, VirtRange};

use super::limits::{InsertError, LimitReached, Limits};
use super::map::{Map, Occupied};
use super::page::PageRef;
use super::{Shortage, SpacePmap, Vm, Vma};
use crate::sched::{self, Mutex, RwLock};

/// Private pages by page number.
pub(super) type Private = BTreeMap<u64, PageRef>;

/// An address space. Dropped when no thread runs in it and no CPU has it loaded.
pub(crate) struct Space {
    pub(super) vm: &'static Vm,
    pub(super) pmap: SpacePmap,
    /// Held shared from a change of the map until the page tables have followed. A fork copies both, so it holds this exclusively.
    pub(super) lag: RwLock<()>,
    pub(super) map: RwLock<Map>,
    pub(super) private: Mutex<Private>,
    pub(super) limits: Limits,
    /// Mapped pages that are out of the map while their records still exist.
    pub(super) leaving: AtomicU64,
}

impl Space {
    /// An empty one, which may have what `limits` say.
    ///
    /// # Errors
    ///
    /// [`Shortage`] if there is no frame for the root table.
    pub(crate) fn new(vm: &'static Vm, limits: Limits) -> Result<Self, Shortage> {
        let pmap = vm.system().create().map_err(|_| Shortage)?;
        let (lag, map, private) = (RwLock::default(), RwLock::default(), Mutex::default());
        Ok(Self { vm, pmap, lag, map, private, limits, leaving: AtomicU64::new(0) })
    }

    /// What a CPU that runs the space activates.
    #[must_use]
    pub(crate) fn pmap(&self) -> &SpacePmap {
        &self.pmap
    }

    /// Maps something. Nothing is entered into the page tables: faults do that.
    ///
    /// # Errors
    ///
    /// [`InsertError`]; nothing has changed.
    pub(crate) fn insert(&self, vma: Vma) -> Result<(), InsertError> {
        let mut map = self.map.write();
        if self.limits != Limits::NONE {
            // ORD: Relaxed; it grows under the map's lock, and to see it shrink late only refuses more.
            let leaving = self.leaving.load(Ordering::Relaxed);
            let pages: u64 = map.iter().map(|vma| vma.range.pages()).sum();
            if map.len() >= self.limits.ranges || pages + leaving + vma.range.pages() > self.limits.pages {
                return Err(InsertError::LimitReached);
            }
        }
        map.insert(vma).map_err(|Occupied| InsertError::Occupied)
    }

    /// Whether a change of part of what is mapped leaves no more ranges than there may be. The map is locked exclusively.
    pub(super) fn may_cut(&self, map: &Map, range: VirtRange) -> Result<(), LimitReached> {
        let fits = map.len().saturating_add(map.cuts(range)) <= self.limits.ranges;
        if fits { Ok(()) } else { Err(LimitReached) }
    }

    /// Takes the private pages of `range` out of the table. The map is locked exclusively.
    pub(super) fn take_private(&self, range: VirtRange) -> Vec<PageRef> {
        let (first, end) = (range.start().0 >> PAGE_SHIFT, range.end().0 >> PAGE_SHIFT);
        self.private.lock().extract_if(first..end, |_, _| true).map(|(_, page)| page).collect()
    }
}

impl Drop for Space {
    /// No thread runs in it any more, and its pages are gone ([`clear`](Self::clear)). CPUs that keep it loaded for nobody's sake leave it; then
    /// the pmap can go.
    fn drop(&mut self) {
        while !self.pmap.active_cpus().is_empty() {
            sched::leave_address_spaces();
            sched::sleep(1);
        }
    }
}
