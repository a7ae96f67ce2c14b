//! PV-list locks, and the generation words that delayed invalidation keeps beside them.
//!
//! Locks are hashed by 2 MiB run, so a page and the run around it share one. Each has a generation word:
//! the generation of the newest DI block that unlinked a PV entry of one of its pages without having
//! flushed yet. The word is written only with the lock held for writing (INV-DI-4 of `gencount`).

use core::array;

use crossbeam_utils::CachePadded;
use gencount::GenerationWord;
use lock_api::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::{PvPtr, chunk::ChunkPtr};
use crate::addr::{Frame, VirtAddr};
use crate::machine::Machine;
use crate::record::PageRecord;

const LOCKS: usize = 64;
/// log2 of the frames in a run that shares a lock: 2 MiB.
const RUN_SHIFT: u32 = 9;

struct Bucket<L> {
    lock: RwLock<L, ()>,
    word: GenerationWord,
}

/// The PV-list locks of one system.
pub(crate) struct PvLocks<M: Machine> {
    buckets: [CachePadded<Bucket<M::RawRwLock>>; LOCKS],
}

impl<M: Machine> PvLocks<M> {
    pub(crate) fn new() -> Self {
        let bucket = || Bucket { lock: RwLock::new(()), word: GenerationWord::new() };
        Self { buckets: array::from_fn(|_| CachePadded::new(bucket())) }
    }

    fn index(frame: Frame) -> usize {
        (frame.0 >> RUN_SHIFT) as usize % LOCKS
    }

    /// The generation word of the page's lock.
    pub(crate) fn word(&self, frame: Frame) -> &GenerationWord {
        &self.buckets[Self::index(frame)].word
    }

    /// Locks the page's PV list for reading.
    pub(crate) fn read(&self, frame: Frame) -> RwLockReadGuard<'_, M::RawRwLock, ()> {
        self.buckets[Self::index(frame)].lock.read()
    }

    /// A slot that holds no lock yet.
    pub(crate) fn slot(&self) -> PvSlot<'_, M> {
        PvSlot { locks: self, held: None }
    }

    /// A slot that holds the page's lock.
    pub(crate) fn write(&self, frame: Frame) -> PvSlot<'_, M> {
        let mut slot = self.slot();
        slot.change_to(frame);
        slot
    }
}

/// At most one PV-list lock, held for writing. Operations over many pages carry one along, so that
/// consecutive pages of one run cost a single acquisition, and never hold two.
pub(crate) struct PvSlot<'s, M: Machine> {
    locks: &'s PvLocks<M>,
    held: Option<(usize, RwLockWriteGuard<'s, M::RawRwLock, ()>)>,
}

impl<M: Machine> PvSlot<'_, M> {
    /// Holds the lock of `frame`'s page afterwards; another one that was held is released first.
    pub(crate) fn change_to(&mut self, frame: Frame) {
        let index = PvLocks::<M>::index(frame);
        if self.held.as_ref().is_some_and(|(held, _)| *held == index) {
            return;
        }
        self.held = None;
        self.held = Some((index, self.locks.buckets[index].lock.write()));
    }

    /// Holds no lock afterwards.
    pub(crate) fn release(&mut self) {
        self.held = None;
    }

    fn assert_holds(&self, page: &PageRecord) {
        debug_assert!(
            self.held.as_ref().is_some_and(|(held, _)| *held == PvLocks::<M>::index(page.frame())),
            "the page's PV-list lock must be held for writing"
        );
    }

    /// The generation word of the lock held.
    pub(crate) fn word(&self) -> Option<&GenerationWord> {
        self.held.as_ref().map(|(held, _)| &self.locks.buckets[*held].word)
    }

    /// Puts `entry`, for a mapping at `va`, on the page's list.
    pub(crate) fn append(&mut self, page: &PageRecord, entry: PvPtr, va: VirtAddr) {
        self.assert_holds(page);
        entry.set_va(va);
        page.append_pv(entry);
    }

    /// Takes `entry` off the page's list, and the page's writeable mark with the last mapping (H-71).
    pub(crate) fn unlink(&mut self, page: &PageRecord, entry: PvPtr) {
        self.assert_holds(page);
        page.unlink_pv(entry);
        if page.first_pv().is_none() {
            page.clear_writeable();
        }
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
        page.pv_entries().find(|e| e.va() == va && ChunkPtr::owner(e.chunk()) == owner)
    }
}
