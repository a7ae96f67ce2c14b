//! What is mapped in one space, as runs of pages.

use std::collections::BTreeMap;

use pmap::{PAGE_SHIFT, Protection, VirtRange};

/// A run of pages, by number.
pub(super) type Pages = std::ops::Range<u64>;

/// The pages of an address range.
pub(super) fn pages(range: VirtRange) -> Pages {
    range.start().0 >> PAGE_SHIFT..range.end().0 >> PAGE_SHIFT
}

/// What a run of pages shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    end: u64,
    pub(super) rights: Protection,
    pub(super) object: u32,
    /// Page of the object at page 0 of the address space, modulo 2^64: constant along a run.
    delta: u64,
    pub(super) shared: bool,
}

impl Run {
    pub(super) fn new(pages: &Pages, rights: Protection, object: u32, first: u64, shared: bool) -> Self {
        Self { end: pages.end, rights, object, delta: first.wrapping_sub(pages.start), shared }
    }

    /// Page of the object at this page of the space.
    pub(super) fn object_page(&self, page: u64) -> u64 {
        self.delta.wrapping_add(page)
    }
}

/// All runs of a space.
#[derive(Clone, Debug, Default)]
pub(super) struct Runs(BTreeMap<u64, Run>);

impl Runs {
    pub(super) fn at(&self, page: u64) -> Option<&Run> {
        self.0.range(..=page).next_back().map(|(_, run)| run).filter(|run| page < run.end)
    }

    pub(super) fn put(&mut self, pages: &Pages, run: Run) {
        self.clear(pages);
        if pages.start < pages.end {
            self.0.insert(pages.start, Run { end: pages.end, ..run });
        }
    }

    pub(super) fn clear(&mut self, pages: &Pages) {
        self.edit(pages, |_| None);
    }

    pub(super) fn set_rights(&mut self, pages: &Pages, rights: Protection) {
        self.edit(pages, |run| Some(Run { rights, ..run }));
    }

    /// Replaces every part of a run inside `pages` by what `change` makes of it.
    fn edit(&mut self, pages: &Pages, change: impl Fn(Run) -> Option<Run>) {
        let first = self.0.range(..pages.start).next_back().map_or(pages.start, |(at, _)| *at);
        let touched: Vec<(u64, Run)> =
            self.0.range(first..pages.end.max(first)).map(|(at, run)| (*at, *run)).collect();
        for (start, run) in touched {
            let (inner_start, inner_end) = (start.max(pages.start), run.end.min(pages.end));
            if inner_start >= inner_end {
                continue;
            }
            self.0.remove(&start);
            if start < inner_start {
                self.0.insert(start, Run { end: inner_start, ..run });
            }
            if let Some(changed) = change(run) {
                self.0.insert(inner_start, Run { end: inner_end, ..changed });
            }
            if inner_end < run.end {
                self.0.insert(inner_end, run);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_cut_and_keep_their_object_pages() {
        let mut runs = Runs::default();
        runs.put(&(10..20), Run::new(&(10..20), Protection::READ, 7, 100, false));
        runs.set_rights(&(12..14), Protection::WRITE);
        runs.clear(&(16..18));
        assert_eq!(runs.at(11).map(|r| (r.rights, r.object_page(11))), Some((Protection::READ, 101)));
        assert_eq!(runs.at(13).map(|r| (r.rights, r.object_page(13))), Some((Protection::WRITE, 103)));
        assert_eq!(runs.at(14).map(|r| r.rights), Some(Protection::READ));
        assert!(runs.at(16).is_none() && runs.at(17).is_none() && runs.at(20).is_none());
        assert_eq!(runs.at(19).map(|r| r.object_page(19)), Some(109));
        runs.put(&(0..30), Run::new(&(0..30), Protection::EXECUTE, 0, 0, true));
        assert_eq!(runs.at(13).map(|r| r.rights), Some(Protection::EXECUTE));
        assert_eq!(runs.0.len(), 1);
    }
}
