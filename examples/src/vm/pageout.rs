//! The page daemon: takes frames back from pages that were not used lately.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use pmap::sim::Mutex as SimMutex;
use pmap::{Frame, Machine as _, PageRecord};

use super::page::{HeldPage, Page, PageRef, Residence};
use super::swap::SwapCopy;
use super::table::count;
use super::{Cpu, Vm, VmError};

/// Frames to free per call.
const BATCH: usize = 32;
/// Rounds in which nothing could be reclaimed before memory counts as exhausted.
const EMPTY_ROUNDS: usize = 300;

/// Pages in frames, oldest first.
#[derive(Default)]
pub(super) struct Reclaim {
    queue: Mutex<VecDeque<Weak<SimMutex<Page>>>>,
    /// One daemon at a time is enough.
    running: AtomicBool,
}

impl Reclaim {
    fn queue(&self) -> std::sync::MutexGuard<'_, VecDeque<Weak<SimMutex<Page>>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How eagerly a page is evicted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evict {
    /// Only if it was not used since the daemon came by last time.
    Unused,
    /// In any case.
    Anyway,
}

enum Verdict {
    Evicted,
    Keep,
    /// It is in no frame (any more).
    Gone,
}

impl<'s> Vm<'s> {
    /// Tells the page daemon of a page that is in a frame.
    pub(super) fn admit(&self, page: &mut Page, this: &PageRef) {
        if !page.queued && !page.is_kernel() {
            page.queued = true;
            self.reclaim.queue().push_back(Arc::downgrade(this));
        }
    }

    /// Runs the page daemon on this CPU if free memory is low and no other CPU does. No lock is held.
    pub fn balance(&self, cpu: &mut Cpu<'s>) {
        let low = self.settings.low_water;
        if low == 0 || self.machine().free_frames() >= low {
            return;
        }
        // ORD: Acquire pairs with the Release below; only for exclusion, the queue has its own lock.
        if self.reclaim.running.swap(true, Ordering::Acquire) {
            return;
        }
        while self.machine().free_frames() < 2 * low && self.reclaim_some(cpu, Evict::Unused, BATCH) > 0 {}
        // ORD: Release pairs with the Acquire above.
        self.reclaim.running.store(false, Ordering::Release);
    }

    /// Reclaims because an allocation failed. No lock is held.
    pub(super) fn reclaim_or_fail(&self, cpu: &mut Cpu<'s>, what: &'static str) -> Result<(), VmError> {
        count(&self.counts.direct_reclaims, 1);
        for round in 0..EMPTY_ROUNDS {
            if self.is_stopped() {
                return Err(VmError::Stopped);
            }
            self.poll(cpu);
            let how = if round < EMPTY_ROUNDS / 2 { Evict::Unused } else { Evict::Anyway };
            if self.reclaim_some(cpu, how, BATCH) > 0 {
                return Ok(());
            }
            // Another CPU may hold what could be freed.
            self.machine().relax();
            if self.machine().free_frames() > 0 {
                return Ok(());
            }
        }
        Err(VmError::OutOfMemory(what))
    }

    /// Evicts up to `most` pages; returns how many. A page that was used gets a second chance.
    pub fn reclaim_some(&self, cpu: &mut Cpu<'s>, how: Evict, most: usize) -> usize {
        let mut looks = 2 * self.reclaim.queue().len() + 1;
        let mut evicted = 0;
        while evicted < most && looks > 0 {
            looks -= 1;
            let Some(next) = self.reclaim.queue().pop_front() else { break };
            let Some(page) = next.upgrade() else { continue };
            let verdict = match page.try_lock_arc() {
                Some(mut held) => self.consider(&mut held, how),
                None => Verdict::Keep,
            };
            match verdict {
                Verdict::Evicted => evicted += 1,
                Verdict::Gone => {}
                Verdict::Keep => self.reclaim.queue().push_back(next),
            }
            self.poll(cpu);
        }
        evicted
    }

    /// Evicts this page if it is in a frame and nobody has it locked. Returns whether it did.
    pub fn evict_page(&self, page: &PageRef) -> bool {
        let Some(mut held) = page.try_lock_arc() else { return false };
        let queued = held.queued;
        let evicted = matches!(self.consider(&mut held, Evict::Anyway), Verdict::Evicted);
        // Its place in the queue, if it has one, is still there.
        held.queued = queued;
        evicted
    }

    fn consider(&self, page: &mut HeldPage, how: Evict) -> Verdict {
        let Residence::In(frame) = page.residence else {
            page.queued = false;
            return Verdict::Gone;
        };
        let Some(record) = self.record(frame) else { return Verdict::Keep };
        if record.wire_count() > 0 {
            return Verdict::Keep;
        }
        let used = self.system.ts_referenced(record) > 0 || record.clear_referenced_flag();
        if used && how == Evict::Unused {
            return Verdict::Keep;
        }
        self.evict(page, frame, record);
        page.queued = false;
        Verdict::Evicted
    }

    /// Takes the page out of its frame and gives the frame back at once. The page is locked, so nobody
    /// enters it; but another CPU may be in the middle of removing a mapping of it, unflushed.
    fn evict(&self, page: &mut Page, frame: Frame, record: &PageRecord) {
        if page.is_file() {
            let saved = self.write_back(page, frame);
            self.system.remove_all(record);
            match (record.is_dirty(), saved) {
                (false, _) => {}
                (true, true) => self.observer.broken("a page was stored to after remove_write had returned"),
                // It was clean when we looked, and a CPU stored to it before its mappings went.
                (true, false) => page.stored = Some(SwapCopy::of(self.machine().frame_words(frame))),
            }
        } else {
            self.system.remove_all(record);
            let modified = record.is_dirty();
            if page.disposable && !modified {
                page.stored = None;
                page.unsaved = false;
                count(&self.counts.disposals, 1);
            } else if modified || page.unsaved {
                page.stored = Some(SwapCopy::of(self.machine().frame_words(frame)));
                page.unsaved = false;
                count(&self.counts.swap_outs, 1);
            } else if page.stored.is_none() && !self.is_new(page) {
                self.observer.broken("a page that counts as never modified holds something");
            }
        }
        self.observer.page_emptied(self.system, record);
        page.disposable = false;
        page.residence = Residence::Out;
        count(&self.counts.page_outs, 1);
        self.free(frame);
    }

    /// Saves a modified file page: takes write permission away everywhere, saves, marks clean. Returns
    /// whether it was modified.
    pub(super) fn write_back(&self, page: &mut Page, frame: Frame) -> bool {
        let Some(record) = self.record(frame) else { return false };
        // In this order: a mapping that goes away in between leaves its mark on the record.
        if !(self.system.is_modified(record) || record.is_dirty()) {
            return false;
        }
        self.system.remove_write(record);
        page.stored = Some(SwapCopy::of(self.machine().frame_words(frame)));
        self.system.clear_modify(record);
        record.clear_dirty();
        self.observer.cleaned(frame);
        count(&self.counts.write_backs, 1);
        true
    }
}
