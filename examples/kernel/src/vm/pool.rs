//! Frames for the contents of pages, and the check that nobody stores to a free one.
//!
//! A frame that is given back is filled with a poison, which is looked at when the frame is handed out again: a CPU that still had
//! a translation to it, and used it, has left a trace. Frames are handed out last in, first out, so that they are soon
//! somebody else's: then it is the new owner's contents that change.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use pmap::{Frame, Machine as _, PAGE_SIZE, PageRecord};

use super::{Shortage, Violations, Vm};
use crate::machine::System;
use crate::memory::frames;
use crate::sched::Mutex;

/// Words of a page.
pub(super) const WORDS: usize = PAGE_SIZE as usize / size_of::<u64>();

/// The words of a frame.
pub(super) type Words = [AtomicU64; WORDS];

/// The frames.
pub(super) struct Pool {
    free: Mutex<Vec<Frame>>,
    /// How many there are in `free`, for those who only want to know.
    free_count: AtomicUsize,
    total: usize,
    /// Whether free frames hold their poison.
    poisons: bool,
}

/// What each word of a free frame holds.
const fn poison(frame: Frame) -> u64 {
    0xdead_f4ee_0000_0000 | (frame.0 & 0xffff_ffff)
}

/// The words of `frame`, in the direct map.
pub(super) fn words(system: &System, frame: Frame) -> &Words {
    // SAFETY: the frame is one of the machine's memory, so the direct map has 4096 aligned bytes there for good. Everybody
    // who touches frames of the pool does so by atomics, or by user instructions through a translation.
    unsafe { system.machine().direct_map(frame).cast::<Words>().as_ref() }
}

fn fill(words: &Words, value: u64) {
    // ORD: Relaxed; who gets the frame gets it through a lock.
    words.iter().for_each(|word| word.store(value, Ordering::Relaxed));
}

/// The first word that is not `value`, and where.
fn find_other(words: &Words, value: u64) -> Option<(usize, u64)> {
    // ORD: Relaxed; as in `fill`. A store that should not be may come at any time anyhow.
    words.iter().map(|word| word.load(Ordering::Relaxed)).enumerate().find(|(_, word)| *word != value)
}

impl Pool {
    pub(super) fn new(system: &System, total: usize, poisons: bool) -> Result<Self, Shortage> {
        let mut pool = Self { free: Mutex::default(), free_count: AtomicUsize::new(total), total, poisons };
        let mut free = Vec::with_capacity(total);
        for _ in 0..total {
            let Some(frame) = frames::allocate() else {
                free.into_iter().for_each(frames::free);
                return Err(Shortage);
            };
            pool.poison(system, frame);
            free.push(frame);
        }
        *pool.free.get_mut() = free;
        Ok(pool)
    }

    /// Fills a frame that is free from now on.
    fn poison(&self, system: &System, frame: Frame) {
        if self.poisons {
            fill(words(system, frame), poison(frame));
        }
    }

    /// Looks whether a frame that has been free until now was stored to.
    fn check_poison(&self, system: &System, frame: Frame, violations: &Violations) {
        if self.poisons
            && let Some((index, word)) = find_other(words(system, frame), poison(frame))
        {
            violations
                .note(format_args!("{frame:?} was stored to while it was free: word {index} is {word:#x}"));
        }
    }

    /// How many there are, free or not.
    pub(super) fn total(&self) -> usize {
        self.total
    }

    pub(super) fn free_count(&self) -> usize {
        // ORD: Relaxed; a hint.
        self.free_count.load(Ordering::Relaxed)
    }

    fn take(&self) -> Option<Frame> {
        let mut free = self.free.lock();
        let frame = free.pop();
        // ORD: Relaxed; written under the lock.
        self.free_count.store(free.len(), Ordering::Relaxed);
        frame
    }

    fn put(&self, frame: Frame) {
        let mut free = self.free.lock();
        free.push(frame);
        // ORD: Relaxed; as above.
        self.free_count.store(free.len(), Ordering::Relaxed);
    }

    /// Checks that everything has come back unharmed, and returns it to the machine.
    pub(super) fn drain(&self, system: &System, violations: &Violations) {
        let free = core::mem::take(&mut *self.free.lock());
        if free.len() != self.total {
            violations.note(format_args!("{} of {} frames were given back", free.len(), self.total));
        }
        for frame in free {
            self.check_poison(system, frame, violations);
            frames::free(frame);
        }
        self.free_count.store(0, Ordering::Relaxed); // ORD: a hint
    }
}

impl Vm {
    /// A frame with unspecified contents, clean and unreferenced as far as its record goes.
    pub(super) fn allocate(&self) -> Result<Frame, Shortage> {
        let frame = self.pool.take().ok_or(Shortage)?;
        self.pool.check_poison(self.system, frame, &self.violations);
        if let Some(record) = self.record(frame) {
            record.clear_dirty();
            record.clear_referenced_flag();
        }
        self.counts.frames_allocated.add_one();
        Ok(frame)
    }

    /// Gives a frame back. It is mapped nowhere.
    pub(super) fn free(&self, frame: Frame) {
        if self.record(frame).is_some_and(|record| self.system.page_is_mapped(record)) {
            self.violations.note(format_args!("{frame:?} is given back while it is mapped"));
        }
        self.pool.poison(self.system, frame);
        self.counts.frames_freed.add_one();
        self.pool.put(frame);
    }

    /// The pmap's record of a frame of the pool.
    pub(super) fn record(&self, frame: Frame) -> Option<&'static PageRecord> {
        let record = self.system.page(frame);
        if record.is_none() {
            self.violations.note(format_args!("{frame:?} has no page record"));
        }
        record
    }

    /// Frames in all.
    #[must_use]
    pub(crate) fn frames(&self) -> usize {
        self.pool.total()
    }

    /// Frames that are free at the moment.
    #[must_use]
    pub(crate) fn free_frames(&self) -> usize {
        self.pool.free_count()
    }
}
