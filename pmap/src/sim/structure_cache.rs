//! One CPU's paging-structure caches (Intel SDM vol. 3, 4.10.3).
//!
//! A walk may begin below the root with what an earlier walk has read: an entry of the PML4E cache, the
//! PDPTE cache or the PDE cache maps a prefix of the address to the next table and to the rights that
//! the levels above grant. An entry lives until an invalidation must drop it. It outlives a change of
//! the tables, so a table page may be freed only after the invalidation (INV-M-5).

use std::sync::Arc;

use super::memory::Stamp;
use super::tlb::{Filters, Rights};
use crate::{Frame, PAGE_SHIFT, VirtAddr};

/// Entries per level: PDE, PDPTE, PML4E cache. Powers of two.
const SIZES: [usize; 3] = [32, 8, 4];

/// One entry: the table that serves the addresses with this prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    /// Address bits above those that index `table`.
    prefix: u64,
    /// Root of the address space that it belongs to.
    pub(super) root: Frame,
    /// The table that the walk goes on in.
    pub(super) table: Frame,
    /// That table's hand-over at the time of the walk.
    pub(super) stamp: Stamp,
    /// What the levels above `table` permit.
    pub(super) rights: Rights,
}

/// The three caches.
pub(super) struct StructureCache {
    pde: [Option<Cached>; SIZES[0]],
    pdpte: [Option<Cached>; SIZES[1]],
    pml4e: [Option<Cached>; SIZES[2]],
    held: usize,
    filters: Arc<Filters>,
}

impl StructureCache {
    pub(super) fn new(filters: Arc<Filters>) -> Self {
        Self { pde: [None; SIZES[0]], pdpte: [None; SIZES[1]], pml4e: [None; SIZES[2]], held: 0, filters }
    }

    /// Bits of `va` that choose the table of `level` (1 = page table, found by a PDE … 3 = found by a PML4E).
    fn prefix(va: VirtAddr, level: u32) -> u64 {
        va.0 >> (PAGE_SHIFT + 9 * level)
    }

    fn cache(&self, level: u32) -> &[Option<Cached>] {
        match level {
            1 => &self.pde,
            2 => &self.pdpte,
            _ => &self.pml4e,
        }
    }

    fn slot(&mut self, level: u32, prefix: u64) -> &mut Option<Cached> {
        let cache: &mut [_] = match level {
            1 => &mut self.pde,
            2 => &mut self.pdpte,
            _ => &mut self.pml4e,
        };
        let size = cache.len();
        &mut cache[prefix as usize & (size - 1)]
    }

    /// The table of `level` for `va`, if cached.
    pub(super) fn lookup(&self, va: VirtAddr, level: u32) -> Option<Cached> {
        let prefix = Self::prefix(va, level);
        let cache = self.cache(level);
        cache[prefix as usize & (cache.len() - 1)].filter(|cached| cached.prefix == prefix)
    }

    /// Whether a walk of `va` would begin in a cache.
    pub(super) fn lookup_any(&self, va: VirtAddr) -> bool {
        self.held > 0 && (1..=3).any(|level| self.lookup(va, level).is_some())
    }

    /// Remembers that `table` is the table of `level` for `va`.
    pub(super) fn insert(
        &mut self,
        va: VirtAddr,
        level: u32,
        root: Frame,
        table: Frame,
        stamp: Stamp,
        rights: Rights,
    ) {
        let prefix = Self::prefix(va, level);
        self.filters.add_frame(table);
        let old = self.slot(level, prefix).replace(Cached { prefix, root, table, stamp, rights });
        match old {
            Some(old) => self.filters.remove_frame(old.table),
            None => self.held += 1,
        }
    }

    /// Forgets what a walk of `va` would use.
    pub(super) fn drop_for(&mut self, va: VirtAddr) {
        for level in 1..=3 {
            if self.lookup(va, level).is_some() {
                self.forget(va, level);
            }
        }
    }

    /// Forgets the entry for `va` at one level; there must be one.
    pub(super) fn forget(&mut self, va: VirtAddr, level: u32) {
        let prefix = Self::prefix(va, level);
        if let Some(old) = self.slot(level, prefix).take() {
            self.filters.remove_frame(old.table);
            self.held -= 1;
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        if self.held == 0 {
            return;
        }
        let filters = &self.filters;
        let all = self.pde.iter_mut().chain(&mut self.pdpte).chain(&mut self.pml4e);
        for old in all.filter_map(Option::take) {
            filters.remove_frame(old.table);
        }
        self.held = 0;
    }

    /// Every entry, with the level of the table it leads to.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Cached)> {
        (1..=3).flat_map(|level| self.cache(level).iter().flatten().map(move |cached| (level, cached)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, Owner};
    use super::*;

    #[test]
    fn levels_are_apart_and_the_filter_follows() {
        let memory = Memory::new(16).unwrap();
        let table = memory.allocate(Owner::PageTable, true).unwrap();
        let stamp = memory.stamp(table);
        let filters = Arc::new(Filters::new());
        let mut cache = StructureCache::new(Arc::clone(&filters));
        let va = VirtAddr(0x1234_5678_9000);
        cache.insert(va, 1, Frame(1), table, stamp, Rights::ALL);
        assert!(cache.lookup(va, 1).is_some());
        assert!(cache.lookup(va, 2).is_none());
        assert!(cache.lookup(va.wrapping_add(1 << 21), 1).is_none(), "another page table");
        assert!(cache.lookup(VirtAddr(va.0 | 0x1ff_fff), 1).is_some(), "the same page table");
        assert!(filters.may_hold_frame(table));
        cache.insert(va, 2, Frame(1), table, stamp, Rights::ALL);
        cache.drop_for(va);
        assert_eq!(cache.iter().count(), 0);
        assert!(!filters.may_hold_frame(table));
        cache.insert(va, 3, Frame(1), table, stamp, Rights::ALL);
        cache.clear();
        assert!(!filters.may_hold_frame(table) && cache.lookup(va, 3).is_none());
    }
}
