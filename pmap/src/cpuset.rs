//! Sets of CPUs: a plain value and its atomic form.

use crate::primitive::{AtomicU64, Ordering};

/// Most CPUs that one machine may have.
pub const MAX_CPUS: usize = 256;
const WORDS: usize = MAX_CPUS / 64;

/// A CPU by its dense index, below [`MAX_CPUS`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuId(u16);

impl CpuId {
    /// The CPU with this index; `None` if it is not below [`MAX_CPUS`].
    #[must_use]
    pub const fn new(index: usize) -> Option<Self> {
        if index < MAX_CPUS { Some(Self(index as u16)) } else { None }
    }

    /// Dense index, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A set of CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CpuSet([u64; WORDS]);

impl CpuSet {
    /// The empty set.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Adds `cpu`.
    pub fn insert(&mut self, cpu: CpuId) {
        self.0[cpu.index() / 64] |= 1 << (cpu.index() % 64);
    }

    /// Takes `cpu` out.
    pub fn remove(&mut self, cpu: CpuId) {
        self.0[cpu.index() / 64] &= !(1 << (cpu.index() % 64));
    }

    /// Whether `cpu` is in the set.
    #[must_use]
    pub fn contains(&self, cpu: CpuId) -> bool {
        self.0[cpu.index() / 64] & (1 << (cpu.index() % 64)) != 0
    }

    /// Whether no CPU is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|w| *w == 0)
    }

    /// Number of CPUs in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|w| w.count_ones() as usize).sum()
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = CpuId> + '_ {
        self.0.iter().enumerate().flat_map(|(i, &word)| {
            let mut rest = word;
            core::iter::from_fn(move || {
                if rest == 0 {
                    return None;
                }
                let bit = rest.trailing_zeros() as usize;
                rest &= rest - 1;
                Some(CpuId((i * 64 + bit) as u16))
            })
        })
    }
}

impl FromIterator<CpuId> for CpuSet {
    fn from_iter<I: IntoIterator<Item = CpuId>>(iter: I) -> Self {
        let mut set = Self::EMPTY;
        iter.into_iter().for_each(|c| set.insert(c));
        set
    }
}

/// A set of CPUs that several CPUs change at once.
///
/// Orderings are the caller's, because the same set serves protocols with different needs; a load of
/// the whole set is one load per word and so a snapshot per word only.
#[derive(Debug)]
pub struct AtomicCpuSet([AtomicU64; WORDS]);

impl AtomicCpuSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    /// Adds `cpu`; returns whether it was absent.
    pub fn insert(&self, cpu: CpuId, order: Ordering) -> bool {
        let bit = 1 << (cpu.index() % 64);
        self.0[cpu.index() / 64].fetch_or(bit, order) & bit == 0
    }

    /// Takes `cpu` out; returns whether its word of the set became empty by that.
    pub fn remove(&self, cpu: CpuId, order: Ordering) -> bool {
        let bit = 1 << (cpu.index() % 64);
        self.0[cpu.index() / 64].fetch_and(!bit, order) == bit
    }

    /// Reads the set, word by word.
    #[must_use]
    pub fn load(&self, order: Ordering) -> CpuSet {
        CpuSet(core::array::from_fn(|i| self.0[i].load(order)))
    }

    /// Replaces the set, word by word.
    pub fn store(&self, set: &CpuSet, order: Ordering) {
        for (word, value) in self.0.iter().zip(set.0) {
            word.store(value, order);
        }
    }

    /// Empties the set and returns what was in it, word by word.
    pub fn take(&self, order: Ordering) -> CpuSet {
        // Looked at first: the usual answer is "nothing", and a swap would take the line from others.
        CpuSet(core::array::from_fn(|i| {
            // ORD: Relaxed; a bit missed here is found by the next look, which its sender's interrupt forces.
            if self.0[i].load(Ordering::Relaxed) == 0 { 0 } else { self.0[i].swap(0, order) }
        }))
    }
}

impl Default for AtomicCpuSet {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(all(test, not(pmap_loom)))]
mod tests {
    use super::*;

    #[test]
    fn sets_iterate_in_order_across_words() {
        let cpus = [0, 1, 63, 64, 255].map(|i| CpuId::new(i).unwrap());
        let set: CpuSet = cpus.into_iter().collect();
        assert!(set.iter().eq(cpus));
        assert_eq!(set.len(), 5);
        assert!(CpuId::new(MAX_CPUS).is_none());
    }

    #[test]
    fn the_atomic_form_reports_edges() {
        let set = AtomicCpuSet::new();
        let cpu = CpuId::new(70).unwrap();
        assert!(set.insert(cpu, Ordering::Relaxed));
        assert!(!set.insert(cpu, Ordering::Relaxed));
        assert!(set.remove(cpu, Ordering::Relaxed));
        assert!(set.load(Ordering::Relaxed).is_empty());
        set.insert(cpu, Ordering::Relaxed);
        assert!(set.take(Ordering::Relaxed).contains(cpu));
        assert!(set.take(Ordering::Relaxed).is_empty());
    }
}
