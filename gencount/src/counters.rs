//! Statistics: kept by each participant on a cache line of its own, summed when somebody reads them.

use core::ops::AddAssign;

use crate::primitive::{AtomicU64, Relaxed};

/// What has happened in a domain so far, under the names that FreeBSD's users know, and two more.
///
/// Each participant counts for itself; [`Domain::counters`](crate::Domain::counters) adds them up, those of
/// participants that have left included. Numbers read while others work are a little old.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Counters {
    /// Waits that found something to wait for.
    pub invl_wait: u64,
    /// Waits that had to park.
    pub invl_wait_slow: u64,
    /// The longest queue that a begin or a finish met on its way, in sections. With `lockfree` sections may end and
    /// begin during the walk, so it may have met more than were ever open at one moment. `sharded` has no queue: 0.
    pub invl_max_qlen: u64,
    /// How often a begin found that the queue had changed under it, and walked again.
    pub invl_start_restart: u64,
    /// How often a finish found that the queue had changed under it, and walked again.
    pub invl_finish_restart: u64,
    /// Sections that were begun.
    pub di_blocks: u64,
    /// Calls of wait, with or without a time limit, and of its variant that only tries.
    pub di_wait_calls: u64,
    /// Sections that their participant left open when it went away: above 0, a guard was forgotten, or a raw begin
    /// has no finish.
    pub di_forgotten: u64,
}

impl AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        self.invl_wait += other.invl_wait;
        self.invl_wait_slow += other.invl_wait_slow;
        self.invl_max_qlen = self.invl_max_qlen.max(other.invl_max_qlen);
        self.invl_start_restart += other.invl_start_restart;
        self.invl_finish_restart += other.invl_finish_restart;
        self.di_blocks += other.di_blocks;
        self.di_wait_calls += other.di_wait_calls;
        self.di_forgotten += other.di_forgotten;
    }
}

/// One number, written by one thread at a time and read by anybody.
#[derive(Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Adds without a locked instruction, and returns the sum: two threads at once would lose a count, nothing else.
    #[inline]
    pub(crate) fn add(&self, n: u64) -> u64 {
        // ORD: Relaxed: a number on its own.
        let sum = self.0.load(Relaxed).wrapping_add(n);
        // ORD: as above.
        self.0.store(sum, Relaxed);
        sum
    }

    #[inline]
    pub(crate) fn raise(&self, n: u64) {
        // ORD: Relaxed: a number on its own.
        if self.0.load(Relaxed) < n {
            // ORD: as above.
            self.0.store(n, Relaxed);
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> u64 {
        // ORD: Relaxed: a number on its own.
        self.0.load(Relaxed)
    }
}

/// One participant's counters.
#[derive(Default)]
pub(crate) struct OwnCounters {
    pub(crate) wait: Count,
    pub(crate) wait_slow: Count,
    pub(crate) max_qlen: Count,
    pub(crate) start_restart: Count,
    pub(crate) finish_restart: Count,
    /// Raised when a section begins and when it ends: odd while one is open, and then the section's serial number.
    pub(crate) serial: Count,
    pub(crate) wait_calls: Count,
    pub(crate) forgotten: Count,
}

impl OwnCounters {
    pub(crate) const fn new() -> Self {
        Self {
            wait: Count::new(),
            wait_slow: Count::new(),
            max_qlen: Count::new(),
            start_restart: Count::new(),
            finish_restart: Count::new(),
            serial: Count::new(),
            wait_calls: Count::new(),
            forgotten: Count::new(),
        }
    }

    pub(crate) fn read(&self) -> Counters {
        Counters {
            invl_wait: self.wait.get(),
            invl_wait_slow: self.wait_slow.get(),
            invl_max_qlen: self.max_qlen.get(),
            invl_start_restart: self.start_restart.get(),
            invl_finish_restart: self.finish_restart.get(),
            di_blocks: self.serial.get().div_ceil(2),
            di_wait_calls: self.wait_calls.get(),
            di_forgotten: self.forgotten.get(),
        }
    }
}
