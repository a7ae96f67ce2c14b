//! A few ranges of addresses: what one flush does page by page.

use crate::addr::{PAGE_SHIFT, PAGE_SIZE, VirtAddr, VirtRange};

/// Ranges that fit one cache line of a shootdown request, beside what else is in it.
pub(crate) const MAX_RANGES: usize = 6;
/// Pages of one range: they share a word with its address.
const MAX_PAGES: u64 = PAGE_SIZE - 1;

/// Up to six page-aligned ranges. A range that is added next to another one makes it longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeList {
    /// Address, and pages in the low bits; 0 is none.
    words: [u64; MAX_RANGES],
    used: usize,
    pages: u64,
}

impl RangeList {
    /// No range.
    pub(crate) const EMPTY: Self = Self { words: [0; MAX_RANGES], used: 0, pages: 0 };

    /// One range; `None` if it has more than 4095 pages.
    #[must_use]
    pub fn of(range: VirtRange) -> Option<Self> {
        let mut list = Self::EMPTY;
        list.add(range).then_some(list)
    }

    /// Pages in all ranges; one that was added twice may count twice.
    #[must_use]
    pub fn pages(&self) -> u64 {
        self.pages
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.used == 0
    }

    /// Adds a range; false, and nothing has changed, if there is no place for it.
    #[inline]
    pub(crate) fn add(&mut self, range: VirtRange) -> bool {
        let (start, pages) = (range.start().0, range.pages());
        if pages == 0 {
            return true;
        }
        if let Some(last) = self.used.checked_sub(1) {
            let (first, count) = decode(self.words[last]);
            let end = first.wrapping_add(count << PAGE_SHIFT);
            if first <= start && start.wrapping_add(pages << PAGE_SHIFT) <= end {
                return true;
            }
            if start == end && count + pages <= MAX_PAGES {
                self.words[last] = first | (count + pages);
                self.pages += pages;
                return true;
            }
        }
        if self.used == MAX_RANGES || pages > MAX_PAGES {
            return false;
        }
        self.words[self.used] = start | pages;
        self.used += 1;
        self.pages += pages;
        true
    }

    /// The ranges, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = VirtRange> + '_ {
        self.words[..self.used].iter().filter_map(|word| {
            let (start, pages) = decode(*word);
            VirtRange::new(VirtAddr(start), VirtAddr(start.wrapping_add(pages << PAGE_SHIFT)))
        })
    }

    /// What a request holds of it.
    pub(crate) fn words(&self) -> [u64; MAX_RANGES] {
        self.words
    }

    /// The list with these words.
    pub(crate) fn from_words(words: [u64; MAX_RANGES]) -> Self {
        let used = words.iter().take_while(|word| **word != 0).count();
        Self { words, used, pages: words[..used].iter().map(|word| decode(*word).1).sum() }
    }
}

#[inline]
fn decode(word: u64) -> (u64, u64) {
    (word & !MAX_PAGES, word & MAX_PAGES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    fn range(first: u64, pages: u64) -> VirtRange {
        VirtRange::new(VirtAddr(first << 12), VirtAddr((first + pages) << 12)).unwrap()
    }

    #[test]
    fn neighbours_join_and_the_rest_stays_apart() {
        let mut list = RangeList::EMPTY;
        assert!(list.is_empty());
        for (first, pages) in [(7, 1), (8, 2), (8, 1), (20, 1), (19, 1)] {
            assert!(list.add(range(first, pages)));
        }
        assert_eq!(list.iter().collect::<Vec<_>>(), [range(7, 3), range(20, 1), range(19, 1)]);
        assert_eq!(list.pages(), 5);
        assert_eq!(RangeList::from_words(list.words()), list);
    }

    #[test]
    fn what_does_not_fit_changes_nothing() {
        let mut list = RangeList::EMPTY;
        assert!((0..MAX_RANGES as u64).all(|i| list.add(range(10 * i + 1, 1))));
        let full = list;
        assert!(!list.add(range(1000, 1)));
        assert_eq!(list, full);
        assert!(list.add(range(10 * MAX_RANGES as u64 - 8, 1)), "the last one still grows");
        assert_eq!(RangeList::of(range(1, MAX_PAGES + 1)), None);
        assert!(RangeList::of(range(1, MAX_PAGES)).unwrap().add(range(MAX_PAGES + 1, 1)));
        assert!(list.add(range(3, 0)), "nothing fits anywhere");
    }
}
