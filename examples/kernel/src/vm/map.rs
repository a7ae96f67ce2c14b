//! The map of an address space: which ranges are mapped, with what rights, from what.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use pmap::{PAGE_SHIFT, Protection, VirtAddr, VirtRange};

use super::Object;

/// What a range shows.
#[derive(Clone)]
pub(crate) enum Backing {
    /// Memory of this space alone, zero at first.
    Anonymous,
    /// An object whose pages stores go to, from its page `first` on.
    Shared {
        /// The object.
        object: Arc<Object>,
        /// Its page at the start of the range.
        first: u64,
    },
    /// An object whose pages are copied before the first store to them.
    Private {
        /// The object.
        object: Arc<Object>,
        /// Its page at the start of the range.
        first: u64,
    },
}

impl Backing {
    /// What is shown from so many pages further on.
    pub(super) fn advanced(&self, pages: u64) -> Self {
        match self {
            Self::Anonymous => Self::Anonymous,
            Self::Shared { object, first } => Self::Shared { object: object.clone(), first: first + pages },
            Self::Private { object, first } => Self::Private { object: object.clone(), first: first + pages },
        }
    }
}

/// A mapped range with one set of rights and one backing.
#[derive(Clone)]
pub(crate) struct Vma {
    /// Where.
    pub(crate) range: VirtRange,
    /// Rights.
    pub(crate) protection: Protection,
    /// What.
    pub(crate) backing: Backing,
}

impl Vma {
    /// Whether stores to it are this space's alone.
    pub(super) fn is_private(&self) -> bool {
        !matches!(self.backing, Backing::Shared { .. })
    }

    /// The object behind it, and the object's page at `va`, which lies in the range.
    pub(super) fn object_at(&self, va: VirtAddr) -> Option<(&Arc<Object>, u64)> {
        match &self.backing {
            Backing::Anonymous => None,
            Backing::Shared { object, first } | Backing::Private { object, first } => {
                Some((object, first + ((va.page().0 - self.range.start().0) >> PAGE_SHIFT)))
            }
        }
    }
}

/// Something is mapped in the range already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Occupied;

/// Mapped ranges by their first address; no two overlap.
#[derive(Clone, Default)]
pub(super) struct Map {
    ranges: BTreeMap<u64, Vma>,
}

impl Map {
    pub(super) fn find(&self, va: VirtAddr) -> Option<&Vma> {
        let (_, vma) = self.ranges.range(..=va.0).next_back()?;
        vma.range.contains(va).then_some(vma)
    }

    /// How many ranges there are.
    pub(super) fn len(&self) -> usize {
        self.ranges.len()
    }

    /// How many ranges there are more once a change of `range` has cut those in two that lie across its ends.
    pub(super) fn cuts(&self, range: VirtRange) -> usize {
        let is_cut = |at| self.find(at).is_some_and(|vma| vma.range.start() < at);
        usize::from(is_cut(range.start())) + usize::from(is_cut(range.end()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.ranges.values()
    }

    /// What is mapped in `range`, whole, in order.
    pub(super) fn overlapping(&self, range: VirtRange) -> impl Iterator<Item = &Vma> {
        let before = self.find(range.start()).filter(|vma| vma.range.start() < range.start());
        let from = range.start().0;
        before.into_iter().chain(self.ranges.range(from..range.end().0.max(from)).map(|(_, vma)| vma))
    }

    pub(super) fn insert(&mut self, vma: Vma) -> Result<(), Occupied> {
        if self.overlapping(vma.range).next().is_some() {
            return Err(Occupied);
        }
        if !vma.range.is_empty() {
            self.ranges.insert(vma.range.start().0, vma);
        }
        Ok(())
    }

    /// Takes out whatever is mapped in `range`.
    pub(super) fn remove(&mut self, range: VirtRange) -> Vec<Vma> {
        self.cut(range.start());
        self.cut(range.end());
        let inside: Vec<u64> = self.overlapping(range).map(|vma| vma.range.start().0).collect();
        inside.iter().filter_map(|start| self.ranges.remove(start)).collect()
    }

    /// Gives whatever is mapped in `range` other rights.
    pub(super) fn protect(&mut self, range: VirtRange, protection: Protection) {
        for vma in self.remove(range) {
            self.ranges.insert(vma.range.start().0, Vma { protection, ..vma });
        }
    }

    /// Makes two ranges of the one that `at` lies inside.
    fn cut(&mut self, at: VirtAddr) {
        let Some(whole) = self.find(at).filter(|vma| vma.range.start() < at).cloned() else { return };
        let start = whole.range.start();
        if let (Some(left), Some(right)) = (VirtRange::new(start, at), VirtRange::new(at, whole.range.end()))
        {
            let backing = whole.backing.advanced(left.pages());
            self.ranges.insert(at.0, Vma { range: right, backing, ..whole });
            self.ranges.entry(start.0).and_modify(|vma| vma.range = left);
        }
    }
}
