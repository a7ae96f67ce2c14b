//! Where a thread has been, so that it can go back.

use alloc::vec;
use alloc::vec::Vec;

use pmap::{VirtAddr, VirtRange};

/// How many places are remembered.
const PLACES: usize = 512;

/// The last places, and dice to choose among them.
pub(super) struct Visits {
    places: Vec<Option<(u32, VirtAddr)>>,
    next: usize,
    state: u64,
}

impl Visits {
    pub(super) fn new(seed: u64) -> Self {
        Self { places: vec![None; PLACES], next: 0, state: seed }
    }

    /// The next number of the generator splitmix64.
    fn roll(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True once in `n` times.
    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.roll().is_multiple_of(n)
    }

    /// Remembers a place in a space.
    pub(super) fn note(&mut self, space: u32, va: VirtAddr) {
        self.places[self.next] = Some((space, va));
        self.next = (self.next + 1) % PLACES;
    }

    /// The last places in a range of the space, `N` at most.
    pub(super) fn recall_in<const N: usize>(&self, space: u32, range: VirtRange) -> [Option<VirtAddr>; N] {
        let (later, earlier) = self.places.split_at(self.next);
        let latest_first = later.iter().rev().chain(earlier.iter().rev()).flatten();
        let mut inside = latest_first.filter(|(number, va)| *number == space && range.contains(*va));
        core::array::from_fn(|_| inside.next().map(|(_, va)| *va))
    }

    /// Some place in the space; often none.
    pub(super) fn recall(&mut self, space: u32) -> Option<VirtAddr> {
        let first = self.roll() as usize;
        (0..4).find_map(|step| {
            let (number, va) = self.places[first.wrapping_add(step) % PLACES]?;
            (number == space).then_some(va)
        })
    }
}
