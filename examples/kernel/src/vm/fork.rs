//! A copy of an address space: private pages are shared until somebody stores to them.

use pmap::Protection;

use super::{Shortage, Space};

impl Space {
    /// A copy as of now. Threads may run in this space meanwhile: a store either is in the copy, or comes after it.
    ///
    /// # Errors
    ///
    /// [`Shortage`] if there is no frame for the root table.
    pub(crate) fn fork(&self) -> Result<Self, Shortage> {
        let child = Self::new(self.vm, self.limits)?;
        // What the page tables permit is what the map says, and nobody faults in this space while it is copied.
        let _no_lag = self.lag.write();
        let map = self.map.write();
        {
            let private = self.private.lock();
            private.values().for_each(|page| page.lock().holders += 1);
            child.private.lock().clone_from(&private);
        }
        // Before the tables are copied: neither side may store to what both see.
        let writable =
            map.iter().filter(|vma| vma.is_private() && vma.protection.contains(Protection::WRITE));
        self.pmap.protect_ranges(writable.map(|vma| vma.range), Protection::READ | Protection::EXECUTE);
        for vma in map.iter().filter(|vma| !vma.protection.is_empty()) {
            child.pmap.copy_from(&self.pmap, vma.range);
        }
        child.map.write().clone_from(&map);
        self.vm.counts.forks.add_one();
        Ok(child)
    }
}
