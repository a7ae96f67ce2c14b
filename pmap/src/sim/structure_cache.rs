//! One CPU's paging-structure caches (Intel SDM vol. 3, 4.10.3).
//!
//! A walk may begin below the root with what an earlier walk has read: an entry of the PML4E cache, the
//! PDPTE cache or the PDE cache maps a prefix of the address to the next table and to the rights that
//! the levels above grant. Entries are tagged by PCID; there are no global ones. An entry lives until an invalidation must drop it. It outlives a change of
//! the tables, so a table page may be freed only after the invalidation (INV-M-5).

use std::sync::Arc;

use super::memory::Stamp;
use super::tlb::{Filters, Rights};
use crate::{Frame, PAGE_SHIFT, Pcid, VirtAddr};

/// Entries per level: PDE, PDPTE, PML4E cache. Powers of two.
const SIZES: [usize; 3] = [32, 16, 8];

/// One entry: the table that serves the addresses with this prefix.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cached {
    /// Address bits above those that index `table`.
    prefix: u64,
    /// The PCID under which it was filled.
    pub(super) pcid: Pcid,
    /// Root of the address space that it belongs to.
    pub(super) root: Frame,
    /// The table that the walk goes on in.
    pub(super) table: Frame,
    /// That table's hand-over at the time of the walk.
    pub(super) stamp: Stamp,
    /// What the levels above `table` permit.
    pub(super) rights: Rights,
    /// The table has been freed, and the entry cannot be used as things are; see `guarantee`.
    pub(super) condemned: bool,
}

/// What a walk found, for the caches to remember.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) pcid: Pcid,
    pub(super) root: Frame,
    pub(super) table: Frame,
    pub(super) stamp: Stamp,
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

    fn slot(&mut self, level: u32, index: usize) -> &mut Option<Cached> {
        match level {
            1 => &mut self.pde[index],
            2 => &mut self.pdpte[index],
            _ => &mut self.pml4e[index],
        }
    }

    fn index(level: u32, prefix: u64, pcid: Pcid) -> usize {
        let size = SIZES[level as usize - 1];
        (prefix as usize).wrapping_add(5 * usize::from(pcid.get())) & (size - 1)
    }

    /// The table of `level` for `va` under `pcid`, if cached.
    pub(super) fn lookup(&self, va: VirtAddr, level: u32, pcid: Pcid) -> Option<Cached> {
        let prefix = Self::prefix(va, level);
        self.cache(level)[Self::index(level, prefix, pcid)].filter(|c| c.prefix == prefix && c.pcid == pcid)
    }

    /// Whether a walk of `va` under `pcid` would begin in a cache.
    pub(super) fn lookup_any(&self, va: VirtAddr, pcid: Pcid) -> bool {
        self.held > 0 && (1..=3).any(|level| self.lookup(va, level, pcid).is_some())
    }

    /// Remembers the table of `level` for `va`.
    pub(super) fn insert(&mut self, va: VirtAddr, level: u32, found: Found) {
        let Found { pcid, root, table, stamp, rights } = found;
        let prefix = Self::prefix(va, level);
        self.filters.add_frame(table);
        let new = Cached { prefix, pcid, root, table, stamp, rights, condemned: false };
        let old = self.slot(level, Self::index(level, prefix, pcid)).replace(new);
        match old {
            Some(old) => self.filters.remove_frame(old.table),
            None => self.held += 1,
        }
    }

    /// Forgets what a walk of `va` under `pcid` would use.
    pub(super) fn drop_for(&mut self, va: VirtAddr, pcid: Pcid) {
        for level in 1..=3 {
            if self.lookup(va, level, pcid).is_some() {
                self.forget(va, level, pcid);
            }
        }
    }

    /// Forgets the entry for `va` at one level; there must be one.
    pub(super) fn forget(&mut self, va: VirtAddr, level: u32, pcid: Pcid) {
        if let Some(old) = self.slot(level, Self::index(level, Self::prefix(va, level), pcid)).take() {
            self.filters.remove_frame(old.table);
            self.held -= 1;
        }
    }

    /// Forgets the entries that `which` names; it is told the level of the table that each leads to.
    pub(super) fn drop_where(&mut self, which: impl Fn(u32, &Cached) -> bool) {
        if self.held == 0 {
            return;
        }
        let levels = [(1, &mut self.pde[..]), (2, &mut self.pdpte[..]), (3, &mut self.pml4e[..])];
        for (level, cache) in levels {
            for slot in cache {
                if let Some(old) = slot.take_if(|cached| which(level, cached)) {
                    self.filters.remove_frame(old.table);
                    self.held -= 1;
                }
            }
        }
    }

    /// Whether the entry concerns `va`.
    pub(super) fn concerns(level: u32, cached: &Cached, va: VirtAddr) -> bool {
        Self::prefix(va, level) == cached.prefix
    }

    /// Every entry, to be changed.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (u32, &mut Cached)> {
        let levels = [(1, &mut self.pde[..]), (2, &mut self.pdpte[..]), (3, &mut self.pml4e[..])];
        levels.into_iter().flat_map(|(level, cache)| cache.iter_mut().flatten().map(move |c| (level, c)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, Owner};
    use super::*;

    #[test]
    fn levels_are_apart_and_the_filter_follows() {
        let memory = Memory::new(16, 1).unwrap();
        let table = memory.allocate(Owner::PageTable, true, 0).unwrap();
        let stamp = memory.stamp(table);
        let filters = Arc::new(Filters::new());
        let mut cache = StructureCache::new(Arc::clone(&filters));
        let va = VirtAddr(0x1234_5678_9000);
        let (pcid, other) = (Pcid::KERNEL, Pcid::new(9).unwrap());
        let found = Found { pcid, root: Frame(1), table, stamp, rights: Rights::ALL };
        cache.insert(va, 1, found);
        assert!(cache.lookup(va, 1, pcid).is_some());
        assert!(cache.lookup(va, 1, other).is_none(), "another PCID");
        assert!(cache.lookup(va, 2, pcid).is_none());
        assert!(cache.lookup(va.wrapping_add(1 << 21), 1, pcid).is_none(), "another page table");
        assert!(cache.lookup(VirtAddr(va.0 | 0x1ff_fff), 1, pcid).is_some(), "the same page table");
        assert!(filters.may_hold_frame(table));
        cache.insert(va, 2, found);
        cache.drop_for(va, pcid);
        assert_eq!(cache.iter_mut().count(), 0);
        assert!(!filters.may_hold_frame(table));
        cache.insert(va, 3, found);
        cache.insert(va, 3, Found { pcid: other, ..found });
        cache.drop_where(|level, cached| cached.pcid == pcid && StructureCache::concerns(level, cached, va));
        assert!(cache.lookup(va, 3, pcid).is_none() && cache.lookup(va, 3, other).is_some());
        cache.drop_where(|_, _| true);
        assert!(!filters.may_hold_frame(table) && cache.lookup(va, 3, other).is_none());
    }
}
