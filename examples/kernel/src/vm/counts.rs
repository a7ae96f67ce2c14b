//! What the virtual-memory layer has done.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters; they order nothing.
        #[derive(Debug, Default)]
        pub(crate) struct Counts {
            $($(#[$doc])* pub(crate) $name: Count,)*
        }

        impl Counts {
            /// All of them, by name.
            pub(crate) fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$((stringify!($name), self.$name.get()),)*].into_iter()
            }
        }
    };
}

counts! {
    /// Page faults that were resolved.
    faults,
    /// Pages of zeroes made.
    zero_fills,
    /// Private copies made.
    copies,
    /// Pages read from a file.
    file_reads,
    /// Spaces copied.
    forks,
    /// Pages whose frames the daemon took.
    page_outs,
    /// Pages that were written to swap for that.
    swap_outs,
    /// Pages that came back from swap.
    swap_ins,
    /// Pages written to swap with the right to write taken away first, and kept.
    launderings,
    /// Pages that had been used and got their second chance.
    second_chances,
    /// Threads that had to reclaim for themselves.
    direct_reclaims,
    /// Frames handed out.
    frames_allocated,
    /// Frames given back.
    frames_freed,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    /// One more.
    pub(crate) fn add_one(&self) {
        // ORD: Relaxed; counts order nothing.
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Its value.
    #[must_use]
    pub(crate) fn get(&self) -> u64 {
        // ORD: Relaxed; as above.
        self.0.load(Ordering::Relaxed)
    }
}
