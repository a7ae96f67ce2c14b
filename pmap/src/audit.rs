//! The structural audit: does everything that is recorded twice agree?
//!
//! For every live address space the tables are walked and compared with the counts, the PV entries and
//! the page marks; then every PV list is walked. On a quiet system each difference is an error. The audit
//! takes each lock for a short time only, so on a busy one differences may be mere haste.

mod error;

pub use error::AuditError;

use crate::addr::{Frame, PAGE_SHIFT, VirtAddr};
use crate::entry::{Entry, LARGE, MANAGED, WIRED, WRITABLE};
use crate::machine::{MAX_DOMAINS, Machine};
use crate::pmap::{Core, State};
use crate::pv::ENTRIES_PER_CHUNK;
use crate::system::{KERNEL_SLOT, System};
use crate::table::{DIRECTORY_LEVEL, ROOT_LEVEL};

/// An address space whose lock is held.
struct Locked<'a, M: Machine> {
    core: &'a Core<M>,
    state: &'a State,
}

/// What one walk over an address space counted.
#[derive(Default)]
struct Count {
    tables: u64,
    leaves: u64,
    wired: u64,
    saved: u64,
}

/// What all address spaces together have.
#[derive(Default)]
struct Totals {
    tables: u64,
    chunks: u64,
    entries: u64,
}

impl<M: Machine> System<M> {
    /// Checks the whole structure and reports each error. Returns their number.
    ///
    /// For a system on which nothing else happens; see the module's documentation. `report` is called with
    /// locks of the pmap held and must not call it.
    pub fn audit(&self, mut report: impl FnMut(AuditError)) -> u64 {
        let mut errors = 0;
        let mut report = |error| {
            errors += 1;
            report(error);
        };
        let mut totals = Totals::default();
        self.arena().for_each_live(|core| {
            let state = core.lock();
            // It may have ended before we had the lock, and its root be something else now.
            if !core.is_live() {
                return;
            }
            let mut count = Count::default();
            let space = Locked { core, state: &state };
            self.audit_table(&space, core.root(), ROOT_LEVEL, VirtAddr(0), &mut count, &mut report);
            totals.tables += count.tables;
            let counted = count.tables + count.leaves;
            if core.resident() != counted {
                report(AuditError::ResidentCount { root: core.root(), recorded: core.resident(), counted });
            }
            if state.wired != count.wired {
                let (root, recorded) = (core.root(), state.wired);
                report(AuditError::WiredCount { root, recorded, counted: count.wired });
            }
            if state.saved != count.saved {
                let (root, recorded) = (core.root(), state.saved);
                report(AuditError::SavedCount { root, recorded, counted: count.saved });
            }
            self.audit_chunks(core, &state, &mut totals, &mut report);
        });
        let statistics = self.statistics();
        let counted = self.pages().iter().map(|page| {
            let _list = self.pv_locks().read(page);
            page.pv_entries().count() as u64
        });
        let counted = counted.sum();
        if statistics.pv_entries != counted {
            report(AuditError::PvTotal { recorded: statistics.pv_entries, counted });
        }
        if totals.entries != counted {
            report(AuditError::EntriesInUse { in_use: totals.entries, listed: counted });
        }
        let listed = (0..MAX_DOMAINS).map(|d| self.chunks_by_age().lock(d).iter().count() as u64).sum();
        let (recorded, owned) = (statistics.pv_chunks, totals.chunks);
        if recorded != owned || recorded != listed {
            report(AuditError::ChunkTotal { recorded, owned, listed });
        }
        if statistics.pt_pages != totals.tables {
            report(AuditError::TableTotal { recorded: statistics.pt_pages, counted: totals.tables });
        }
        errors
    }

    /// Walks one table.
    fn audit_table(
        &self,
        space: &Locked<'_, M>,
        table: Frame,
        level: u32,
        base: VirtAddr,
        count: &mut Count,
        report: &mut impl FnMut(AuditError),
    ) {
        let core = space.core;
        count.tables += 1;
        let mut valid = 0;
        // A user address space shares its kernel half; the kernel's own root has nothing in the user half, and what it
        // adopted is the machine's (INV-K-1).
        let indices = match (level == ROOT_LEVEL, core.is_kernel()) {
            (false, _) => 0..512,
            (true, false) => 0..KERNEL_SLOT,
            (true, true) => self.own_kernel_slots(),
        };
        for index in indices {
            let entry = self.slot(table, index).load();
            if !entry.is_present() {
                continue;
            }
            valid += 1;
            let va = VirtAddr(base.0 | (index as u64) << (PAGE_SHIFT + 9 * (level - 1)));
            if level > 1 && entry.has(LARGE) {
                if !core.is_kernel() {
                    let pages = 1 << (9 * (level - 1));
                    count.leaves += pages;
                    count.wired += if entry.has(WIRED) { pages } else { 0 };
                }
            } else if level > 1 {
                self.audit_table(space, entry.frame(), level - 1, va, count, report);
            } else if core.is_kernel() {
                // Kernel mappings are not counted as resident, see `kenter`.
            } else {
                self.audit_leaf(core, va, entry, count, report);
            }
        }
        if level == DIRECTORY_LEVEL {
            let saved = self.audit_saved(space.state, table, base, report);
            count.saved += saved;
            count.tables += saved;
        }
        if level == ROOT_LEVEL || core.is_kernel() {
            return;
        }
        let Some(record) = self.page(table) else {
            return report(AuditError::NoRecord { va: base, frame: table });
        };
        if record.table_entries() != valid {
            report(AuditError::TableCount { table, recorded: record.table_entries(), counted: valid });
        }
        if valid == 0 {
            report(AuditError::EmptyTable { table });
        }
    }

    fn audit_leaf(
        &self,
        core: &Core<M>,
        va: VirtAddr,
        entry: Entry,
        count: &mut Count,
        report: &mut impl FnMut(AuditError),
    ) {
        count.leaves += 1;
        count.wired += u64::from(entry.has(WIRED));
        if entry.has(LARGE) {
            report(AuditError::LargeBit { va, entry });
        }
        if !entry.has(MANAGED) {
            return;
        }
        let Some(page) = self.page(entry.frame()) else {
            return report(AuditError::NoRecord { va, frame: entry.frame() });
        };
        let _list = self.pv_locks().read(page);
        let found =
            page.pv_entries().filter(|e| e.va() == va && e.chunk().owner() == core.as_owner()).count();
        if found != 1 {
            report(AuditError::PvEntriesOfLeaf { root: core.root(), va, found });
        }
        if entry.has(WRITABLE) && !page.is_writeable() {
            report(AuditError::NotWriteable { va, frame: entry.frame() });
        }
    }

    fn audit_chunks(
        &self,
        core: &Core<M>,
        state: &State,
        totals: &mut Totals,
        report: &mut impl FnMut(AuditError),
    ) {
        let root = core.root();
        let mut met_full = false;
        for chunk in state.chunks.iter() {
            let free = chunk.free_entries();
            totals.chunks += 1;
            totals.entries += (ENTRIES_PER_CHUNK - free) as u64;
            if !self.chunks_by_age().lock(self.domain_of(chunk)).has(chunk) {
                report(AuditError::ChunkAge { root });
            }
            if free > 0 && met_full {
                report(AuditError::ChunkOrder { root });
            }
            met_full |= free == 0;
            if chunk.owner() != core.as_owner() {
                report(AuditError::ChunkOwner { root });
            }
            for pv in chunk.in_use() {
                let entry = self.leaf_slot(root, pv.va()).map(|slot| slot.load());
                let page =
                    entry.filter(|e| e.is_present() && e.has(MANAGED)).and_then(|e| self.page(e.frame()));
                let listed = page.is_some_and(|page| {
                    let _list = self.pv_locks().read(page);
                    page.pv_entries().any(|e| e == pv)
                });
                if !listed {
                    report(AuditError::LeafOfPvEntry { root, va: pv.va() });
                }
            }
        }
    }
}
