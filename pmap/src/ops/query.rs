//! Asking what is mapped.

use core::sync::atomic::Ordering;

use crate::addr::{Frame, PhysAddr, VirtAddr};
use crate::cpuset::CpuSet;
use crate::entry::{ACCESSED, Entry, LARGE, MANAGED};
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::Pmap;
use crate::protection::Protection;
use crate::record::PageRecord;
use crate::system::System;
use crate::table::ROOT_LEVEL;

/// PV entries that [`Pmap::page_exists_quick`] looks at.
const QUICK_LOOKS: usize = 16;

/// What a mapping says about the use of its page, as `mincore` reports it. The page is resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mincore {
    /// The page was stored to through this mapping.
    pub modified: bool,
    /// The page was accessed through this mapping.
    pub referenced: bool,
    /// The managed page, if asking its other mappings, and its own marks, can tell more: this one does not
    /// know of both a store and an access.
    pub ask_others: Option<Frame>,
}

/// The raw entries that a walk meets on the way to an address, from the root's to the leaf's. It ends with the
/// first one that is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageWalk {
    words: [u64; ROOT_LEVEL as usize],
    count: usize,
}

impl core::ops::Deref for PageWalk {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.words[..self.count]
    }
}

impl<M: Machine> Pmap<'_, M> {
    /// The entry for `va` under the pmap lock. `None` unless it is valid: a table that is there says nothing
    /// about its entries (H-52).
    fn with_entry<R>(&self, va: VirtAddr, f: impl FnOnce(Entry) -> Option<R>) -> Option<R> {
        if !va.is_user() {
            return None;
        }
        let _state = self.core().lock();
        let slot = self.system().leaf_slot(self.root(), va)?;
        let trusts = self.system().mutation().is(Mutation::TrustInvalid);
        f(Some(slot.load()).filter(|entry| entry.is_present() || trusts)?)
    }

    /// The physical address that `va` translates to; `None` if nothing is mapped there (H-52).
    #[must_use]
    pub fn extract(&self, va: VirtAddr) -> Option<PhysAddr> {
        self.with_entry(va, |entry| Some(PhysAddr(entry.frame().addr().0 | va.page_offset())))
    }

    /// The rights of the mapping at `va`; `None` if nothing is mapped there.
    #[must_use]
    pub fn protection(&self, va: VirtAddr) -> Option<Protection> {
        self.with_entry(va, |entry| Some(entry.protection()))
    }

    /// The page mapped at `va`, if the mapping permits `prot`, with a hold on it that keeps its
    /// identity. Given back with [`System::unhold`]. `None` also if the frame has no page record, or if holds on
    /// the page are refused because it is being taken down ([`PageRecord::refuse_holds`]).
    #[must_use = "the hold must be given back"]
    pub fn extract_and_hold(&self, va: VirtAddr, prot: Protection) -> Option<Frame> {
        // The hold is taken under the pmap lock: whoever removes the mapping to reuse the page comes later
        // and sees it.
        self.with_entry(va, |entry| {
            let page = self.system().page(entry.frame()).filter(|_| entry.protection().contains(prot))?;
            (page.hold() || self.system().mutation().is(Mutation::HoldAnyway)).then_some(entry.frame())
        })
    }

    /// What the mapping at `va` says about the use of its page; `None` if nothing is mapped there.
    #[must_use]
    pub fn mincore(&self, va: VirtAddr) -> Option<Mincore> {
        self.with_entry(va, |entry| {
            let (modified, referenced) = (entry.is_modified(), entry.has(ACCESSED));
            let others = entry.has(MANAGED) && !(modified && referenced);
            Some(Mincore { modified, referenced, ask_others: others.then(|| entry.frame()) })
        })
    }

    /// Whether a speculative mapping at `va` would be cheap: a leaf table is there, and nothing is mapped in it
    /// at `va`.
    #[must_use]
    pub fn is_prefaultable(&self, va: VirtAddr) -> bool {
        if !va.is_user() {
            return false;
        }
        let _state = self.core().lock();
        self.system().leaf_slot(self.root(), va).is_some_and(|slot| !slot.load().is_present())
    }

    /// The raw page-table entries for `va`, from the root down to the leaf, which may be a large one in what was adopted from the boot
    /// tables: for debuggers and for those who virtualise the
    /// processor. Hardware may change accessed and dirty bits at any time.
    #[must_use]
    pub fn get_mapping(&self, va: VirtAddr) -> PageWalk {
        let mut walk = PageWalk { words: [0; ROOT_LEVEL as usize], count: 0 };
        let _state = self.core().lock();
        let mut table = self.root();
        for level in (1..=ROOT_LEVEL).rev() {
            let entry = self.system().slot(table, va.index(level)).load();
            walk.words[walk.count] = entry.word();
            walk.count += 1;
            // At levels 2 and 3 only; in a leaf of level 1 the bit means something else (H-2).
            let is_large = matches!(level, 2 | 3) && entry.has(LARGE);
            if !entry.is_present() || is_large {
                break;
            }
            table = entry.frame();
        }
        walk
    }

    /// Whether one of the page's oldest 16 managed mappings is in this address space: a hint for those who decide
    /// where to look first, which is cheap however many mappings there are. False is no proof.
    ///
    /// # Panics
    ///
    /// If the page belongs to another system.
    #[must_use]
    pub fn page_exists_quick(&self, page: &PageRecord) -> bool {
        let system = self.system();
        system.assert_own(page);
        let _list = system.pv_locks().read(page);
        let owner = self.core().as_owner();
        page.pv_entries().take(QUICK_LOOKS).any(|entry| entry.chunk().owner() == owner)
    }

    /// The CPUs on which the address space is current, at some moment during the call.
    #[must_use]
    pub fn active_cpus(&self) -> CpuSet {
        // ORD: Relaxed; a snapshot that nothing follows from.
        self.core().active().load(Ordering::Relaxed)
    }
}

impl<M: Machine> System<M> {
    /// Undoes one [`Pmap::extract_and_hold`]. Returns false, and does nothing, if the page was not held.
    pub fn unhold(&self, page: &PageRecord) -> bool {
        page.unhold()
    }
}
