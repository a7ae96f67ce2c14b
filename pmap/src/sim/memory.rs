//! Physical memory: frames, who owns them, and what becomes of them when they are freed.
//!
//! All of memory is one allocation of the host, so a frame in the direct map is real memory. It is read
//! and written through atomics only, because simulated hardware walks tables while the pmap changes them.
//!
//! Every hand-over of a frame gives it a new *stamp* (INV-M-1). Whoever keeps a reference to a frame outside
//! the tables (a TLB, a paging-structure cache) keeps the stamp with it, and finds out by comparing
//! that the frame has had another owner since. Stamps never repeat, so the comparison is exact.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::boxed::Box;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

use super::config::SimError;
use crate::machine::FrameUse;
use crate::{Frame, FrameRange, PAGE_SIZE};

/// Words in a frame.
pub(super) const WORDS: usize = 512;

/// What every word of a freed frame holds. The present bit is clear, so it is never taken for a table entry.
pub const POISON: u64 = 0xfefe_fefe_fefe_fefe;

/// What a frame is in use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Owner {
    /// Never handed out.
    Untouched = 0,
    /// Handed out before, and given back.
    Free = 1,
    /// A page of the layer above.
    Data = 2,
    /// A page-table page.
    PageTable = 3,
    /// A chunk of PV entries.
    PvChunk = 4,
    /// The pmap's records.
    PmapRecord = 5,
}

/// Number of [`Owner`]s.
pub(super) const OWNERS: usize = 6;

impl From<FrameUse> for Owner {
    fn from(purpose: FrameUse) -> Self {
        match purpose {
            FrameUse::PageTable => Self::PageTable,
            FrameUse::PvChunk => Self::PvChunk,
            FrameUse::PmapRecord => Self::PmapRecord,
        }
    }
}

/// A frame's current hand-over: unique among all hand-overs of all frames, and the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp(u64);

impl Stamp {
    const OWNER_BITS: u32 = 3;

    fn new(serial: u64, owner: Owner) -> Self {
        Self((serial << Self::OWNER_BITS) | owner as u64)
    }

    pub(super) fn owner(self) -> Owner {
        match self.0 & 7 {
            0 => Owner::Untouched,
            1 => Owner::Free,
            2 => Owner::Data,
            3 => Owner::PageTable,
            4 => Owner::PvChunk,
            _ => Owner::PmapRecord,
        }
    }
}

/// A frame was given back that its giver did not own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Misuse {
    pub(super) found: Owner,
}

struct Pool {
    /// Freed frames, the last one freed on top: it is reused first, which leaves stale references the
    /// least time to be dropped by chance. By domain.
    recycled: Vec<Vec<u64>>,
    /// Lowest frame that was never handed out, by domain.
    untouched: Vec<u64>,
    serial: u64,
    reused: u64,
    in_use: [u64; OWNERS],
    peak: u64,
}

impl Pool {
    /// A frame of `domain`, and whether it was in use before.
    fn take(&mut self, domain: usize, range: &FrameRange) -> Option<(u64, bool)> {
        if let Some(frame) = self.recycled[domain].pop() {
            self.reused += 1;
            return Some((frame, true));
        }
        let untouched = &mut self.untouched[domain];
        if *untouched < range.start.0 + range.count {
            *untouched += 1;
            // The host zeroed it when the machine was made.
            return Some((*untouched - 1, false));
        }
        None
    }
}

/// The machine's memory. Usable frames are `1..=frames`; frame 0 exists and is never handed out (a
/// terminal fault, L1TF, reads through a non-present entry, and zeroed entries point there).
pub(super) struct Memory {
    base: NonNull<u8>,
    layout: Layout,
    frames: u64,
    stamps: Box<[AtomicU64]>,
    free: AtomicU64,
    pool: Mutex<Pool>,
    /// Of the domains.
    ranges: Box<[FrameRange]>,
}

// SAFETY: the allocation is owned by this value, and is reached by atomics (`word`) or by raw pointers
// whose users answer for themselves.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Memory of `frames` frames in `domains` domains of equal size, more or less.
    pub(super) fn new(frames: u64, domains: usize) -> Result<Self, SimError> {
        let refused = SimError::FrameCount { asked: frames };
        let count = usize::try_from(frames + 1).map_err(|_| refused)?;
        let bytes = count.checked_mul(PAGE_SIZE as usize).ok_or(refused)?;
        let layout = Layout::from_size_align(bytes, PAGE_SIZE as usize).map_err(|_| refused)?;
        // SAFETY: the layout's size is not zero, there is at least frame 0.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(SimError::HostMemory { bytes })?;
        let parts = domains as u64;
        let ranges: Box<[FrameRange]> = (0..parts)
            .map(|part| {
                let (start, end) = (frames * part / parts, frames * (part + 1) / parts);
                FrameRange { start: Frame(1 + start), count: end - start }
            })
            .collect();
        Ok(Self {
            base,
            layout,
            frames,
            stamps: (0..count).map(|_| AtomicU64::new(0)).collect(),
            free: AtomicU64::new(frames),
            pool: Mutex::new(Pool {
                recycled: std::vec![Vec::new(); domains],
                untouched: ranges.iter().map(|range| range.start.0).collect(),
                serial: 0,
                reused: 0,
                in_use: [0; OWNERS],
                peak: 0,
            }),
            ranges,
        })
    }

    pub(super) fn ranges(&self) -> &[FrameRange] {
        &self.ranges
    }

    /// Whether the machine has this frame and could have handed it out.
    #[inline]
    pub(super) fn contains(&self, frame: Frame) -> bool {
        frame.0 != 0 && frame.0 <= self.frames
    }

    /// Address of `frame` in the direct map.
    ///
    /// # Panics
    ///
    /// If the machine has no such frame.
    #[inline]
    pub(super) fn direct_map(&self, frame: Frame) -> NonNull<u8> {
        assert!(frame.0 <= self.frames, "{frame:?} is beyond the machine's {} frames", self.frames);
        // SAFETY: the allocation has `frames + 1` pages, so the offset is inside it.
        unsafe { self.base.add((frame.0 * PAGE_SIZE) as usize) }
    }

    /// The frame at an address of the direct map.
    ///
    /// # Panics
    ///
    /// If the address is not one of the machine's memory.
    pub(super) fn frame_at(&self, address: NonNull<u8>) -> Frame {
        let offset = address.addr().get().wrapping_sub(self.base.addr().get());
        assert!(offset < self.layout.size(), "{address:?} is no address of the machine's memory");
        Frame((offset / PAGE_SIZE as usize) as u64)
    }

    /// The words of a frame.
    #[inline]
    pub(super) fn words(&self, frame: Frame) -> &[AtomicU64; WORDS] {
        // SAFETY: the pointer is aligned to a page and valid for one, for as long as `self` lives; the
        // memory was zeroed, hence initialised, and the simulator and its users touch it by atomics.
        unsafe { self.direct_map(frame).cast::<[AtomicU64; WORDS]>().as_ref() }
    }

    /// The current hand-over of `frame`.
    #[inline]
    pub(super) fn stamp(&self, frame: Frame) -> Stamp {
        // ORD: SeqCst; `retire` changes the stamp before it searches, and an access checks it under the
        // TLB lock.
        Stamp(self.stamps[frame.0 as usize].load(Ordering::SeqCst))
    }

    fn pool(&self) -> std::sync::MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The domain of a frame; the last one's for a frame beyond.
    pub(super) fn domain(&self, frame: Frame) -> usize {
        self.ranges.partition_point(|range| range.start.0 <= frame.0).saturating_sub(1)
    }

    /// Hands out a frame, `None` if all are in use: of domain `near`, or of the next one that has any.
    pub(super) fn allocate(&self, owner: Owner, zero: bool, near: usize) -> Option<Frame> {
        let mut pool = self.pool();
        let domains = self.ranges.len();
        let mut in_turn = (0..domains).map(|i| (near + i) % domains);
        let (frame, dirty) = in_turn.find_map(|domain| pool.take(domain, &self.ranges[domain]))?;
        pool.serial += 1;
        let stamp = Stamp::new(pool.serial, owner);
        pool.in_use[owner as usize] += 1;
        let used = pool.in_use.iter().sum();
        pool.peak = pool.peak.max(used);
        // ORD: Relaxed; a hint for page daemons, exact whenever the pool is quiet.
        self.free.store(self.frames - used, Ordering::Relaxed);
        drop(pool);
        let frame = Frame(frame);
        if zero && dirty {
            self.fill(frame, 0);
        }
        // ORD: SeqCst, as in `stamp`.
        self.stamps[frame.0 as usize].store(stamp.0, Ordering::SeqCst);
        Some(frame)
    }

    /// First half of a free: from here on the frame belongs to nobody, and every reference that was
    /// made before is recognisably stale. The frame is not reused before [`recycle`](Self::recycle).
    pub(super) fn retire(&self, frame: Frame, owner: Owner) -> Result<(), Misuse> {
        if !self.contains(frame) {
            return Err(Misuse { found: Owner::Untouched });
        }
        let old = self.stamp(frame);
        if old.owner() != owner {
            return Err(Misuse { found: old.owner() });
        }
        let serial = {
            let mut pool = self.pool();
            pool.serial += 1;
            pool.serial
        };
        let new = Stamp::new(serial, Owner::Free);
        // ORD: SeqCst, as in `stamp`; a compare-exchange so that of two who free it at once one is told.
        self.stamps[frame.0 as usize]
            .compare_exchange(old.0, new.0, Ordering::SeqCst, Ordering::SeqCst)
            .map(|_| ())
            .map_err(|now| Misuse { found: Stamp(now).owner() })
    }

    /// Second half of a free: poisons the frame and lets it be handed out again.
    pub(super) fn recycle(&self, frame: Frame, owner: Owner) {
        self.fill(frame, POISON);
        let mut pool = self.pool();
        pool.recycled[self.domain(frame)].push(frame.0);
        pool.in_use[owner as usize] -= 1;
        let used: u64 = pool.in_use.iter().sum();
        // ORD: Relaxed, as in `allocate`.
        self.free.store(self.frames - used, Ordering::Relaxed);
    }

    /// Second half of a change of hands: the retired frame goes from one owner to another as it is.
    pub(super) fn hand_over(&self, frame: Frame, from: Owner, to: Owner) {
        let mut pool = self.pool();
        pool.serial += 1;
        let stamp = Stamp::new(pool.serial, to);
        pool.in_use[from as usize] -= 1;
        pool.in_use[to as usize] += 1;
        pool.reused += 1;
        drop(pool);
        // ORD: SeqCst, as in `stamp`.
        self.stamps[frame.0 as usize].store(stamp.0, Ordering::SeqCst);
    }

    fn fill(&self, frame: Frame, value: u64) {
        for word in self.words(frame) {
            // ORD: Relaxed; nobody may read it yet, and whoever gets the frame gets it from this thread or
            // through the pool's lock.
            word.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn total(&self) -> u64 {
        self.frames
    }

    pub(super) fn free(&self) -> u64 {
        // ORD: Relaxed, as in `allocate`.
        self.free.load(Ordering::Relaxed)
    }

    /// Frames in use per owner, the most that were in use at once, and how often a freed one was reused.
    pub(super) fn usage(&self) -> ([u64; OWNERS], u64, u64) {
        let pool = self.pool();
        (pool.in_use, pool.peak, pool.reused)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and nothing outlives the machine that owns it.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hand_overs_are_told_apart_and_frame_zero_is_kept() {
        let memory = Memory::new(16, 1).unwrap();
        let mut all: Vec<_> = core::iter::from_fn(|| memory.allocate(Owner::Data, true, 0)).collect();
        assert_eq!(all.len(), 16);
        assert!(all.iter().all(|f| memory.contains(*f)));
        assert_eq!(memory.free(), 0);
        let frame = all.pop().unwrap();
        let before = memory.stamp(frame);
        memory.retire(frame, Owner::Data).unwrap();
        assert_eq!(memory.stamp(frame).owner(), Owner::Free);
        assert_eq!(memory.retire(frame, Owner::Data).unwrap_err().found, Owner::Free);
        memory.recycle(frame, Owner::Data);
        assert_eq!(memory.words(frame)[7].load(Ordering::Relaxed), POISON);
        let again = memory.allocate(Owner::PageTable, true, 0).unwrap();
        assert_eq!(again, frame, "the last one freed is reused first");
        assert_ne!(memory.stamp(frame), before);
        assert_eq!(memory.words(frame)[7].load(Ordering::Relaxed), 0);
        let (in_use, peak, reused) = memory.usage();
        assert_eq!((in_use[Owner::Data as usize], in_use[Owner::PageTable as usize]), (15, 1));
        assert_eq!((peak, reused), (16, 1));
    }

    #[test]
    fn a_frame_is_given_back_by_its_owner_only() {
        let memory = Memory::new(16, 1).unwrap();
        let frame = memory.allocate(Owner::PvChunk, true, 0).unwrap();
        assert_eq!(memory.retire(frame, Owner::Data).unwrap_err().found, Owner::PvChunk);
        assert!(memory.retire(Frame(0), Owner::Data).is_err());
        assert!(memory.retire(Frame(17), Owner::Data).is_err());
    }

    #[test]
    fn frames_come_from_the_near_domain_while_it_has_any() {
        let memory = Memory::new(17, 3).unwrap();
        assert_eq!(memory.ranges().iter().map(|range| range.count).sum::<u64>(), 17);
        let own = memory.ranges()[1].count;
        let taken: Vec<_> = (0..own).map(|_| memory.allocate(Owner::Data, true, 1).unwrap()).collect();
        assert!(taken.iter().all(|frame| memory.domain(*frame) == 1));
        let far = memory.allocate(Owner::Data, true, 1).unwrap();
        assert_eq!(memory.domain(far), 2, "the next one helps out");
        memory.retire(taken[0], Owner::Data).unwrap();
        memory.recycle(taken[0], Owner::Data);
        assert_eq!(memory.allocate(Owner::Data, true, 1), Some(taken[0]));
        let rest = core::iter::from_fn(|| memory.allocate(Owner::Data, true, 0)).count() as u64;
        assert_eq!(rest, 17 - own - 1);
    }
}
