//! Gathering what an operation invalidates, and frames that must not be freed before.
//!
//! An operation adds the pages whose translations it destroyed and the page-table pages that it
//! unlinked to a [`Gather`]; [`Gather::flush`] invalidates once, on every CPU that needs it, and only
//! then hands the frames out, as [`Freed`]. A frame in a gather cannot be reached in another way, so
//! "freed only after the flush" is a matter of types (INV-P-4, H-16). Frames are chained through their
//! page records, not through their own memory, which hardware may still walk.

use core::sync::atomic::{Ordering, fence};

use crate::addr::{Frame, VirtAddr, VirtRange};
use crate::cpuset::{CpuId, CpuSet};
use crate::entry::{ACCESSED, Entry};
use crate::machine::{FrameUse, Guarantee, Machine};
use crate::mutation::Mutation;
use crate::pcid;
use crate::pinned::Pinned;
use crate::pmap::Core;
use crate::shootdown::{Invalidation, RangeList, Scope};
use crate::system::System;
use crate::tlb::{self, TlbMethod};

/// Invalidations and page-table pages that wait for one flush of one address space.
#[must_use = "what was gathered must be flushed before the pmap lock is released, or go into a `Delayed`"]
pub(crate) struct Gather<'s, M: Machine> {
    system: &'s System<M>,
    core: &'s Core<M>,
    pages: Pages,
    /// Translations and tables that would each need a flush.
    gathered: u64,
    tables: Option<Frame>,
}

/// The pages with a translation to invalidate.
enum Pages {
    /// These.
    List(RangeList),
    /// All: they are too many to be told, or the tables cannot tell them.
    All,
    /// None: each is invalidated as it comes, because the system does not batch.
    Done,
}

impl<'s, M: Machine> Gather<'s, M> {
    /// For operations of the holder of the pmap lock. While the flush of somebody else's gather is delayed past the lock, nothing
    /// that is found in the tables has been flushed for sure: then the whole address space is (INV-D-6).
    pub(crate) fn new(system: &'s System<M>, core: &'s Core<M>) -> Self {
        let pages = match (system.has_delayed(core), system.batches()) {
            (true, _) => Pages::All,
            (false, true) => Pages::List(RangeList::EMPTY),
            (false, false) => Pages::Done,
        };
        Self { system, core, pages, gathered: 0, tables: None }
    }

    /// Notes that the translation made from `old` at `va` is no longer valid. The processor sets the
    /// accessed bit before it caches a translation, so an entry without it needs nothing (H-12).
    pub(crate) fn add(&mut self, va: VirtAddr, old: Entry) {
        if old.has(ACCESSED) {
            // In place: the list is a cache line long, and this is done for each page.
            match &mut self.pages {
                Pages::List(list) => {
                    if !list.add(VirtRange::page_of(va)) {
                        self.pages = Pages::All;
                    }
                }
                Pages::All => {}
                Pages::Done => return self.flush_one(va),
            }
            self.gathered += 1;
        }
    }

    /// Invalidates the page at `va` now.
    #[cold]
    fn flush_one(&self, va: VirtAddr) {
        if !self.system.mutation().is(Mutation::NoFlush) {
            self.system.invalidate_for(self.core, Invalidation::of_page(va), self.has_tables());
        }
    }

    /// Takes a page-table page that is linked nowhere any more; it covered `va`.
    pub(crate) fn add_table(&mut self, table: Frame, va: VirtAddr) {
        let mutation = self.system.mutation();
        if let Some(record) = self.system.page(table) {
            if mutation.is(Mutation::FreeBeforeFlush) {
                record.set_chain(None);
                Freed { tables: Some(table) }.give_back(self.system);
            } else {
                record.set_chain(self.tables);
                self.tables = Some(table);
            }
        }
        // Paging-structure caches may hold the table even if no leaf was ever used (H-15). Invalidating
        // any page of the address space empties them; not before it is known here that there is a table.
        if !mutation.is(Mutation::NoFlushOfTables) {
            self.add(va, Entry::default().with(ACCESSED));
        }
    }

    /// Whether there is a page-table page among what was gathered.
    pub(crate) fn has_tables(&self) -> bool {
        self.tables.is_some()
    }

    /// Invalidates what was gathered wherever the address space is active and waits for it. The gather is
    /// empty afterwards; the frames come out.
    #[must_use = "the frames must be given back"]
    pub(crate) fn flush(&mut self) -> Freed {
        let emptied = if self.system.batches() { Pages::List(RangeList::EMPTY) } else { Pages::Done };
        let list = match core::mem::replace(&mut self.pages, emptied) {
            Pages::List(list) => Some(list),
            Pages::All => None,
            Pages::Done => Some(RangeList::EMPTY),
        };
        let gathered = core::mem::take(&mut self.gathered);
        if list.is_none_or(|list| !list.is_empty()) && !self.system.mutation().is(Mutation::NoFlush) {
            let what = Invalidation::of_list(list, self.core.is_kernel());
            let interrupted = self.system.invalidate_for(self.core, what, self.has_tables());
            let saved = interrupted * gathered.saturating_sub(1);
            self.system.count(|c| &c.ipis_saved_batching, saved);
        }
        Freed { tables: self.tables.take() }
    }
}

impl<M: Machine> Drop for Gather<'_, M> {
    fn drop(&mut self) {
        // A panic in between must not be covered up by a second one.
        #[cfg(debug_assertions)]
        if self.gathered > 0 || self.tables.is_some() {
            debug_assert!(self.is_excused(), "a gather was dropped without its flush");
        }
    }
}

#[cfg(debug_assertions)]
impl<M: Machine> Gather<'_, M> {
    #[cfg(feature = "std")]
    fn is_excused(&self) -> bool {
        std::thread::panicking()
    }

    #[cfg(not(feature = "std"))]
    fn is_excused(&self) -> bool {
        false
    }
}

/// Page-table pages whose flush is done.
#[must_use = "the frames must be given back"]
#[derive(Default)]
pub(crate) struct Freed {
    tables: Option<Frame>,
}

impl Freed {
    /// Gives the frames back to the machine.
    pub(crate) fn give_back<M: Machine>(self, system: &System<M>) {
        let mut next = self.tables;
        while let Some(frame) = next {
            next = system.page(frame).and_then(|r| r.chain());
            system.count(|c| &c.pt_pages_freed, 1);
            // SAFETY: the frame came from allocate_frame(PageTable); it was unlinked from its address
            // space and went through the flush that this value comes from, so neither software nor
            // hardware refers to it; each chain is walked once because `self` is consumed.
            unsafe { system.free_frame(frame, FrameUse::PageTable) };
        }
    }

    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        self.tables.is_none()
    }

    /// Takes one of the frames for another use of the pmap; it is all zeroes.
    pub(crate) fn take_one<M: Machine>(&mut self, system: &System<M>) -> Option<Frame> {
        let frame = self.tables?;
        self.tables = system.page(frame).and_then(|record| {
            let next = record.chain();
            record.set_chain(None);
            if record.table_entries() != 0 && !system.mutation().is(Mutation::RecycleAsIs) {
                // Others are here because they became empty; this one was saved, with all its entries.
                for index in 0..512 {
                    let _ = system.slot(frame, index).take();
                }
            }
            next
        });
        system.count(|c| &c.pt_pages_freed, 1);
        Some(frame)
    }

    /// Adds the frames of `other`.
    pub(crate) fn merge<M: Machine>(&mut self, system: &System<M>, other: Self) {
        let mut next = other.tables;
        while let Some(frame) = next {
            let Some(record) = system.page(frame) else { break };
            next = record.chain();
            record.set_chain(self.tables);
            self.tables = Some(frame);
        }
    }
}

impl<M: Machine> System<M> {
    /// Has `what` of the address space invalidated wherever it is active, the current CPU included, and
    /// waits until it is done. The pmap lock is held. Returns the number of CPUs that were interrupted.
    pub(crate) fn invalidate(&self, core: &Core<M>, what: Invalidation) -> u64 {
        self.invalidate_for(core, what, false)
    }

    /// As [`invalidate`](Self::invalidate). With `tables` page-table pages are to be freed afterwards.
    fn invalidate_for(&self, core: &Core<M>, what: Invalidation, tables: bool) -> u64 {
        let machine = self.machine();
        let early =
            machine.may_acknowledge_early() && (!tables || self.mutation().is(Mutation::EarlyWithTables));
        if self.mutation().is(Mutation::Unpinned) {
            return self.invalidate_here(core, what, early, &Pinned::already(machine));
        }
        Pinned::run(machine, |here| self.invalidate_here(core, what, early, here))
    }

    fn invalidate_here(&self, core: &Core<M>, what: Invalidation, early: bool, here: &Pinned) -> u64 {
        let machine = self.machine();
        let shootdowns = machine.shootdowns();
        if core.is_kernel()
            && shootdowns.method() == TlbMethod::Invlpgb
            && let Some(most) = self.tlb_choice().features.invlpgb
        {
            // ORD: SeqCst; between the page-table stores and the instruction.
            fence(Ordering::SeqCst);
            let list = if let Invalidation::Ranges(list) = what { Some(list) } else { None };
            tlb::broadcast(machine, list, most, !self.mutation().is(Mutation::NoTlbsync));
            self.count(|c| &c.shootdown_broadcasts, 1);
            return 0;
        }
        let me = here.cpu();
        let is_current = shootdowns.current(here).is_some_and(|cr3| cr3.root == core.root());
        // What the kernel's PCID holds besides global translations is nobody's.
        let tags = if core.is_kernel() || !shootdowns.method().has_pcids() { &[] } else { core.tags() };
        let mut lost = CpuSet::EMPTY;
        let mut targets = pcid::revoke(
            tags,
            is_current.then_some(me.index()),
            self.mutation(),
            |cpu| CpuId::new(cpu).into_iter().for_each(|cpu| lost.insert(cpu)),
            || {
                machine.point();
                // ORD: SeqCst; after the fence in `revoke`. Pairs with the insertion in `switch_to`, which precedes the load
                // of the root: either we see the CPU in the set, or its walks see our stores (H-17).
                core.active().load(Ordering::SeqCst)
            },
        );
        let local = targets.contains(me);
        if !self.spares_others() {
            // ORD: SeqCst; after the look above, so whoever comes into service later flushes after our stores.
            targets = self.kernel().active().load(Ordering::SeqCst);
        }
        targets.remove(me);
        let lazy = lost.iter().filter(|cpu| *cpu != me && !targets.contains(*cpu)).count() as u64;
        self.count(|c| &c.ipis_saved_lazy, lazy);
        let scope = if core.is_kernel() { Scope::Kernel } else { Scope::Root(core.root()) };
        let sent = targets.len() as u64;
        if sent == 0 {
            self.count(|c| &c.shootdowns_local_only, 1);
        } else {
            self.count(|c| &c.shootdowns, 1);
            self.count(|c| &c.shootdown_ipis, sent);
            self.mutation().forget_shootdown(&mut targets);
        }
        shootdowns.invalidate(machine, here, scope, what, &targets, local, early);
        sent
    }

    /// Whether the flush of a gather of the address space is delayed past its lock, which the caller holds: then the tables do not tell
    /// what is flushed (INV-D-6).
    pub(crate) fn has_delayed(&self, core: &Core<M>) -> bool {
        core.has_delayed() && !self.mutation().is(Mutation::IgnoreDelayed)
    }

    /// States a guarantee about a range of an address space, whose pmap lock is held.
    pub(crate) fn guarantee_unmapped(&self, core: &Core<M>, range: VirtRange) {
        self.machine().guarantee(Guarantee::Unmapped { root: core.root(), range });
    }

    /// As [`guarantee_unmapped`](Self::guarantee_unmapped), for a change of rights.
    pub(crate) fn guarantee_restricted(&self, core: &Core<M>, range: VirtRange) {
        self.machine().guarantee(Guarantee::Restricted { root: core.root(), range });
    }
}
