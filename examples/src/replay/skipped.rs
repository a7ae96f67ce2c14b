//! Events that could not be applied, by reason.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Why an event was not applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Reason {
    /// The recorded program faulted where nothing was mapped: it was killed, or handled the signal; or the
    /// fault was recorded just before a mapping that another thread made first.
    FaultNotMapped,
    /// The recorded program faulted where the mapping did not permit the access.
    FaultNotPermitted,
    /// The address space does not exist (any more).
    NoSuchSpace,
    /// The new address space exists already.
    SpaceExists,
    /// Something is mapped where a new mapping was to go.
    Occupied,
    /// Nothing is mapped where something was to be removed or changed.
    NothingMapped,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 6] = [
        Self::FaultNotMapped,
        Self::FaultNotPermitted,
        Self::NoSuchSpace,
        Self::SpaceExists,
        Self::Occupied,
        Self::NothingMapped,
    ];

    /// A name for machines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FaultNotMapped => "fault_not_mapped",
            Self::FaultNotPermitted => "fault_not_permitted",
            Self::NoSuchSpace => "no_such_space",
            Self::SpaceExists => "space_exists",
            Self::Occupied => "occupied",
            Self::NothingMapped => "nothing_mapped",
        }
    }

    /// Whether it is a reason for page faults.
    #[must_use]
    pub const fn is_fault(self) -> bool {
        matches!(self, Self::FaultNotMapped | Self::FaultNotPermitted)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FaultNotMapped => {
                "page fault where nothing is mapped (the program got a signal, or the recorder lost a race)"
            }
            Self::FaultNotPermitted => {
                "page fault that the mapping forbids (the program got a signal, or the recorder lost a race)"
            }
            Self::NoSuchSpace => "the address space does not exist",
            Self::SpaceExists => "the new address space exists already",
            Self::Occupied => "something is mapped where a new mapping was to go",
            Self::NothingMapped => "nothing is mapped in the range",
        })
    }
}

/// How often each reason occurred.
#[derive(Debug, Default)]
pub struct Skipped {
    counts: [AtomicU64; Reason::ALL.len()],
    /// Page faults that were skipped for one of the reasons that are not only theirs.
    other_faults: AtomicU64,
}

impl Skipped {
    /// Adds one event.
    pub fn add(&self, reason: Reason, fault: bool) {
        // ORD: Relaxed, both; counts.
        self.counts[reason as usize].fetch_add(1, Ordering::Relaxed);
        if fault && !reason.is_fault() {
            self.other_faults.fetch_add(1, Ordering::Relaxed); // ORD: as above
        }
    }

    /// Events skipped for `reason`.
    #[must_use]
    pub fn of(&self, reason: Reason) -> u64 {
        // ORD: Relaxed; a count.
        self.counts[reason as usize].load(Ordering::Relaxed)
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        Reason::ALL.into_iter().map(|reason| self.of(reason)).sum()
    }

    /// Page faults among them.
    #[must_use]
    pub fn faults(&self) -> u64 {
        let own: u64 = Reason::ALL.into_iter().filter(|r| r.is_fault()).map(|r| self.of(r)).sum();
        // ORD: Relaxed; a count.
        own + self.other_faults.load(Ordering::Relaxed)
    }
}
