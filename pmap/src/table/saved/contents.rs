//! What a saved table holds.

use crate::entry::{ACCESSED, DIRTY, Entry, Format, WRITABLE};

/// What a leaf table holds that was saved, or is about to be.
///
/// A claim about a saved table is a lower bound: hardware that still walks the table by way of a paging-structure cache
/// may set accessed bits in it, and turn [`Uniform`](Self::Uniform) into [`Accessed`](Self::Accessed) behind everybody's back. It can
/// change nothing else, since a leaf that can be written is dirty already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Contents {
    /// Nothing: all words are zero.
    Empty,
    /// 512 valid leaves that map a whole 2 MiB run in order and agree in all that
    /// [`Entry::equality_mask`] covers; if they can be written they are dirty. Some are not accessed.
    Uniform,
    /// As `Uniform`, and each of them is accessed. So demotion need not fill the table again.
    Accessed,
}

impl Contents {
    /// What a table holds whose entry at index `i` is `entry(i)`; `None` if it is none of the three. Each entry is read once.
    pub(crate) fn of<F: Format>(entry: impl Fn(usize) -> Entry<F>) -> Option<Self> {
        let first = entry(0);
        if first.word() == 0 {
            return (1..512).all(|i| entry(i).word() == 0).then_some(Self::Empty);
        }
        let base = first.frame().0;
        let clean = first.has(WRITABLE) && !first.has(DIRTY);
        if !first.is_present() || clean || !base.is_multiple_of(512) {
            return None;
        }
        let mut accessed = first.has(ACCESSED);
        for i in 1..512 {
            let this = entry(i);
            let differs = (this.word() ^ first.word()) & Entry::<F>::equality_mask() != 0;
            if differs || this.frame().0 != base + i as u64 {
                return None;
            }
            accessed &= this.has(ACCESSED);
        }
        Some(if accessed { Self::Accessed } else { Self::Uniform })
    }

    /// Whether a table that holds `self` may be claimed to hold `claim`.
    pub(crate) fn bears_out(self, claim: Self) -> bool {
        self == claim || (self, claim) == (Self::Accessed, Self::Uniform)
    }

    /// Number of valid entries.
    pub(super) const fn entries(self) -> u32 {
        match self {
            Self::Empty => 0,
            Self::Uniform | Self::Accessed => 512,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Frame;
    use crate::entry::{Ept, EptEmulated, FRAME_MASK, MANAGED, PROMOTED, Rvi, X86};
    use crate::protection::Protection;

    const RUN: u64 = 7 * 512;

    fn table<F: Format>() -> [Entry<F>; 512] {
        core::array::from_fn(|i| {
            Entry::leaf(Frame(RUN + i as u64), Protection::all()).with(ACCESSED | DIRTY | MANAGED)
        })
    }

    fn of<F: Format>(table: &[Entry<F>; 512]) -> Option<Contents> {
        Contents::of(|i| table[i])
    }

    /// Every single difference, in every entry that a loop could miss, in one format.
    fn tells_them_apart<F: Format>() {
        let good = table::<F>();
        assert_eq!(of(&good), Some(Contents::Accessed), "{}", F::NAME);
        for at in [0, 1, 255, 510, 511] {
            let with = |entry| {
                let mut table = good;
                table[at] = entry;
                of(&table)
            };
            let this = good[at];
            assert_eq!(with(this.without(ACCESSED)), Some(Contents::Uniform), "{} {at}", F::NAME);
            assert_eq!(with(this.with(PROMOTED)), Some(Contents::Accessed), "{} {at}", F::NAME);
            for bit in (0..64).map(|n| 1u64 << n).filter(|bit| Entry::<F>::equality_mask() & bit != 0) {
                assert_eq!(with(Entry::from_word(this.word() ^ bit)), None, "{} {at} {bit:#x}", F::NAME);
            }
            for bit in (0..64).map(|n| 1u64 << n).filter(|bit| FRAME_MASK & bit != 0) {
                assert_eq!(with(Entry::from_word(this.word() ^ bit)), None, "{} {at} {bit:#x}", F::NAME);
            }
            assert_eq!(with(Entry::default()), None, "{} {at}", F::NAME);
            let mut empty = [Entry::<F>::default(); 512];
            assert_eq!(of(&empty), Some(Contents::Empty));
            empty[at] = Entry::from_word(1 << 62);
            assert_eq!(of(&empty), None, "a word that is not valid is no zero: {} {at}", F::NAME);
        }
        let unaccessed = good.map(|entry| entry.without(ACCESSED));
        assert_eq!(of(&unaccessed), Some(Contents::Uniform), "{}", F::NAME);
        let read_only = good.map(|entry| entry.without(WRITABLE | DIRTY));
        assert_eq!(of(&read_only), Some(Contents::Accessed), "{}", F::NAME);
        let clean = good.map(|entry| entry.without(DIRTY));
        assert_eq!(of(&clean), None, "{}: hardware would make one of them differ", F::NAME);
        let unaligned = good.map(|entry| Entry::<F>::from_word(entry.word() + 4096));
        assert_eq!(of(&unaligned), None, "{}: no large mapping displaces it", F::NAME);
    }

    #[test]
    fn contents_are_told_apart_in_every_format() {
        tells_them_apart::<X86>();
        tells_them_apart::<Rvi>();
        tells_them_apart::<Ept>();
        tells_them_apart::<EptEmulated>();
    }

    #[test]
    fn a_claim_is_a_lower_bound() {
        use Contents::{Accessed, Empty, Uniform};
        for found in [Empty, Uniform, Accessed] {
            let borne_out = [Empty, Uniform, Accessed].map(|claim| found.bears_out(claim));
            let expected = match found {
                Empty => [true, false, false],
                Uniform => [false, true, false],
                Accessed => [false, true, true],
            };
            assert_eq!(borne_out, expected, "{found:?}");
        }
    }
}
