//! An address space: its map, its private pages, and its pmap.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use pmap::{PAGE_SHIFT, VirtRange};

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
}

impl Space {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// [`Shortage`] if there is no frame for the root table.
    pub(crate) fn new(vm: &'static Vm) -> Result<Self, Shortage> {
        let pmap = vm.system().create().map_err(|_| Shortage)?;
        Ok(Self { vm, pmap, lag: RwLock::default(), map: RwLock::default(), private: Mutex::default() })
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
    /// [`Occupied`] if something is mapped in the range; nothing has changed.
    pub(crate) fn insert(&self, vma: Vma) -> Result<(), Occupied> {
        self.map.write().insert(vma)
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
