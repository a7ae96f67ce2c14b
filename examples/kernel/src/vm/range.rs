//! Changes of ranges: unmap, protect, advice.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use pmap::{Advice, PAGE_SHIFT, Protection, VirtRange};

use super::fault::readable;
use super::limits::LimitReached;
use super::pageout::Evict;
use super::{Space, Vma};

/// What a program says about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hint {
    /// It will not be used soon.
    Idle,
    /// Take its frames at once.
    PageOut,
}

fn pages_of(ranges: &[Vma]) -> u64 {
    ranges.iter().map(|vma| vma.range.pages()).sum()
}

impl Space {
    /// Removes whatever is mapped in `range`. On return no CPU reaches it.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] if the parts that are left are too many ranges; nothing has changed.
    pub(crate) fn unmap(&self, range: VirtRange) -> Result<(), LimitReached> {
        let lag = self.lag.read();
        let (gone, pages) = {
            let mut map = self.map.write();
            self.may_cut(&map, range)?;
            let gone = map.remove(range);
            // ORD: Relaxed; under the map's lock.
            self.leaving.fetch_add(pages_of(&gone), Ordering::Relaxed);
            (gone, self.take_private(range))
        };
        // Nobody will use them here any more: whoever needs a frame looks at them first.
        self.vm.suggest(&pages);
        self.pmap.remove(range);
        drop(lag);
        pages.iter().for_each(|page| self.vm.let_go(page));
        drop(pages);
        // ORD: Relaxed; a number that others may see late.
        self.leaving.fetch_sub(pages_of(&gone), Ordering::Relaxed);
        // With the last mapping of an object its frames go: only now.
        drop(gone);
        Ok(())
    }

    /// Gives whatever is mapped in `range` other rights. Rights that are taken away are gone on every CPU on return; rights
    /// that are added come by faults.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] if there would be too many ranges; nothing has changed.
    pub(crate) fn protect(&self, range: VirtRange, protection: Protection) -> Result<(), LimitReached> {
        let _lag = self.lag.read();
        {
            let mut map = self.map.write();
            self.may_cut(&map, range)?;
            map.protect(range, protection);
        }
        self.pmap.protect(range, readable(protection));
        Ok(())
    }

    /// Follows a hint. What the range holds stays as it is.
    pub(crate) fn advise(&self, range: VirtRange, hint: Hint) {
        match hint {
            Hint::Idle => self.pmap.advise(range, Advice::DontNeed),
            Hint::PageOut => {
                let (first, end) = (range.start().0 >> PAGE_SHIFT, range.end().0 >> PAGE_SHIFT);
                let pages: Vec<_> =
                    self.private.lock().range(first..end).map(|(_, page)| page.clone()).collect();
                for page in pages {
                    self.vm.evict_page(&page, Evict::Anyway);
                }
            }
        }
    }

    /// Takes everything away from a space in which no thread will touch user memory any more. Fast if it is loaded on the calling CPU
    /// and on no other.
    pub(crate) fn clear(&self) {
        let (gone, pages) = {
            let mut map = self.map.write();
            (map.remove(VirtRange::user()), self.take_private(VirtRange::user()))
        };
        if self.pmap.remove_pages().is_err() {
            self.pmap.remove(VirtRange::user());
        }
        pages.iter().for_each(|page| self.vm.let_go(page));
        drop(gone);
        let left = self.pmap.resident_count();
        if left != 1 {
            self.vm
                .violations
                .note(format_args!("an empty address space counts {left} pages instead of its root"));
        }
    }
}
