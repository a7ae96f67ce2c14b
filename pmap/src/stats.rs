//! Counters: kept per CPU on lines of their own, summed when read.

use core::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// One CPU's counters.
        #[derive(Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: AtomicU64,)*
        }

        /// The sums of the counters of all CPUs, read one by one while they go on.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        struct Sums {
            $($name: u64,)*
        }

        impl Sums {
            fn add(&mut self, of: &Counters) {
                // ORD: Relaxed; counts order nothing.
                $(self.$name = self.$name.wrapping_add(of.$name.load(Ordering::Relaxed));)*
            }
        }
    };
}

counters! {
    enters, enter_quicks, removes, protects,
    remove_all_calls, remove_write_calls, remove_pages_calls,
    pv_allocated, pv_freed, chunks_allocated, chunks_freed,
    pt_pages_allocated, pt_pages_freed,
    shootdowns, shootdown_ipis, shootdowns_local_only,
    reversals, reversal_restarts,
}

/// What a system has done and holds. Gauges (`pv_entries`, `pv_chunks`, `pt_pages`) are exact when the
/// system is quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Statistics {
    /// Calls of `enter` that made or changed a mapping.
    pub enters: u64,
    /// Speculative mappings made by `enter_quick`, `enter_object` and `copy_from`.
    pub enter_quicks: u64,
    /// Calls of `remove` that had something to look at.
    pub removes: u64,
    /// Calls of `protect` that had something to look at.
    pub protects: u64,
    /// Calls of `remove_all`.
    pub remove_all_calls: u64,
    /// Calls of `remove_write` for pages that were possibly writable.
    pub remove_write_calls: u64,
    /// Calls of `remove_pages`.
    pub remove_pages_calls: u64,
    /// PV entries in use.
    pub pv_entries: u64,
    /// Pages used as chunks of PV entries.
    pub pv_chunks: u64,
    /// Page-table pages in use, root tables included.
    pub pt_pages: u64,
    /// Invalidations that involved other CPUs.
    pub shootdowns: u64,
    /// Interrupts sent for them.
    pub shootdown_ipis: u64,
    /// Invalidations that concerned no other CPU.
    pub shootdowns_local_only: u64,
    /// Times that a pmap lock was wanted with a PV-list lock held and was not free.
    pub reversals: u64,
    /// Times that the PV list had changed after such a reversal.
    pub reversal_restarts: u64,
}

/// Adds up the counters of all CPUs.
pub(crate) fn sum<'a>(cpus: impl Iterator<Item = &'a Counters>) -> Statistics {
    let mut s = Sums::default();
    cpus.for_each(|c| s.add(c));
    Statistics {
        enters: s.enters,
        enter_quicks: s.enter_quicks,
        removes: s.removes,
        protects: s.protects,
        remove_all_calls: s.remove_all_calls,
        remove_write_calls: s.remove_write_calls,
        remove_pages_calls: s.remove_pages_calls,
        // An entry may be freed by another CPU than the one that allocated it: only the sums mean something.
        pv_entries: s.pv_allocated.saturating_sub(s.pv_freed),
        pv_chunks: s.chunks_allocated.saturating_sub(s.chunks_freed),
        pt_pages: s.pt_pages_allocated.saturating_sub(s.pt_pages_freed),
        shootdowns: s.shootdowns,
        shootdown_ipis: s.shootdown_ipis,
        shootdowns_local_only: s.shootdowns_local_only,
        reversals: s.reversals,
        reversal_restarts: s.reversal_restarts,
    }
}
