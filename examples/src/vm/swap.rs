//! The swap store: what a page held when it was written out, with a check sum that is compared when the
//! page comes back.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::hash::mix;

/// Words of a page.
pub(super) const WORDS: usize = 512;

/// A saved page.
#[derive(Debug)]
pub(super) struct SwapCopy {
    words: Box<[u64]>,
    sum: u64,
}

impl SwapCopy {
    /// Saves what a frame holds.
    pub(super) fn of(frame: &[AtomicU64; WORDS]) -> Self {
        // ORD: Relaxed; the page is mapped nowhere, or nowhere writable, and its last store
        // happened before the flush that made it so.
        let words: Box<[u64]> = frame.iter().map(|w| w.load(Ordering::Relaxed)).collect();
        let sum = sum(words.iter().copied());
        Self { words, sum }
    }

    /// Puts the page into a frame; false if what arrived there is not what was saved.
    #[must_use]
    pub(super) fn restore(&self, frame: &[AtomicU64; WORDS]) -> bool {
        for (to, from) in frame.iter().zip(&self.words) {
            // ORD: Relaxed; nobody else knows the frame yet, the pmap lock publishes it.
            to.store(*from, Ordering::Relaxed);
        }
        // ORD: Relaxed, as above.
        sum(frame.iter().map(|w| w.load(Ordering::Relaxed))) == self.sum
    }
}

fn sum(words: impl Iterator<Item = u64>) -> u64 {
    words.fold(0, |sum, word| mix(sum ^ word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_comes_back_as_it_went() {
        let frame = [const { AtomicU64::new(0) }; WORDS];
        frame[17].store(99, Ordering::Relaxed);
        let mut copy = SwapCopy::of(&frame);
        frame[17].store(1, Ordering::Relaxed);
        assert!(copy.restore(&frame));
        assert_eq!(frame[17].load(Ordering::Relaxed), 99);
        copy.words[17] = 98;
        assert!(!copy.restore(&frame), "a damaged copy is noticed");
    }
}
