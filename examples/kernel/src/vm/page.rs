//! One page, wherever its contents are: in a frame, in swap, in a file, or nowhere because they are zeroes.

use alloc::sync::Arc;

use pmap::{Frame, PAGE_SIZE};

use super::swap::Slot;
use super::{Shortage, Vm, made_up_word};
use crate::sched::Mutex;

/// A page, shared by everything that refers to it. Its lock makes it busy: nobody enters it into a page table meanwhile.
pub(super) type PageRef = Arc<Mutex<Page>>;

/// What a page holds before anybody stores to it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin {
    Zeroes,
    /// A part of a file, at most a page; the rest is zeroes.
    File(&'static [u8]),
    /// A page of a file that has no bytes ([`made_up_word`]).
    MadeUp {
        file: u32,
        page: u64,
    },
}

/// A page. All of it is protected by its lock.
#[derive(Debug)]
pub(super) struct Page {
    origin: Origin,
    /// Its frame, if it has one.
    pub(super) frame: Option<Frame>,
    /// A copy in swap, as new as the frame unless that is dirty.
    pub(super) saved: Option<Slot>,
    /// The frame holds something that exists nowhere else, although no store to it was seen: a private copy.
    pub(super) unsaved: bool,
    /// Spaces that hold it as a private page, or 1 if it is an object's.
    pub(super) holders: u32,
    /// Is in the page daemon's queue.
    pub(super) queued: bool,
}

impl Page {
    /// A page in no frame.
    pub(super) fn absent(origin: Origin) -> Self {
        Self { origin, frame: None, saved: None, unsaved: false, holders: 1, queued: false }
    }

    /// A page that is all of `frame`, which holds its contents.
    pub(super) fn resident(frame: Frame, unsaved: bool) -> Self {
        Self { frame: Some(frame), unsaved, ..Self::absent(Origin::Zeroes) }
    }

    /// Whether several spaces see it, so that a store needs a copy.
    pub(super) fn is_shared_copy(&self) -> bool {
        self.holders > 1
    }
}

impl Vm {
    /// Makes sure that `page`, which is locked, is in a frame, and that the daemon knows it.
    pub(super) fn bring_in(&self, page: &mut Page, this: &PageRef) -> Result<Frame, Shortage> {
        if let Some(frame) = page.frame {
            return Ok(frame);
        }
        let frame = self.allocate()?;
        match (&page.saved, page.origin) {
            (Some(slot), _) => {
                if !self.swap.read(slot, frame) {
                    self.violations.note(format_args!("a page came back from swap with other contents"));
                }
                self.counts.swap_ins.add_one();
            }
            (None, Origin::File(bytes)) => {
                self.read_file(frame, bytes);
                self.counts.file_reads.add_one();
            }
            (None, Origin::MadeUp { file, page }) => {
                for (index, word) in (0..).zip(super::pool::words(self.system, frame)) {
                    // ORD: Relaxed; as in `read_file`.
                    word.store(made_up_word(file, page, index), core::sync::atomic::Ordering::Relaxed);
                }
                self.counts.file_reads.add_one();
            }
            (None, Origin::Zeroes) => self.zero(frame),
        }
        page.frame = Some(frame);
        self.admit(page, this);
        Ok(frame)
    }

    pub(super) fn zero(&self, frame: Frame) {
        if self.system.zero_page(frame).is_err() {
            self.violations.note(format_args!("{frame:?} cannot be zeroed"));
        }
        self.counts.zero_fills.add_one();
    }

    fn read_file(&self, frame: Frame, bytes: &[u8]) {
        debug_assert!(bytes.len() <= PAGE_SIZE as usize, "a page of a file is no larger than a page");
        let mut chunks = bytes.chunks(size_of::<u64>());
        for word in super::pool::words(self.system, frame) {
            let mut value = [0; size_of::<u64>()];
            let chunk = chunks.next().unwrap_or_default();
            value[..chunk.len()].copy_from_slice(chunk);
            // ORD: Relaxed; nobody else knows the frame yet, the pmap lock publishes it.
            word.store(u64::from_le_bytes(value), core::sync::atomic::Ordering::Relaxed);
        }
    }

    /// A holder less. The last one gives back what the page has.
    pub(super) fn let_go(&self, page: &PageRef) {
        let mut page = page.lock();
        page.holders = page.holders.saturating_sub(1);
        if page.holders == 0 {
            if let Some(frame) = page.frame.take() {
                self.free(frame);
            }
            if let Some(slot) = page.saved.take() {
                self.swap.free(slot);
            }
        }
    }
}
