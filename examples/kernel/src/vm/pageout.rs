//! The page daemon: takes frames from pages that were not used lately.
//!
//! Pages in frames are in a queue, in the order in which they came in. The daemon takes the first; if it was used since it came by last time
//! (`ts_referenced`), the page gets a second chance at the end of the queue. Whoever finds no frame does the same for himself.

use alloc::collections::VecDeque;
use alloc::sync::{Arc, Weak};

use pmap::{Frame, PageRecord};

use super::page::{Page, PageRef};
use super::{Shortage, Vm};
use crate::sched::{self, Mutex};

/// Pages that one round takes.
const BATCH: usize = 16;
/// Rounds in which somebody who needs a frame finds nothing before memory counts as exhausted. Others may have every page locked
/// for a while, so this is long.
const VAIN_ROUNDS: usize = 400;

/// How eagerly pages are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evict {
    /// Only if not used lately.
    Unused,
    /// In any case.
    Anyway,
}

/// What became of a page that was looked at.
enum Verdict {
    Taken,
    Stays,
    /// It has no frame (any more).
    Gone,
}

/// What the daemon knows.
pub(super) struct Reclaim {
    queue: Mutex<VecDeque<Weak<Mutex<Page>>>>,
    /// Pages that somebody is unmapping: nothing speaks for them.
    suggested: Mutex<VecDeque<Weak<Mutex<Page>>>>,
    low_water: usize,
}

impl Reclaim {
    pub(super) fn new(low_water: usize) -> Self {
        Self { queue: Mutex::default(), suggested: Mutex::default(), low_water }
    }
}

impl Vm {
    /// Tells the daemon of a page that is in a frame.
    pub(super) fn admit(&self, page: &mut Page, this: &PageRef) {
        if !core::mem::replace(&mut page.queued, true) {
            let mut queue = self.reclaim.queue.lock();
            // Pages that ended are left in the queue; now and then they go, should no reclaiming have met them.
            let in_use = self.pool.total().saturating_sub(self.pool.free_count());
            if queue.len() > 2 * in_use + 1024 {
                queue.retain(|page| page.strong_count() > 0);
            }
            queue.push_back(Arc::downgrade(this));
        }
    }

    /// Suggests pages to begin with.
    pub(super) fn suggest(&self, pages: &[PageRef]) {
        let mut suggested = self.reclaim.suggested.lock();
        suggested.clear();
        suggested.extend(pages.iter().map(Arc::downgrade));
    }

    /// Takes up to `most` of the suggested pages; returns how many.
    pub(crate) fn take_suggested(&self, most: usize) -> usize {
        let mut taken = 0;
        while taken < most {
            // Not in the condition of the loop, where the lock would last as long as the body.
            let next = self.reclaim.suggested.lock().pop_front();
            let Some(next) = next else { break };
            taken += next.upgrade().map_or(0, |page| usize::from(self.evict_page(&page, Evict::Anyway)));
        }
        taken
    }

    /// Body of the page daemon: keeps frames free until `stop` says so.
    pub(crate) fn run_daemon(&self, stop: impl Fn() -> bool) {
        while !stop() {
            if self.free_frames() < self.reclaim.low_water {
                self.take_suggested(BATCH);
                while self.free_frames() < 2 * self.reclaim.low_water
                    && self.reclaim(Evict::Unused, BATCH) > 0
                {}
            }
            sched::sleep(1);
        }
    }

    /// Body of a page daemon that takes a few of the pages that somebody is unmapping at every tick, needed or not: for workloads in which
    /// that is to happen often.
    pub(crate) fn run_pouncing_daemon(&self, stop: impl Fn() -> bool) {
        while !stop() {
            self.take_suggested(BATCH);
            sched::sleep(0);
        }
    }

    /// Gets frames because there was none. No lock is held.
    pub(super) fn reclaim_directly(&self) -> Result<(), Shortage> {
        self.counts.direct_reclaims.add_one();
        for round in 0..VAIN_ROUNDS {
            let how = if round < 2 { Evict::Unused } else { Evict::Anyway };
            if self.reclaim(how, BATCH) > 0 || self.free_frames() > 0 {
                return Ok(());
            }
            sched::sleep(1);
        }
        Err(Shortage)
    }

    /// Takes up to `most` pages; returns how many.
    pub(crate) fn reclaim(&self, how: Evict, most: usize) -> usize {
        let mut looks = 2 * self.reclaim.queue.lock().len();
        let mut taken = 0;
        while taken < most && looks > 0 {
            looks -= 1;
            let Some(next) = self.reclaim.queue.lock().pop_front() else { break };
            let Some(page) = next.upgrade() else { continue };
            let verdict = match page.try_lock() {
                Some(mut held) => self.consider(&mut held, how),
                // Busy, so in use.
                None => Verdict::Stays,
            };
            match verdict {
                Verdict::Taken => taken += 1,
                Verdict::Gone => {}
                Verdict::Stays => self.reclaim.queue.lock().push_back(next),
            }
        }
        taken
    }

    /// Takes this page's frame, if it has one and is not busy; says whether it did.
    pub(super) fn evict_page(&self, page: &PageRef, how: Evict) -> bool {
        let Some(mut held) = page.try_lock() else { return false };
        let queued = held.queued;
        let taken = matches!(self.consider(&mut held, how), Verdict::Taken);
        // Its place in the queue, if it has one, is still there.
        held.queued = queued;
        taken
    }

    fn consider(&self, page: &mut Page, how: Evict) -> Verdict {
        let Some(frame) = page.frame else {
            page.queued = false;
            return Verdict::Gone;
        };
        let Some(record) = self.record(frame) else { return Verdict::Stays };
        if record.wire_count() > 0 {
            return Verdict::Stays;
        }
        if how == Evict::Unused && (self.system.ts_referenced(record) > 0 || record.clear_referenced_flag()) {
            self.counts.second_chances.add_one();
            return Verdict::Stays;
        }
        // Laundered first only when there is time: then it is read-only for a while, and may be used again.
        let done = if how == Evict::Unused {
            self.launder_and_take(page, frame, record)
        } else {
            self.take(page, frame, record)
        };
        if done.is_err() {
            return Verdict::Stays;
        }
        page.queued = false;
        Verdict::Taken
    }

    /// Writes the page to swap while it can still be read through its mappings, then takes it.
    fn launder_and_take(&self, page: &mut Page, frame: Frame, record: &PageRecord) -> Result<(), Shortage> {
        // In this order: a mapping that goes in between leaves its mark on the record.
        if self.system.is_modified(record) || record.is_dirty() {
            self.system.remove_write(record);
            self.save(page, frame)?;
            record.clear_dirty();
            self.counts.launderings.add_one();
            self.system.remove_all(record);
            let intact = page.saved.as_ref().is_some_and(|slot| self.swap.matches(slot, frame));
            if record.is_dirty() || !intact {
                self.violations.note(format_args!("{frame:?} was stored to after remove_write had returned"));
            }
            self.release(page, frame);
            return Ok(());
        }
        self.take(page, frame, record)
    }

    /// Takes the page out of its frame, which is free at once. The page is locked, so nobody enters it; but somebody may be in the
    /// middle of removing a mapping of it, unflushed.
    fn take(&self, page: &mut Page, frame: Frame, record: &PageRecord) -> Result<(), Shortage> {
        self.system.remove_all(record);
        if record.is_dirty() || page.unsaved {
            self.save(page, frame)?;
        }
        self.release(page, frame);
        Ok(())
    }

    fn save(&self, page: &mut Page, frame: Frame) -> Result<(), Shortage> {
        let mut slot = page.saved.take().or_else(|| self.swap.allocate()).ok_or(Shortage)?;
        self.swap.write(&mut slot, frame);
        page.saved = Some(slot);
        page.unsaved = false;
        self.counts.swap_outs.add_one();
        Ok(())
    }

    fn release(&self, page: &mut Page, frame: Frame) {
        page.frame = None;
        self.counts.page_outs.add_one();
        self.free(frame);
    }
}
