//! One CPU's TLB.
//!
//! Set associative, with the replacement left to the caller's random numbers. An entry holds what the
//! CPU may use without looking at the tables, and besides what only the checker looks at: where the leaf
//! entry was read and what it held, whose address space it was, and the frame's [`Stamp`].
//!
//! Entries are tagged by page and PCID; a global one serves all PCIDs. A large page is held as 4 KiB fragments that
//! remember their level (Intel SDM vol. 3, 4.10.2.3 permits that), and invalidating one drops all.
//!
//! Every change is mirrored in [`Filters`], which other CPUs read without the lock.

use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, AtomicU32, Ordering};
use std::vec::Vec;

use super::memory::Stamp;
use crate::{Frame, PAGE_SHIFT, Pcid, VirtAddr};

/// Counters per filter; a power of two.
const FILTER: usize = 1024;

/// Counting filters over what one CPU has cached: zero means "certainly nothing".
///
/// Written by the holder of the CPU's lock only, read by everybody (INV-M-6).
pub(super) struct Filters {
    frames: Box<[AtomicU16; FILTER]>,
    pages: Box<[AtomicU16; FILTER]>,
    roots: Box<[AtomicU16; FILTER]>,
    globals: AtomicU32,
}

impl Filters {
    pub(super) fn new() -> Self {
        Self {
            frames: Box::new([const { AtomicU16::new(0) }; FILTER]),
            pages: Box::new([const { AtomicU16::new(0) }; FILTER]),
            roots: Box::new([const { AtomicU16::new(0) }; FILTER]),
            globals: AtomicU32::new(0),
        }
    }

    fn slot(number: u64) -> usize {
        ((number ^ (number >> 10) ^ (number >> 27)) as usize) & (FILTER - 1)
    }

    fn bump(counter: &AtomicU16, by: u16) {
        // ORD: Relaxed; one writer at a time. A reader that must see an increment has it ordered by the
        // acknowledgement of a shootdown (INV-M-6).
        counter.store(counter.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    pub(super) fn add_frame(&self, frame: Frame) {
        Self::bump(&self.frames[Self::slot(frame.0)], 1);
    }

    pub(super) fn remove_frame(&self, frame: Frame) {
        Self::bump(&self.frames[Self::slot(frame.0)], u16::MAX);
    }

    /// Whether the CPU may have something cached that refers to `frame`.
    pub(super) fn may_hold_frame(&self, frame: Frame) -> bool {
        // ORD: Relaxed; see `bump`.
        self.frames[Self::slot(frame.0)].load(Ordering::Relaxed) != 0
    }

    /// Whether the CPU may have a translation of this page cached.
    pub(super) fn may_hold_page(&self, va: VirtAddr) -> bool {
        // ORD: Relaxed; see `bump`.
        self.pages[Self::slot(va.0 >> PAGE_SHIFT)].load(Ordering::Relaxed) != 0
    }

    /// Whether the CPU may have a translation of the address space with this root cached, under whatever PCID.
    pub(super) fn may_hold_root(&self, root: Frame) -> bool {
        // ORD: Relaxed; see `bump`.
        self.roots[Self::slot(root.0)].load(Ordering::Relaxed) != 0
    }

    /// Whether the CPU has any global translation cached.
    pub(super) fn has_globals(&self) -> bool {
        // ORD: Relaxed; see `bump`.
        self.globals.load(Ordering::Relaxed) != 0
    }

    fn track(&self, entry: &Entry, by: u16) {
        Self::bump(&self.frames[Self::slot(entry.frame.0)], by);
        Self::bump(&self.pages[Self::slot(entry.va.0 >> PAGE_SHIFT)], by);
        Self::bump(&self.roots[Self::slot(entry.root.0)], by);
        if entry.global {
            let delta = if by == 1 { 1 } else { u32::MAX };
            // ORD: Relaxed; see `bump`.
            let now = self.globals.load(Ordering::Relaxed).wrapping_add(delta);
            self.globals.store(now, Ordering::Relaxed); // ORD: as above
        }
    }
}

/// What a translation may be used for: the conjunction over all levels (Intel SDM vol. 3, 4.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rights {
    pub(super) user: bool,
    pub(super) write: bool,
    pub(super) execute: bool,
}

impl Rights {
    pub(super) const ALL: Self = Self { user: true, write: true, execute: true };
}

/// What an invalidation, or a lookup, concerns besides the address.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    /// Non-global entries under this PCID; under all of them if there is none.
    pub(super) pcid: Option<Pcid>,
    /// Global entries, too.
    pub(super) globals: bool,
}

impl Reach {
    pub(super) const EVERYTHING: Self = Self { pcid: None, globals: true };

    pub(super) fn covers(self, entry: &Entry) -> bool {
        if entry.global { self.globals } else { self.covers_pcid(entry.pcid) }
    }

    pub(super) fn covers_pcid(self, pcid: Pcid) -> bool {
        self.pcid.is_none_or(|own| own == pcid)
    }
}

/// A cached translation of one 4 KiB page.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) va: VirtAddr,
    pub(super) frame: Frame,
    pub(super) rights: Rights,
    pub(super) dirty: bool,
    pub(super) global: bool,
    /// The PCID under which it was filled. A global entry can be used under all of them.
    pub(super) pcid: Pcid,
    /// Level of the leaf entry: 1, or 2 or 3 for a fragment of a large page.
    pub(super) level: u8,
    // From here on for the checker only.
    /// Already counted as stale.
    pub(super) counted: bool,
    /// A guarantee forbids it, but it cannot be used as things are; see `guarantee`.
    pub(super) condemned: bool,
    /// Root of the address space it was filled in.
    pub(super) root: Frame,
    /// Hand-over of `frame` at the time of the fill.
    pub(super) stamp: Stamp,
    /// The leaf entry as read.
    pub(super) leaf: u64,
    /// The table that it was read from, that table's hand-over, and the index in it.
    pub(super) table: Frame,
    pub(super) table_stamp: Stamp,
    pub(super) index: u16,
}

impl Entry {
    /// Whether a store may go through it without another walk (Intel SDM vol. 3, 4.8: the dirty flag is
    /// set before, by a walk).
    pub(super) fn stores_freely(&self) -> bool {
        self.rights.write && self.dirty
    }
}

const INVALID: u64 = 0;
const PAGE_BITS: u32 = 45;
/// In place of a PCID, above all of them.
const GLOBAL: u64 = Pcid::COUNT as u64;

fn tag(va: VirtAddr, asid: u64) -> u64 {
    (1 << 63) | (asid << PAGE_BITS) | page_of(va)
}

fn page_of(va: VirtAddr) -> u64 {
    (va.0 >> PAGE_SHIFT) & ((1 << PAGE_BITS) - 1)
}

fn tag_of(entry: &Entry) -> u64 {
    tag(entry.va, if entry.global { GLOBAL } else { entry.pcid.get().into() })
}

/// Position of an entry; good until the next insertion or removal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u32);

/// The TLB.
pub(super) struct Tlb {
    ways: usize,
    set_mask: usize,
    tags: Box<[u64]>,
    entries: Vec<Option<Entry>>,
    /// Occupied positions in no order, and for each position its place in that list.
    live: Vec<u32>,
    place: Box<[u32]>,
    /// Fragments of large pages among the entries: while there are none, one set is all there is to search.
    large: usize,
    filters: Arc<Filters>,
}

impl Tlb {
    pub(super) fn new(sets: usize, ways: usize, filters: Arc<Filters>) -> Self {
        let sets = sets.next_power_of_two();
        let size = sets * ways;
        Self {
            ways,
            set_mask: sets - 1,
            tags: std::vec![INVALID; size].into_boxed_slice(),
            entries: std::vec![None; size],
            live: Vec::with_capacity(size),
            place: std::vec![0; size].into_boxed_slice(),
            large: 0,
            filters,
        }
    }

    fn set(&self, va: VirtAddr) -> core::ops::Range<usize> {
        let page = va.0 >> PAGE_SHIFT;
        let set = ((page ^ (page >> 9)) as usize) & self.set_mask;
        set * self.ways..(set + 1) * self.ways
    }

    /// The entry that translates `va` under `pcid`.
    #[inline]
    pub(super) fn lookup(&self, va: VirtAddr, pcid: Pcid) -> Option<Slot> {
        let (own, global) = (tag(va, pcid.get().into()), tag(va, GLOBAL));
        let set = self.set(va);
        let start = set.start;
        let way = self.tags[set].iter().position(|t| *t == own || *t == global)?;
        Some(Slot((start + way) as u32))
    }

    #[inline]
    pub(super) fn get(&self, slot: Slot) -> &Entry {
        self.entries[slot.0 as usize].as_ref().expect("a slot names an entry")
    }

    #[inline]
    pub(super) fn get_mut(&mut self, slot: Slot) -> &mut Entry {
        self.entries[slot.0 as usize].as_mut().expect("a slot names an entry")
    }

    /// Puts an entry in, in place of one for the same page or, if the set is full, of one chosen by `random`.
    pub(super) fn insert(&mut self, entry: Entry, random: u64) -> Slot {
        // Of what could be used for the page under this PCID one remains.
        let own = Reach { pcid: Some(entry.pcid), globals: true };
        self.drop_in_set(entry.va, own, &mut |_| {});
        let set = self.set(entry.va);
        let at = match set.clone().find(|at| self.tags[*at] == INVALID) {
            Some(at) => at,
            None => {
                let victim = set.start + (random as usize) % self.ways;
                self.remove(Slot(victim as u32));
                victim
            }
        };
        self.tags[at] = tag_of(&entry);
        self.filters.track(&entry, 1);
        self.large += usize::from(entry.level > 1);
        self.entries[at] = Some(entry);
        self.place[at] = self.live.len() as u32;
        self.live.push(at as u32);
        Slot(at as u32)
    }

    /// Takes an entry out.
    pub(super) fn remove(&mut self, slot: Slot) -> Entry {
        let at = slot.0 as usize;
        let entry = self.entries[at].take().expect("a slot names an entry");
        self.tags[at] = INVALID;
        self.filters.track(&entry, u16::MAX);
        self.large -= usize::from(entry.level > 1);
        let place = self.place[at] as usize;
        self.live.swap_remove(place);
        if let Some(moved) = self.live.get(place) {
            self.place[*moved as usize] = place as u32;
        }
        entry
    }

    fn drop_in_set(&mut self, va: VirtAddr, reach: Reach, dropped: &mut impl FnMut(&Entry)) {
        for at in self.set(va) {
            if self.is_of_page(at, va) && self.entries[at].as_ref().is_some_and(|e| reach.covers(e)) {
                dropped(&self.remove(Slot(at as u32)));
            }
        }
    }

    /// Whether the position holds a translation of `va`'s page, under whatever PCID.
    fn is_of_page(&self, at: usize, va: VirtAddr) -> bool {
        self.tags[at] != INVALID && self.tags[at] & ((1 << PAGE_BITS) - 1) == page_of(va)
    }

    /// Drops the translations of `va`'s page within `reach`, and all fragments of the large page it lies in.
    pub(super) fn drop_page(&mut self, va: VirtAddr, reach: Reach, dropped: &mut impl FnMut(&Entry)) {
        self.drop_in_set(va, reach, dropped);
        if self.large > 0 {
            self.drop_where(
                |entry| {
                    let shift = PAGE_SHIFT + 9 * (u32::from(entry.level) - 1);
                    entry.va.0 >> shift == va.0 >> shift && reach.covers(entry)
                },
                dropped,
            );
        }
    }

    /// Drops the entries that `which` names.
    pub(super) fn drop_where(&mut self, which: impl Fn(&Entry) -> bool, dropped: &mut impl FnMut(&Entry)) {
        let mut i = 0;
        while let Some(at) = self.live.get(i) {
            let slot = Slot(*at);
            if which(self.get(slot)) {
                // Another one takes this place in the list.
                dropped(&self.remove(slot));
            } else {
                i += 1;
            }
        }
    }

    /// Every entry, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.live.iter().map(|at| self.get(Slot(*at)))
    }

    /// The positions of the entries that `which` names.
    pub(super) fn positions(&self, which: impl Fn(&Entry) -> bool) -> Vec<Slot> {
        self.live.iter().map(|at| Slot(*at)).filter(|slot| which(self.get(*slot))).collect()
    }

    /// The positions of the entries for one page, under whatever PCID.
    pub(super) fn at_page(&self, va: VirtAddr) -> impl Iterator<Item = Slot> {
        self.set(va).filter(move |at| self.is_of_page(*at, va)).map(|at| Slot(at as u32))
    }

    /// Marks an entry as one that must not be used any more.
    pub(super) fn condemn(&mut self, slot: Slot) {
        self.get_mut(slot).condemned = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::{Memory, Owner};
    use super::*;

    fn fixture() -> (Tlb, Arc<Filters>, Entry) {
        let memory = Memory::new(16, 1).unwrap();
        let frame = memory.allocate(Owner::Data, true, 0).unwrap();
        let stamp = memory.stamp(frame);
        let filters = Arc::new(Filters::new());
        let entry = Entry {
            va: VirtAddr(0x5000),
            frame,
            rights: Rights::ALL,
            dirty: false,
            global: false,
            pcid: Pcid::KERNEL,
            level: 1,
            counted: false,
            condemned: false,
            root: Frame(9),
            stamp,
            leaf: 0,
            table: Frame(9),
            table_stamp: stamp,
            index: 0,
        };
        (Tlb::new(4, 2, Arc::clone(&filters)), filters, entry)
    }

    #[test]
    fn a_full_set_evicts_and_the_filters_follow() {
        let (mut tlb, filters, entry) = fixture();
        for i in 0..100 {
            tlb.insert(Entry { va: VirtAddr(i << 12), ..entry }, i);
        }
        assert_eq!(tlb.iter().count(), 8);
        assert!(filters.may_hold_frame(entry.frame));
        let held: Vec<_> = tlb.iter().map(|e| e.va).collect();
        for va in held {
            assert!(filters.may_hold_page(va));
            tlb.drop_page(va, Reach::EVERYTHING, &mut |_| {});
            assert!(tlb.lookup(va, Pcid::KERNEL).is_none());
        }
        assert!(!filters.may_hold_frame(entry.frame));
        assert!(!filters.may_hold_page(VirtAddr(99 << 12)) && !filters.may_hold_root(entry.root));
    }

    #[test]
    fn global_entries_are_found_and_counted() {
        let (mut tlb, filters, entry) = fixture();
        tlb.insert(Entry { global: true, ..entry }, 0);
        assert!(filters.has_globals());
        assert!(tlb.lookup(entry.va, Pcid::new(7).unwrap()).is_some(), "under every PCID");
        tlb.insert(entry, 0);
        assert_eq!(tlb.iter().count(), 1, "one translation per page");
        assert!(!filters.has_globals());
    }

    #[test]
    fn one_fragment_of_a_large_page_takes_all_along() {
        let (mut tlb, _, entry) = fixture();
        for i in [0_u64, 1, 511] {
            tlb.insert(Entry { va: VirtAddr((4 << 21) + (i << 12)), level: 2, ..entry }, 0);
        }
        tlb.insert(Entry { va: VirtAddr(5 << 21), level: 2, ..entry }, 0);
        let mut dropped = 0;
        tlb.drop_page(VirtAddr((4 << 21) + 0x7000), Reach::EVERYTHING, &mut |_| dropped += 1);
        assert_eq!(dropped, 3);
        assert_eq!(tlb.iter().count(), 1);
    }

    #[test]
    fn entries_of_different_pcids_live_side_by_side() {
        let (mut tlb, _, entry) = fixture();
        let [one, two] = [1, 2].map(|n| Pcid::new(n).unwrap());
        tlb.insert(Entry { pcid: one, ..entry }, 0);
        let second = tlb.insert(Entry { pcid: two, ..entry }, 0);
        assert_eq!(tlb.at_page(entry.va).count(), 2);
        assert!(tlb.lookup(entry.va, Pcid::KERNEL).is_none());
        tlb.condemn(second);
        tlb.drop_page(entry.va, Reach { pcid: Some(one), globals: true }, &mut |_| {});
        assert!(tlb.lookup(entry.va, one).is_none() && tlb.lookup(entry.va, two).is_some());
        assert!(tlb.iter().all(|entry| entry.condemned));
        tlb.drop_where(|entry| Reach { pcid: Some(two), globals: false }.covers(entry), &mut |_| {});
        assert_eq!(tlb.iter().count(), 0);
    }
}
