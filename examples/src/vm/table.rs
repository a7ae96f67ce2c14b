//! Address spaces by number, and counts of what was done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Space;
use crate::hash::Map;

/// The living address spaces.
#[derive(Default)]
pub(super) struct SpaceTable<'s> {
    spaces: Mutex<Map<u32, Arc<Space<'s>>>>,
}

impl<'s> SpaceTable<'s> {
    pub(super) fn get(&self, number: u32) -> Option<Arc<Space<'s>>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).get(&number).cloned()
    }

    /// Adds a space; gives it back if the number is taken.
    pub(super) fn add(&self, space: Arc<Space<'s>>) -> Result<(), Arc<Space<'s>>> {
        let mut spaces = self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if spaces.contains_key(&space.number()) {
            return Err(space);
        }
        spaces.insert(space.number(), space);
        Ok(())
    }

    pub(super) fn take(&self, number: u32) -> Option<Arc<Space<'s>>> {
        self.spaces.lock().unwrap_or_else(PoisonError::into_inner).remove(&number)
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        let mut numbers: Vec<u32> =
            self.spaces.lock().unwrap_or_else(PoisonError::into_inner).keys().copied().collect();
        numbers.sort_unstable();
        numbers
    }
}

macro_rules! counts {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What the virtual-memory layer has done.
        #[derive(Debug, Default)]
        pub struct Counts {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        impl Counts {
            /// Names and values.
            #[must_use]
            pub fn list(&self) -> Vec<(&'static str, u64)> {
                // ORD: Relaxed; counts order nothing.
                vec![$((stringify!($name), self.$name.load(Ordering::Relaxed)),)*]
            }
        }
    };
}

counts! {
    /// Page faults of the simulated CPUs that were resolved.
    page_faults,
    /// Accesses that found a translation, by a CPU going back to a page.
    revisits,
    /// Private copies made.
    copies,
    /// Frames taken back by the page daemon.
    page_outs,
    /// Pages that came back from swap.
    swap_ins,
    /// Pages written to swap.
    swap_outs,
    /// Shared file pages written back.
    write_backs,
    /// Pages read from files.
    file_reads,
    /// Pages advised FREE that were thrown away.
    disposals,
    /// Neighbours mapped ahead of their first access.
    prefaults,
    /// Times that a CPU had to reclaim before it could go on.
    direct_reclaims,
    /// Mappings wired for a moment.
    wirings,
    /// Accesses given up because the range was being unmapped or thrown away.
    races_met,
}

pub(super) fn count(counter: &AtomicU64, amount: u64) {
    // ORD: Relaxed; counts order nothing.
    counter.fetch_add(amount, Ordering::Relaxed);
}
