//! Frames: from the machine to a page and back.

use std::sync::atomic::Ordering;

use pmap::{Frame, PAGE_SHIFT, PageRecord, VirtAddr};

use super::object::file_word;
use super::page::{Owner, Page, PageRef, Residence};
use super::swap::WORDS;
use super::table::count;
use super::{Cpu, Shortage, Vm};
use crate::trace::ObjectKind;

/// One private copy in so many is made through the kernel window.
const WINDOW_ONE_IN: u64 = 16;

impl<'s> Vm<'s> {
    fn set_unmanaged(&self, record: &PageRecord, unmanaged: bool) {
        if self.system.set_unmanaged(record, unmanaged).is_err() {
            self.observer.broken("a frame that has just been handed out is mapped");
        }
    }

    /// A frame for data, clean and unreferenced as far as its record goes.
    pub(super) fn allocate(&self, zero: bool) -> Result<Frame, Shortage> {
        let frame = self.machine().allocate_data_frame(zero).ok_or(Shortage)?;
        if let Some(record) = self.system.page(frame) {
            self.set_unmanaged(record, false);
            record.clear_dirty();
            record.clear_referenced_flag();
        }
        Ok(frame)
    }

    /// The record of a frame that came from [`allocate`](Self::allocate).
    pub(super) fn record(&self, frame: Frame) -> Option<&'s PageRecord> {
        let record = self.system.page(frame);
        if record.is_none() {
            self.observer.broken("a frame has no page record");
        }
        record
    }

    /// Gives a frame back. It is mapped nowhere.
    pub(super) fn free(&self, frame: Frame) {
        if let Some(record) = self.record(frame)
            && self.system.page_is_mapped(record)
        {
            self.observer.broken("a frame is given back while it is mapped");
        }
        self.observer.frame_released(frame);
        self.machine().free_data_frame(frame);
    }

    /// Makes sure that the page is in a frame, and that the page daemon knows it.
    pub(super) fn bring_in(&self, page: &mut Page, this: &PageRef) -> Result<Frame, Shortage> {
        if let Residence::In(frame) = page.residence {
            return Ok(frame);
        }
        let from_file = matches!(page.owner, Owner::Object { kind, .. } if kind != ObjectKind::Anonymous);
        let frame = self.allocate(page.stored.is_none() && !from_file)?;
        let words = self.machine().frame_words(frame);
        match (&page.stored, page.owner) {
            (Some(copy), _) => {
                if !copy.restore(words) {
                    self.observer.broken("a page came back from swap with other contents");
                }
                count(if page.is_file() { &self.counts.file_reads } else { &self.counts.swap_ins }, 1);
            }
            (None, Owner::Object { object, page: number, .. }) if from_file => {
                for (index, word) in words.iter().enumerate() {
                    // ORD: Relaxed; nobody else knows the frame yet, the pmap lock publishes it.
                    word.store(file_word(object, number, index), Ordering::Relaxed);
                }
                count(&self.counts.file_reads, 1);
            }
            _ => {}
        }
        if page.is_kernel()
            && let Some(record) = self.record(frame)
        {
            self.set_unmanaged(record, true);
        }
        page.residence = Residence::In(frame);
        self.admit(page, this);
        Ok(frame)
    }

    /// A frame with the same contents; sometimes made through a temporary kernel mapping of both, as a kernel
    /// without a direct map would.
    pub(super) fn copy_frame(&self, cpu: &Cpu<'s>, from: Frame) -> Result<Frame, Shortage> {
        let to = self.allocate(false)?;
        // Not each time: a window that is taken away is shot down on every CPU.
        if to.0.is_multiple_of(WINDOW_ONE_IN) {
            self.with_kernel_window(cpu, &[from, to]);
        }
        let (source, target) = (self.machine().frame_words(from), self.machine().frame_words(to));
        for (to, from) in target.iter().zip(source) {
            // ORD: Relaxed, both; the source is locked and written by nobody, the target known to nobody.
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        count(&self.counts.copies, 1);
        Ok(to)
    }

    /// Maps `frames` at this CPU's part of the kernel window and unmaps them again, now and then one by one.
    fn with_kernel_window(&self, cpu: &Cpu<'s>, frames: &[Frame]) {
        let Some(window) = cpu.window() else { return };
        let at = |i: usize| VirtAddr(window.0 + ((i as u64) << PAGE_SHIFT));
        let mut done = self.system.qenter(window, frames);
        if let Some(last) = frames.len().checked_sub(1) {
            let rights = pmap::Protection::READ | pmap::Protection::WRITE;
            done = done
                .and_then(|()| self.system.kremove(at(last)))
                .and_then(|()| self.system.kenter(at(last), frames[last], rights));
        }
        for (i, frame) in frames.iter().enumerate() {
            // ORD: Relaxed; both frames are locked by this CPU.
            let there = self.machine().frame_words(*frame)[0].load(Ordering::Relaxed);
            if done.is_ok() && self.machine().supervisor_read(at(i)) != Ok(there) {
                self.observer.broken("the kernel window shows something else than what was put there");
            }
        }
        if done.and_then(|()| self.system.qremove(window, frames.len())).is_err() {
            self.observer.broken("the kernel window refuses its own addresses");
        }
    }

    /// One space less holds the page; the last one gives it back.
    pub(super) fn let_go(&self, page: &mut Page) {
        page.holders = page.holders.saturating_sub(1);
        if page.holders == 0 && page.owner == Owner::Private {
            if let Residence::In(frame) = std::mem::replace(&mut page.residence, Residence::Out) {
                self.free(frame);
            }
            page.stored = None;
        }
    }

    /// Gives every frame of every object back. No space is left that could show one.
    pub fn release_objects(&self) {
        for page in self.objects.all() {
            let mut page = page.lock();
            if let Residence::In(frame) = std::mem::replace(&mut page.residence, Residence::Out) {
                self.free(frame);
            }
        }
    }

    /// What a page in no frame and with no copy holds, for comparison with what the page daemon drops.
    pub(super) fn is_new(&self, page: &Page) -> bool {
        let Residence::In(frame) = page.residence else { return true };
        let words: &[_; WORDS] = self.machine().frame_words(frame);
        words.iter().enumerate().all(|(index, word)| {
            // ORD: Relaxed; the page is locked and mapped nowhere.
            let word = word.load(Ordering::Relaxed);
            match page.owner {
                Owner::Object { object, page, kind: ObjectKind::File } => {
                    word == file_word(object, page, index)
                }
                _ => word == 0,
            }
        })
    }
}
