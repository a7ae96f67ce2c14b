//! The map of one address space: which ranges are mapped, with what rights, from what.

use std::collections::BTreeMap;

use pmap::{PAGE_SHIFT, PAGE_SIZE, Protection, VirtAddr, VirtRange};

/// What a mapped range shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backing {
    /// Object; 0 is private anonymous memory.
    pub object: u32,
    /// Page of the object at the start of the range.
    pub first_page: u64,
    /// Stores go to the object itself. Otherwise the first store to a page makes a private copy.
    pub shared: bool,
}

impl Backing {
    fn advanced(self, bytes: u64) -> Self {
        Self { first_page: self.first_page.wrapping_add(bytes >> PAGE_SHIFT), ..self }
    }
}

/// A mapped range with one set of rights and one backing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vma {
    /// Where.
    pub range: VirtRange,
    /// Rights.
    pub protection: Protection,
    /// What.
    pub backing: Backing,
}

impl Vma {
    /// Page of the object at `va`, which lies in the range.
    #[must_use]
    pub fn object_page(&self, va: VirtAddr) -> u64 {
        self.backing.first_page.wrapping_add((va.page().0 - self.range.start().0) >> PAGE_SHIFT)
    }

    /// Whether stores to it are kept from everybody else.
    #[must_use]
    pub fn is_private(&self) -> bool {
        !self.backing.shared
    }
}

/// Sorted, non-overlapping mapped ranges.
#[derive(Clone, Debug, Default)]
pub struct VmaMap {
    by_start: BTreeMap<u64, Vma>,
}

/// A mapping was asked for where something is mapped already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occupied;

impl VmaMap {
    /// The mapped range that contains `va`.
    #[must_use]
    pub fn find(&self, va: VirtAddr) -> Option<&Vma> {
        self.by_start.range(..=va.0).next_back().map(|(_, vma)| vma).filter(|vma| vma.range.contains(va))
    }

    /// Mapped ranges that overlap `range`, whole, in order.
    pub fn overlapping(&self, range: VirtRange) -> impl Iterator<Item = &Vma> {
        let first = self.find(range.start()).map_or(range.start().0, |vma| vma.range.start().0);
        let first = if range.is_empty() { range.end().0 } else { first };
        self.by_start.range(first..range.end().0.max(first)).map(|(_, vma)| vma)
    }

    /// All mapped ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Vma> {
        self.by_start.values()
    }

    /// Adds a mapping.
    ///
    /// # Errors
    /// If part of the range is mapped; nothing changes then.
    pub fn insert(&mut self, vma: Vma) -> Result<(), Occupied> {
        if vma.range.is_empty() {
            return Ok(());
        }
        if self.overlapping(vma.range).next().is_some() {
            return Err(Occupied);
        }
        self.by_start.insert(vma.range.start().0, vma);
        Ok(())
    }

    /// Removes whatever is mapped in `range` and returns the pieces, in order.
    pub fn remove(&mut self, range: VirtRange) -> Vec<Vma> {
        self.split(range.start());
        self.split(range.end());
        let starts: Vec<u64> = self.overlapping(range).map(|vma| vma.range.start().0).collect();
        starts.into_iter().filter_map(|start| self.by_start.remove(&start)).collect()
    }

    /// Gives whatever is mapped in `range` new rights; returns the number of pages concerned.
    pub fn protect(&mut self, range: VirtRange, protection: Protection) -> u64 {
        let pieces = self.remove(range);
        let pages = pieces.iter().map(|vma| vma.range.pages()).sum();
        for vma in pieces {
            self.by_start.insert(vma.range.start().0, Vma { protection, ..vma });
        }
        pages
    }

    /// Cuts the mapped range around `at` in two there.
    fn split(&mut self, at: VirtAddr) {
        let Some(&vma) = self.find(at) else { return };
        let start = vma.range.start();
        if start == at {
            return;
        }
        let (Some(left), Some(right)) = (VirtRange::new(start, at), VirtRange::new(at, vma.range.end()))
        else {
            return;
        };
        self.by_start.insert(start.0, Vma { range: left, ..vma });
        let backing = vma.backing.advanced(left.pages() * PAGE_SIZE);
        self.by_start.insert(at.0, Vma { range: right, backing, ..vma });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range(start: u64, pages: u64) -> VirtRange {
        VirtRange::new(VirtAddr(start << 12), VirtAddr((start + pages) << 12)).unwrap()
    }

    /// One page of the reference: rights, object, page of the object, shared.
    type Page = (u8, u32, u64, bool);

    #[derive(Clone, Debug)]
    enum Action {
        Insert(u64, u64, u8, u32, u64, bool),
        Remove(u64, u64),
        Protect(u64, u64, u8),
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0..48u64, 1..12u64, 0..8u8, 0..3u32, 0..9u64, any::<bool>())
                .prop_map(|(a, n, p, o, f, s)| Action::Insert(a, n, p, o, f, s)),
            (0..48u64, 0..16u64).prop_map(|(a, n)| Action::Remove(a, n)),
            (0..48u64, 0..16u64, 0..8u8).prop_map(|(a, n, p)| Action::Protect(a, n, p)),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_page_per_page_map(actions in prop::collection::vec(action(), 1..60)) {
            let mut map = VmaMap::default();
            let mut pages: BTreeMap<u64, Page> = BTreeMap::new();
            for action in actions {
                match action {
                    Action::Insert(at, n, prot, object, first_page, shared) => {
                        let free = (at..at + n).all(|p| !pages.contains_key(&p));
                        let protection = Protection::from_bits_truncate(prot);
                        let backing = Backing { object, first_page, shared };
                        let done = map.insert(Vma { range: range(at, n), protection, backing });
                        prop_assert_eq!(done.is_ok(), free);
                        if free {
                            pages.extend((0..n).map(|i| (at + i, (prot, object, first_page + i, shared))));
                        }
                    }
                    Action::Remove(at, n) => {
                        let gone: u64 = map.remove(range(at, n)).iter().map(|v| v.range.pages()).sum();
                        let expected = pages.range(at..at + n).count() as u64;
                        pages.retain(|p, _| !(at..at + n).contains(p));
                        prop_assert_eq!(gone, expected);
                    }
                    Action::Protect(at, n, prot) => {
                        let touched = map.protect(range(at, n), Protection::from_bits_truncate(prot));
                        let mut expected = 0;
                        for (_, page) in pages.range_mut(at..at + n) {
                            page.0 = prot;
                            expected += 1;
                        }
                        prop_assert_eq!(touched, expected);
                    }
                }
                for p in 0..64u64 {
                    let va = VirtAddr((p << 12) + 5);
                    let found = map.find(va).map(|v| {
                        (v.protection.bits(), v.backing.object, v.object_page(va), v.backing.shared)
                    });
                    prop_assert_eq!(found, pages.get(&p).copied());
                }
                let covered: u64 = map.iter().map(|v| v.range.pages()).sum();
                prop_assert_eq!(covered, pages.len() as u64);
            }
        }
    }
}
