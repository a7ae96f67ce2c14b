//! What a machine has seen: counters, and the first failures in words.

use std::format;
use std::string::String;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::vec::Vec;

/// Failures that are kept in words; the rest is only counted.
const KEPT: usize = 32;

/// Failures, as they are found.
pub(super) struct Ledger {
    seed: u64,
    stale_accesses: AtomicU64,
    forbidden: AtomicU64,
    first: Mutex<Vec<String>>,
}

impl Ledger {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            stale_accesses: AtomicU64::new(0),
            forbidden: AtomicU64::new(0),
            first: Mutex::new(Vec::new()),
        }
    }

    fn keep(&self, kind: &str, words: impl FnOnce() -> String) {
        let mut first = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        if first.len() < KEPT {
            first.push(format!("{kind}: {} (seed {})", words(), self.seed));
        }
    }

    /// An access, or a walk, used a reference to a frame that has changed hands.
    pub(super) fn stale_access(&self, words: impl FnOnce() -> String) {
        // ORD: Relaxed; a counter.
        self.stale_accesses.fetch_add(1, Ordering::Relaxed);
        self.keep("stale access", words);
    }

    /// Something was found that a guarantee, or the architecture, forbids.
    pub(super) fn forbidden(&self, words: impl FnOnce() -> String) {
        // ORD: Relaxed; a counter.
        self.forbidden.fetch_add(1, Ordering::Relaxed);
        self.keep("forbidden", words);
    }

    /// Counts so far: stale accesses, forbidden entries.
    pub(super) fn counts(&self) -> (u64, u64) {
        // ORD: Relaxed; counters.
        (self.stale_accesses.load(Ordering::Relaxed), self.forbidden.load(Ordering::Relaxed))
    }

    pub(super) fn first(&self) -> Vec<String> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Counters of one CPU's translation hardware. Plain numbers under the CPU's lock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct MmuCounters {
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) structure_hits: u64,
    pub(super) faults: u64,
    pub(super) speculative_fills: u64,
    pub(super) evictions: u64,
    pub(super) invalidations: u64,
    pub(super) stale_before_guarantee: u64,
}

/// What [`SimMachine::report`](super::SimMachine::report) gives. Counts are since the machine was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The machine's seed.
    pub seed: u64,
    /// Accesses and walks through a reference to a frame that has changed hands, or that is free.
    pub stale_accesses: u64,
    /// TLB and paging-structure-cache entries that a guarantee forbids, found when it was stated, frames
    /// freed twice or by the wrong owner, and table entries that the architecture forbids.
    pub forbidden_entries: u64,
    /// Translations that were stale (their table entry had been cleared, redirected or narrowed) and
    /// still cached. Counted once each, when it is used or when an invalidation drops it, which is in
    /// either case before the pmap states a guarantee about it. A full invalidation looks at up to
    /// eight of the entries that it drops. Zero means that the machine was too tame to prove anything.
    pub stale_before_guarantee: u64,
    /// Frames handed out that had had another owner before.
    pub pages_reused: u64,
    /// Interrupts sent.
    pub ipis: u64,
    /// Interrupts taken; fewer than sent, because one can serve several requests.
    pub ipis_taken: u64,
    /// Accesses that found a usable translation in the TLB.
    pub tlb_hits: u64,
    /// Accesses that walked the tables.
    pub tlb_misses: u64,
    /// Walks that began in a paging-structure cache.
    pub structure_hits: u64,
    /// Page faults.
    pub faults: u64,
    /// Translations that the machine filled unasked.
    pub speculative_fills: u64,
    /// Translations that it dropped unasked.
    pub evictions: u64,
    /// Invalidations that a CPU performed.
    pub invalidations: u64,
    /// INVLPGBs executed.
    pub broadcasts: u64,
    /// Guarantees and freed frames for which all CPUs were searched.
    pub searches: u64,
    /// Guarantees and freed frames that the configuration left unsearched.
    pub searches_skipped: u64,
    /// Frames of the machine.
    pub total_frames: u64,
    /// Frames in use now: data, page tables, PV chunks, pmap records.
    pub frames_in_use: [u64; 4],
    /// Most frames that were in use at once.
    pub peak_used_frames: u64,
    /// Deterministic mode: a hash over all scheduling decisions, accesses and interrupts; 0 in parallel mode.
    pub history: u64,
    /// Deterministic mode: how often the baton has passed from one CPU to another.
    pub switches: u64,
    /// The first failures, in words.
    pub first_failures: Vec<String>,
}

impl Report {
    /// Whether nothing that must not happen has happened.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.stale_accesses == 0 && self.forbidden_entries == 0
    }
}
