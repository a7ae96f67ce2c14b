//! One CPU's translation hardware: TLB, paging-structure caches, and what they may do unasked.
//!
//! Everything in the caches comes from a walk of the tables (INV-M-2). It leaves when an invalidation must
//! drop it, when a fault uses it, when it is pushed out, or at random; not earlier. A walk, the insertion of
//! what it found and the access itself are one step as far as this CPU's interrupts are concerned
//! (INV-M-4): a translation read before a table entry was cleared cannot be inserted after this CPU has
//! acknowledged the shootdown.

use std::format;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::broadcast::Broadcasts;
use super::config::Adversary;
use super::cpu_model::CpuModel;
use super::memory::{Memory, Owner, POISON};
use super::report::{Ledger, MmuCounters};
use super::structure_cache::StructureCache;
use super::tlb::{Entry, Filters, Reach, Slot, Tlb};
use super::walk::{self, Leaf, Purpose, Stop, Walker};
use crate::{Access, Frame, PAGE_SIZE, Pcid, VirtAddr};

/// Addresses remembered for speculation; a power of two.
const RECENT: usize = 16;

/// A page fault, as its error code and CR2 tell it (Intel SDM vol. 3, 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageFault {
    /// The address that was accessed.
    pub va: VirtAddr,
    /// What was attempted.
    pub access: Access,
    /// Whether the page was present and the access not permitted (error-code bit 0). Clear when some
    /// table entry was not present, and for an address that is not canonical, which on hardware is
    /// another exception.
    pub present: bool,
}

/// The `n` of "once in `n`" as a threshold for 32 random bits.
#[derive(Clone, Copy)]
struct Odds(u32);

impl Odds {
    fn one_in(n: u32) -> Self {
        Self(u32::MAX.checked_div(n).unwrap_or(0))
    }

    fn hit(self, draw: u32) -> bool {
        draw < self.0
    }
}

/// An access by the program or, with supervisor rights, by the kernel.
#[derive(Clone, Copy)]
pub(super) struct Request {
    pub(super) va: VirtAddr,
    pub(super) access: Access,
    pub(super) user: bool,
    /// What a store writes.
    pub(super) value: u64,
}

/// What the hardware works on.
#[derive(Clone, Copy)]
pub(super) struct Board<'a> {
    pub(super) memory: &'a Memory,
    pub(super) ledger: &'a Ledger,
    pub(super) cpu: usize,
}

/// See the module documentation. Behind a lock per CPU, because checkers on other CPUs read it.
pub(super) struct Mmu {
    pub(super) tlb: Tlb,
    pub(super) caches: StructureCache,
    pub(super) root: Option<Frame>,
    /// Bits 11:0 of CR3.
    pub(super) pcid: Pcid,
    /// INVLPG leaves global translations.
    pub(super) keeps_globals: bool,
    /// Bits of entries that are reserved at all levels.
    reserved: u64,
    /// INVLPGBs of any CPU that this one has still to do.
    pub(super) broadcasts: Broadcasts,
    pub(super) rng: Xoshiro256PlusPlus,
    evict: Odds,
    speculate: Odds,
    spurious: Odds,
    recent: [VirtAddr; RECENT],
    next_recent: usize,
    pub(super) counters: MmuCounters,
}

impl Mmu {
    pub(super) fn new(
        cpu: usize,
        seed: u64,
        adversary: &Adversary,
        cpu_model: CpuModel,
        filters: &Arc<Filters>,
    ) -> Self {
        let stream = seed.wrapping_add((cpu as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Self {
            tlb: Tlb::new(adversary.tlb_sets, adversary.tlb_ways, Arc::clone(filters)),
            caches: StructureCache::new(Arc::clone(filters)),
            root: None,
            pcid: Pcid::KERNEL,
            keeps_globals: cpu_model.invlpg_misses_globals(cpu),
            reserved: walk::BEYOND_PHYSICAL | if cpu_model.has_no_execute() { 0 } else { walk::NO_EXECUTE },
            broadcasts: Broadcasts::default(),
            rng: Xoshiro256PlusPlus::seed_from_u64(stream),
            evict: Odds::one_in(adversary.evict_one_in),
            speculate: Odds::one_in(adversary.speculate_one_in),
            spurious: Odds::one_in(adversary.spurious_fault_one_in),
            recent: [VirtAddr(0); RECENT],
            next_recent: 0,
            counters: MmuCounters::default(),
        }
    }

    /// Performs an access: translation, checks, the load or store, and what the CPU does besides.
    pub(super) fn access(
        &mut self,
        board: Board<'_>,
        request: Request,
        point: &mut impl FnMut(),
    ) -> Result<u64, PageFault> {
        self.catch_up_at_random(board.memory);
        let draw = self.rng.next_u64();
        let result = self
            .translate(board, request, draw as u32, point)
            .map(|slot| Self::data(board, request, self.tlb.get(slot)));
        if self.speculate.hit((draw >> 32) as u32) {
            self.speculate(board, request.va, point);
        }
        self.recent[self.next_recent] = request.va;
        self.next_recent = (self.next_recent + 1) % RECENT;
        let fault = PageFault { va: request.va, access: request.access, present: false };
        result.map_err(|stop| PageFault { present: stop != Stop::NotPresent, ..fault })
    }

    fn translate(
        &mut self,
        board: Board<'_>,
        request: Request,
        draw: u32,
        point: &mut impl FnMut(),
    ) -> Result<Slot, Stop> {
        let Request { va, access, user, .. } = request;
        if !is_canonical(va) {
            return Err(Stop::NotPresent);
        }
        if let Some(slot) = self.tlb.lookup(va, self.pcid) {
            self.note_if_stale(board.memory, slot);
            let entry = self.tlb.get(slot);
            let permitted = walk::cached_permits(entry.rights, access, user);
            if self.evict.hit(draw) {
                self.tlb.remove(slot);
                self.caches.drop_for(va, self.pcid);
                self.counters.evictions += 1;
            } else if permitted && (access != Access::Write || entry.dirty) {
                self.counters.hits += 1;
                self.note_if_condemned(board, slot);
                return Ok(slot);
            } else if !permitted && self.spurious.hit(self.rng.next_u64() as u32) {
                return Err(self.fault(va, Stop::Denied));
            }
            // Otherwise the tables may permit what the entry does not, or the dirty flag is to be set.
        }
        self.counters.misses += 1;
        let purpose = Purpose::Demand { access, user };
        let from_cache = self.caches.lookup_any(va, self.pcid);
        let mut outcome = self.walk(board, va, purpose, point);
        if outcome.is_err() && from_cache && !self.spurious.hit(self.rng.next_u64() as u32) {
            // It may have been the caches' fault.
            self.caches.drop_for(va, self.pcid);
            outcome = self.walk(board, va, purpose, point);
        }
        match outcome {
            Ok(leaf) => Ok(self.fill(board.memory, va, &leaf)),
            Err(stop) => Err(self.fault(va, stop)),
        }
    }

    /// A fault drops what is cached for the address (Intel SDM vol. 3, 4.10.4.1).
    fn fault(&mut self, va: VirtAddr, stop: Stop) -> Stop {
        self.counters.faults += 1;
        self.tlb.drop_page(va, Reach { pcid: Some(self.pcid), globals: true }, &mut |_| {});
        self.caches.drop_for(va, self.pcid);
        stop
    }

    fn walk(
        &mut self,
        board: Board<'_>,
        va: VirtAddr,
        purpose: Purpose,
        point: &mut impl FnMut(),
    ) -> Result<Leaf, Stop> {
        let Some(root) = self.root else { return Err(Stop::NotPresent) };
        self.counters.structure_hits += u64::from(self.caches.lookup_any(va, self.pcid));
        let Board { memory, ledger, cpu } = board;
        let Self { pcid, reserved, .. } = *self;
        Walker { memory, ledger, root, pcid, cpu, reserved }.walk(&mut self.caches, va, purpose, point)
    }

    fn fill(&mut self, memory: &Memory, va: VirtAddr, leaf: &Leaf) -> Slot {
        let entry = Entry {
            va: va.page(),
            frame: leaf.frame,
            rights: leaf.rights,
            dirty: leaf.dirty,
            global: leaf.global,
            pcid: self.pcid,
            level: leaf.level,
            counted: false,
            condemned: false,
            root: self.root.unwrap_or(leaf.table),
            stamp: memory.stamp(leaf.frame),
            leaf: leaf.raw,
            table: leaf.table,
            table_stamp: leaf.table_stamp,
            index: leaf.index,
        };
        let random = self.rng.next_u64();
        self.tlb.insert(entry, random)
    }

    /// The load or store itself. Through a stale reference it is counted and suppressed: a store would
    /// land in memory of the new owner, which may be the pmap's own; a load gives [`POISON`] (INV-M-10).
    fn data(board: Board<'_>, request: Request, entry: &Entry) -> u64 {
        let Board { memory, ledger, cpu } = board;
        let now = memory.stamp(entry.frame);
        let Request { va, access, user, value } = request;
        if now != entry.stamp || now.owner() == Owner::Free {
            ledger.stale_access(|| {
                format!(
                    "cpu {cpu}: {access:?} of {va} (root {:?}) reached {:?}, which has changed hands (was {:?}, is {:?})",
                    entry.root,
                    entry.frame,
                    entry.stamp.owner(),
                    now.owner(),
                )
            });
            return POISON;
        }
        if user && matches!(now.owner(), Owner::PageTable | Owner::PvChunk | Owner::PmapRecord) {
            ledger.forbidden(|| {
                format!(
                    "cpu {cpu}: {access:?} of {va} in user mode reached {:?}, a {:?}",
                    entry.frame,
                    now.owner()
                )
            });
            return POISON;
        }
        let word = &memory.words(entry.frame)[(va.page_offset() / 8) as usize];
        if access == Access::Write {
            // ORD: Release; x86 stores are (TSO), and programs under test rely on it.
            word.store(value, Ordering::Release);
            value
        } else {
            // ORD: Acquire; x86 loads are (TSO).
            word.load(Ordering::Acquire)
        }
    }

    /// A condemned translation is used after all: the pmap's promise did not hold.
    fn note_if_condemned(&mut self, board: Board<'_>, slot: Slot) {
        let entry = self.tlb.get(slot);
        if entry.condemned {
            let Board { ledger, cpu, .. } = board;
            ledger.forbidden(|| {
                format!(
                    "cpu {cpu} uses a translation of {} (root {:?}) to {:?} that a guarantee forbade",
                    entry.va, entry.root, entry.frame
                )
            });
        }
    }

    /// A CPU that is in the kernel speculates too, in the address space that is loaded.
    pub(super) fn speculate_idly(&mut self, board: Board<'_>, point: &mut impl FnMut()) {
        let last = self.recent[self.next_recent.wrapping_sub(1) % RECENT];
        self.speculate(board, last, point);
    }

    /// A CPU that has just loaded a root goes on with what it did before: it fills one of the pages used last.
    pub(super) fn speculate_anew(&mut self, board: Board<'_>, point: &mut impl FnMut()) {
        let draw = self.rng.next_u64();
        if self.speculate.hit(draw as u32) {
            self.fill_unasked(board, self.recent[(draw >> 32) as usize % RECENT].page(), point);
        }
    }

    /// Fills a translation that nobody asked for.
    fn speculate(&mut self, board: Board<'_>, near: VirtAddr, point: &mut impl FnMut()) {
        let draw = self.rng.next_u64();
        let base = if draw & 1 == 0 { near } else { self.recent[(draw >> 8) as usize % RECENT] };
        let steps = (draw >> 16) % 9;
        let va = VirtAddr(base.page().0.wrapping_add(steps * PAGE_SIZE).wrapping_sub(4 * PAGE_SIZE));
        self.fill_unasked(board, va, point);
    }

    fn fill_unasked(&mut self, board: Board<'_>, va: VirtAddr, point: &mut impl FnMut()) {
        if !is_canonical(va) || !va.is_user() || self.tlb.lookup(va, self.pcid).is_some() {
            return;
        }
        if let Ok(leaf) = self.walk(board, va, Purpose::Speculation, point) {
            self.fill(board.memory, va, &leaf);
            self.counters.speculative_fills += 1;
        }
    }

    fn note_if_stale(&mut self, memory: &Memory, slot: Slot) {
        let entry = self.tlb.get_mut(slot);
        if !entry.counted && is_stale(memory, entry) {
            entry.counted = true;
            self.counters.stale_before_guarantee += 1;
        }
    }
}

/// 48-bit canonical form: bits 63:47 are equal.
fn is_canonical(va: VirtAddr) -> bool {
    matches!(va.0 >> 47, 0 | 0x1_ffff)
}

/// Whether the entry that the translation was made from no longer gives it.
pub(super) fn is_stale(memory: &Memory, entry: &Entry) -> bool {
    if memory.stamp(entry.table) != entry.table_stamp {
        return true;
    }
    // ORD: Relaxed; a look for statistics.
    let now = memory.words(entry.table)[usize::from(entry.index)].load(Ordering::Relaxed);
    let lost = entry.leaf & !now;
    let gained = now & !entry.leaf;
    lost & (walk::PRESENT | walk::WRITABLE | walk::USER) != 0
        || gained & walk::NO_EXECUTE != 0
        || (now ^ entry.leaf) & walk::ADDRESS != 0
        || (entry.dirty && now & walk::DIRTY == 0)
}
