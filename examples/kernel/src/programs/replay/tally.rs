//! What was done, and what was not.

use core::sync::atomic::{AtomicU64, Ordering};

/// What is counted, by the names of the report's figures.
macro_rules! tallies {
    ($($(#[$doc:meta])* $name:ident = $figure:literal,)*) => {
        /// Something that is counted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(super) enum What {
            $($(#[$doc])* $name,)*
        }

        /// All of it, with the names of the report's figures.
        const ALL: &[(What, &str)] = &[$((What::$name, $figure),)*];
    };
}

tallies! {
    /// A fault where nothing is mapped: the program was killed, or the recorder lost a race. The access was made, and refused.
    FaultNotMapped = "skipped_fault_not_mapped",
    /// A fault that the mapping forbids, likewise.
    FaultNotPermitted = "skipped_fault_not_permitted",
    /// The address space does not exist (any more).
    NoSuchSpace = "skipped_no_such_space",
    /// The new address space exists already.
    SpaceExists = "skipped_space_exists",
    /// Something is mapped where a mapping was to go.
    Occupied = "skipped_occupied",
    /// Nothing is mapped where something was to be changed.
    NothingMapped = "skipped_nothing_mapped",
    /// Advice that changes no translation.
    NoEffect = "advice_without_effect",
    /// Loads whose result was compared.
    Loads = "loads_checked",
    /// Stores.
    Stores = "stores",
    /// Looks at places where the CPU had been, with whatever translation there was.
    Peeks = "peeks",
    /// Those of them that could be judged.
    PeeksJudged = "peeks_judged",
    /// Those that were to find nothing, because the mapping is gone.
    PeeksOfNothing = "peeks_of_nothing",
    /// Stores that must be refused.
    Pokes = "pokes_refused",
    /// Pages looked at before their address space ended.
    Swept = "pages_swept",
}

/// The counts.
#[derive(Default)]
pub(super) struct Tally([AtomicU64; ALL.len()]);

impl Tally {
    /// One more.
    pub(super) fn add(&self, what: What) {
        // ORD: Relaxed; counts order nothing.
        self.0[what as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// How many.
    pub(super) fn get(&self, what: What) -> u64 {
        // ORD: Relaxed; as above.
        self.0[what as usize].load(Ordering::Relaxed)
    }

    /// All of them, with their names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ALL.iter().map(|(what, name)| (*name, self.get(*what)))
    }

    /// Events that could not be applied.
    pub(super) fn skipped(&self) -> u64 {
        self.iter().filter(|(name, _)| name.starts_with("skipped")).map(|(_, count)| count).sum()
    }
}
