//! A hasher without a random seed, so that the deterministic mode visits tables in the same order in
//! every run, and one mixing function for everything that is derived from the seed.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

/// A `HashMap` whose iteration order depends on its history only.
pub type Map<K, V> = HashMap<K, V, BuildHasherDefault<Mixer>>;
/// A `HashSet` whose iteration order depends on its history only.
pub type Set<K> = HashSet<K, BuildHasherDefault<Mixer>>;

/// Mixes 64 bits so that every input bit changes about half of the output bits (the finalizer of
/// Steele, Lea and Flood's SplitMix, OOPSLA 2014).
#[must_use]
pub const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The hasher behind [`Map`]: fit for small integer keys, not for hostile input.
#[derive(Default, Clone, Copy)]
pub struct Mixer(u64);

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = mix(self.0 ^ value);
    }

    fn write_usize(&mut self, value: usize) {
        self.write_u64(value as u64);
    }
}

/// A small generator for decisions that must be the same in every run with one seed.
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// A generator of its own for each `(seed, stream)`.
    #[must_use]
    pub fn new(seed: u64, stream: u64) -> Self {
        Self(mix(seed) ^ mix(stream.wrapping_mul(0x5851_f42d_4c95_7f2d)))
    }

    /// The next 64 bits.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        // The high half of a product: no division, and a bias far below what any test here can see.
        ((u128::from(self.roll()) * u128::from(bound)) >> 64) as u64
    }

    /// True once in `n` on average; never if `n` is 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dice_repeat_and_stay_in_bounds() {
        let (mut a, mut b) = (Dice::new(7, 1), Dice::new(7, 1));
        for _ in 0..1000 {
            let n = a.below(10);
            assert_eq!(n, b.below(10));
            assert!(n < 10);
        }
        assert_ne!(Dice::new(7, 1).roll(), Dice::new(7, 2).roll());
        assert!(!Dice::new(1, 1).one_in(0));
    }
}
