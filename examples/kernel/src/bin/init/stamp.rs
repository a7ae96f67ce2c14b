//! What a page holds: words that tell whose page it is, where, and in which version.

use crate::abi::Finding;
use crate::access::{load, store};
use crate::call;
use crate::dice::mix;

/// Bytes of a page.
pub(crate) const PAGE: u64 = 4096;
const WORD: u64 = 8;
const WORDS: u64 = PAGE / WORD;
/// Apart from one word to the next; odd, so that no two words of a page are equal.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;

/// The contents of a page.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stamp {
    /// New: zeroes.
    Zero,
    /// Made by an owner, in some version.
    Made { owner: u64, version: u64 },
}

impl Stamp {
    fn word(self, page: u64, index: u64) -> u64 {
        match self {
            Self::Zero => 0,
            Self::Made { owner, version } => {
                mix(page ^ mix(owner ^ mix(version))).wrapping_add(index.wrapping_mul(STEP))
            }
        }
    }

    /// Fills the page.
    pub(crate) fn put(self, page: u64) {
        for index in 0..WORDS {
            store(page + index * WORD, self.word(page, index));
        }
    }

    /// Compares the page, and reports the first word that differs. Says whether all is well.
    pub(crate) fn check(self, page: u64) -> bool {
        for index in 0..WORDS {
            let address = page + index * WORD;
            let (expected, found) = (self.word(page, index), load(address));
            if expected != found {
                let what = if self == Self::Zero { Finding::NotZero } else { Finding::Stamp };
                call::report(what, address, expected, found);
                return false;
            }
        }
        true
    }
}

/// A sum over some pages, to see whether they change.
pub(crate) fn sum(first: u64, pages: u64) -> u64 {
    (0..pages * WORDS).fold(0, |sum, index| mix(sum ^ load(first + index * WORD)))
}
