//! PV-list locks, and the generation words that delayed invalidation keeps beside them.
//!
//! A page and the 2 MiB run around it share one lock. Either the runs are hashed over a fixed number of locks, or each
//! run has a lock of its own, which costs memory in proportion to the machine's and keeps CPUs that work on
//! different memory, of different domains above all, off each other's lines ([`PvLocking`]). Which lock is a page's
//! stands in its record, so both cost the same to find.
//!
//! Each lock has a generation word: the generation of the newest DI block that unlinked a PV entry of one of its
//! pages without having flushed yet. The word is written only with the lock held for writing (INV-DI-4 of `gencount`).

use core::ptr::NonNull;

use crossbeam_utils::CachePadded;
use gencount::GenerationWord;
use lock_api::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::PvPtr;
use crate::addr::{Frame, FrameRange, VirtAddr};
use crate::machine::Machine;
use crate::record::{Knew, PageRecord};

/// Locks if runs are hashed.
const HASHED: usize = 64;
/// log2 of the frames in a run that shares a lock: 2 MiB.
const RUN_SHIFT: u32 = 9;

/// How pages share the locks of their PV lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum PvLocking {
    /// 64 locks, over which the 2 MiB runs of memory are hashed.
    #[default]
    Hashed,
    /// A lock for every 2 MiB run, as large machines with several memory domains want it.
    PerRun,
}

impl PvLocking {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Hashed, Self::PerRun];

    /// The name used on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hashed => "hashed",
            Self::PerRun => "per-run",
        }
    }

    /// Number of locks for `memory`, whose ranges are ascending and not empty.
    pub(crate) fn locks(self, memory: &[FrameRange]) -> usize {
        let mut numbering = self.numbering();
        match self {
            Self::Hashed => HASHED,
            Self::PerRun => memory
                .iter()
                .flat_map(|r| (r.start.0 >> RUN_SHIFT)..=((r.start.0 + r.count - 1) >> RUN_SHIFT))
                .map(|run| numbering.of(Frame(run << RUN_SHIFT)) as usize + 1)
                .last()
                .unwrap_or(0),
        }
    }

    /// Tells the number of the lock of each frame of memory, in ascending order.
    pub(crate) fn numbering(self) -> Numbering {
        Numbering { locking: self, run: None, number: 0 }
    }
}

impl core::fmt::Display for PvLocking {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// See [`PvLocking::numbering`].
pub(crate) struct Numbering {
    locking: PvLocking,
    run: Option<u64>,
    number: u32,
}

impl Numbering {
    /// The number of the lock of `frame`. No frame is skipped whose run has no later one.
    pub(crate) fn of(&mut self, frame: Frame) -> u32 {
        let run = frame.0 >> RUN_SHIFT;
        match self.locking {
            PvLocking::Hashed => (run % HASHED as u64) as u32,
            PvLocking::PerRun => {
                // Two ranges of memory may share a run, and with it the lock.
                if self.run.is_some_and(|last| last != run) {
                    self.number += 1;
                }
                self.run = Some(run);
                self.number
            }
        }
    }
}

/// A lock and its generation word, on lines of their own.
pub(crate) struct Bucket<L> {
    lock: RwLock<L, ()>,
    word: GenerationWord,
}

/// The PV-list locks of one system: an array in storage that outlives it.
pub(crate) struct PvLocks<M: Machine> {
    first: NonNull<CachePadded<Bucket<M::RawRwLock>>>,
    count: usize,
}

// SAFETY: the buckets are locks and atomics, reachable by shared references only.
unsafe impl<M: Machine> Send for PvLocks<M> {}
// SAFETY: as above.
unsafe impl<M: Machine> Sync for PvLocks<M> {}

impl<M: Machine> PvLocks<M> {
    /// Writes `count` free locks into `storage`.
    ///
    /// # Safety
    ///
    /// `storage` is aligned for, and valid for writes of, `count` buckets, is used by nobody else, and lives as
    /// long as the value returned.
    pub(crate) unsafe fn lay_out(count: usize, storage: NonNull<CachePadded<Bucket<M::RawRwLock>>>) -> Self {
        for i in 0..count {
            let bucket = Bucket { lock: RwLock::new(()), word: GenerationWord::new() };
            // SAFETY: i is below count, so the place lies inside the storage.
            unsafe { storage.add(i).write(CachePadded::new(bucket)) };
        }
        Self { first: storage, count }
    }

    fn bucket(&self, number: u32) -> &Bucket<M::RawRwLock> {
        // SAFETY: `lay_out` initialised `count` buckets, which live as long as self and are only shared.
        let all = unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.count) };
        &all[number as usize]
    }

    /// The generation word of the page's lock.
    pub(crate) fn word(&self, page: &PageRecord) -> &GenerationWord {
        &self.bucket(page.pv_lock()).word
    }

    /// Locks the page's PV list for reading.
    pub(crate) fn read(&self, page: &PageRecord) -> RwLockReadGuard<'_, M::RawRwLock, ()> {
        self.bucket(page.pv_lock()).lock.read()
    }

    /// As [`read`](Self::read), in a form that can be released and taken again.
    pub(crate) fn read_slot(&self, page: &PageRecord) -> PvReadSlot<'_, M> {
        PvReadSlot { locks: self, held: Some(self.read(page)) }
    }

    /// A slot that holds no lock yet.
    pub(crate) fn slot(&self) -> PvSlot<'_, M> {
        PvSlot { locks: self, held: None }
    }

    /// A slot that holds the page's lock.
    pub(crate) fn write(&self, page: &PageRecord) -> PvSlot<'_, M> {
        let mut slot = self.slot();
        slot.change_to(page);
        slot
    }
}

/// At most one PV-list lock, held for writing. Operations over many pages carry one along, so that
/// consecutive pages of one run cost a single acquisition, and never hold two.
pub(crate) struct PvSlot<'s, M: Machine> {
    locks: &'s PvLocks<M>,
    held: Option<(u32, RwLockWriteGuard<'s, M::RawRwLock, ()>)>,
}

/// The lock of a page's PV list, held for reading or writing, that whoever goes against lock order drops and
/// takes again.
pub(crate) trait PvHold {
    /// Holds no lock afterwards.
    fn release(&mut self);

    /// Holds the page's lock afterwards.
    fn take(&mut self, page: &PageRecord);
}

/// A PV-list lock held for reading.
pub(crate) struct PvReadSlot<'s, M: Machine> {
    locks: &'s PvLocks<M>,
    held: Option<RwLockReadGuard<'s, M::RawRwLock, ()>>,
}

impl<M: Machine> PvHold for PvReadSlot<'_, M> {
    fn release(&mut self) {
        self.held = None;
    }

    fn take(&mut self, page: &PageRecord) {
        self.held = Some(self.locks.read(page));
    }
}

impl<M: Machine> PvHold for PvSlot<'_, M> {
    fn release(&mut self) {
        self.held = None;
    }

    fn take(&mut self, page: &PageRecord) {
        self.change_to(page);
    }
}

impl<M: Machine> PvSlot<'_, M> {
    /// Holds the page's lock afterwards; another one that was held is released first.
    pub(crate) fn change_to(&mut self, page: &PageRecord) {
        let number = page.pv_lock();
        if self.held.as_ref().is_some_and(|(held, _)| *held == number) {
            return;
        }
        self.held = None;
        self.held = Some((number, self.locks.bucket(number).lock.write()));
    }

    fn assert_holds(&self, page: &PageRecord) {
        debug_assert!(
            self.held.as_ref().is_some_and(|(held, _)| *held == page.pv_lock()),
            "the page's PV-list lock must be held for writing"
        );
    }

    /// The generation word of the lock held.
    pub(crate) fn word(&self) -> Option<&GenerationWord> {
        self.held.as_ref().map(|(held, _)| &self.locks.bucket(*held).word)
    }

    /// Puts `entry`, for a mapping at `va`, on the page's list.
    pub(crate) fn append(&mut self, page: &PageRecord, entry: PvPtr, va: VirtAddr) {
        self.assert_holds(page);
        entry.set_va(va);
        page.append_pv(entry);
    }

    /// Takes `entry` off the page's list, and the page's writeable mark with the last mapping (H-71).
    pub(crate) fn unlink(&mut self, page: &PageRecord, entry: PvPtr) {
        self.unlink_knowing(page, entry, Knew::default());
    }

    /// As [`unlink`](Self::unlink); before that the page takes up what the mapping knew (INV-E-1).
    pub(crate) fn unlink_knowing(&mut self, page: &PageRecord, entry: PvPtr, knew: Knew) {
        self.assert_holds(page);
        debug_assert!(page.pv_entries().any(|e| e == entry), "the entry is on the page's list");
        page.take_up(knew, page.is_only_pv(entry));
        page.unlink_pv(entry);
    }

    /// Moves `entry` to the end of the page's list.
    pub(crate) fn rotate(&mut self, page: &PageRecord, entry: PvPtr) {
        self.assert_holds(page);
        page.unlink_pv(entry);
        page.append_pv(entry);
    }

    /// The entry for the mapping at `va` of the pmap that `owner` points to.
    pub(crate) fn find(&self, page: &PageRecord, owner: *const (), va: VirtAddr) -> Option<PvPtr> {
        self.assert_holds(page);
        page.pv_entries().find(|e| e.va() == va && e.chunk().owner() == owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn runs_have_locks_of_their_own_if_asked() {
        let range = |start, count| FrameRange { start: Frame(start), count };
        // The second range begins in the run in which the first one ends; between the others there is a hole.
        let memory = [range(1, 600), range(700, 400), range(1 << 20, 512)];
        assert_eq!(PvLocking::PerRun.locks(&memory), 4);
        assert_eq!(PvLocking::Hashed.locks(&memory), HASHED);
        let mut numbering = PvLocking::PerRun.numbering();
        let frames = memory.iter().flat_map(|r| r.start.0..r.start.0 + r.count);
        let numbers: Vec<_> = frames.map(|f| (f, numbering.of(Frame(f)))).collect();
        let of = |frame| numbers.iter().find(|(f, _)| *f == frame).unwrap().1;
        assert_eq!([of(1), of(511), of(512), of(600), of(700), of(1024), of(1 << 20)], [0, 0, 1, 1, 1, 2, 3]);
        let mut numbering = PvLocking::Hashed.numbering();
        assert_eq!(numbering.of(Frame((64 << RUN_SHIFT) + 512)), 1);
    }
}
