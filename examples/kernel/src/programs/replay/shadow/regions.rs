//! Which ranges are mapped, from what.

use alloc::collections::BTreeMap;

use pmap::{PAGE_SHIFT, Protection, VirtAddr, VirtRange};

/// A page of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    /// The object.
    pub(crate) object: u32,
    /// Its page.
    pub(crate) page: u64,
}

impl Source {
    fn advanced(self, pages: u64) -> Self {
        Self { page: self.page + pages, ..self }
    }
}

/// A mapped range, as seen from one of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Region {
    /// Rights.
    pub(crate) protection: Protection,
    /// Whether stores are seen by others.
    pub(crate) is_shared: bool,
    /// What it shows at that page before anybody stores to it; none for anonymous memory.
    pub(crate) source: Option<Source>,
}

impl Region {
    fn advanced(self, pages: u64) -> Self {
        Self { source: self.source.map(|source| source.advanced(pages)), ..self }
    }
}

/// Regions by their first page number, with the number of the page behind them. No two overlap.
#[derive(Clone, Default)]
pub(super) struct Regions(BTreeMap<u64, (u64, Region)>);

fn pages(range: VirtRange) -> (u64, u64) {
    (range.start().0 >> PAGE_SHIFT, range.end().0 >> PAGE_SHIFT)
}

impl Regions {
    /// The region at `va`, as seen from there.
    pub(super) fn at(&self, va: VirtAddr) -> Option<Region> {
        self.at_page(va.0 >> PAGE_SHIFT).map(|(_, region)| region)
    }

    fn at_page(&self, page: u64) -> Option<(u64, Region)> {
        let (&first, &(end, region)) = self.0.range(..=page).next_back()?;
        (page < end).then(|| (end, region.advanced(page - first)))
    }

    /// Whether something is mapped in `range`.
    pub(super) fn has(&self, range: VirtRange) -> bool {
        let (first, end) = pages(range);
        first < end && (self.at_page(first).is_some() || self.0.range(first..end).next().is_some())
    }

    /// Adds a region where there is none.
    pub(super) fn insert(&mut self, range: VirtRange, region: Region) {
        let (first, end) = pages(range);
        if first < end {
            self.0.insert(first, (end, region));
        }
    }

    /// Takes out what is in `range`; says how many regions, or parts of regions, that was.
    pub(super) fn remove(&mut self, range: VirtRange) -> usize {
        let (first, end) = pages(range);
        self.cut(first);
        self.cut(end);
        if first < end { self.0.extract_if(first..end, |_, _| true).count() } else { 0 }
    }

    /// Changes the rights of what is in `range`; says of how many regions.
    pub(super) fn protect(&mut self, range: VirtRange, protection: Protection) -> usize {
        let (first, end) = pages(range);
        self.cut(first);
        self.cut(end);
        if first >= end {
            return 0;
        }
        let inside = self.0.range_mut(first..end).map(|(_, (_, region))| region.protection = protection);
        inside.count()
    }

    /// Makes two of the region that `page` lies inside.
    fn cut(&mut self, page: u64) {
        let Some((end, right)) = self.at_page(page) else { return };
        if let Some((_, left)) = self.0.range_mut(..page).next_back()
            && left.0 > page
        {
            left.0 = page;
            self.0.insert(page, (end, right));
        }
    }
}
