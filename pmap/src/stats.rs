//! Counters: kept per CPU on lines of their own, summed when read.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::pv::ENTRIES_PER_CHUNK;

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
    enters, enter_quicks, removes, protects, advises,
    remove_all_calls, remove_write_calls, remove_pages_calls,
    pv_allocated, pv_freed, chunks_allocated, chunks_freed,
    pt_pages_allocated, pt_pages_freed, kernel_pt_pages,
    pv_reclaims, pv_reclaims_in_vain, pv_reclaim_waits, pv_reclaimed, pv_chunks_taken,
    pt_pages_recycled,
    shootdowns, shootdown_ipis, shootdowns_local_only, shootdown_broadcasts,
    ipis_saved_lazy, ipis_saved_batching,
    switches, switches_kept, pcid_generations,
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
    /// Calls of `advise`.
    pub advises: u64,
    /// Calls of `remove_all`.
    pub remove_all_calls: u64,
    /// Calls of `remove_write` for pages that were possibly writable.
    pub remove_write_calls: u64,
    /// Calls of `remove_pages`.
    pub remove_pages_calls: u64,
    /// PV entries in use.
    pub pv_entries: u64,
    /// PV entries allocated since the beginning.
    pub pv_entry_allocs: u64,
    /// PV entries freed since the beginning.
    pub pv_entry_frees: u64,
    /// PV entries free in chunks that are in use.
    pub pv_entry_spare: u64,
    /// Pages used as chunks of PV entries.
    pub pv_chunks: u64,
    /// Chunks allocated since the beginning.
    pub pv_chunk_allocs: u64,
    /// Chunks freed since the beginning.
    pub pv_chunk_frees: u64,
    /// Times that PV entries were taken from somebody because there was no memory for new ones.
    pub pv_reclaims: u64,
    /// Times that there was nothing to take.
    pub pv_reclaims_in_vain: u64,
    /// Times that the lock of somebody who might have had something was waited for.
    pub pv_reclaim_waits: u64,
    /// Mappings that were taken away for their PV entries.
    pub pv_reclaimed: u64,
    /// Chunks that changed hands because all their mappings were taken away.
    pub pv_chunks_taken: u64,
    /// Page-table pages that became empty by that and were used for PV entries.
    pub pt_pages_recycled: u64,
    /// Page-table pages in use, root tables and the kernel's included.
    pub pt_pages: u64,
    /// Page-table pages of the kernel, which stay.
    pub kernel_pt_pages: u64,
    /// Times that the machine had no frame for a page table, a chunk or a record.
    pub frames_refused: u64,
    /// Frames that the machine offered although they have been retired. They are kept, and never used.
    pub retired_frames_met: u64,
    /// Invalidations that involved other CPUs.
    pub shootdowns: u64,
    /// Interrupts sent for them.
    pub shootdown_ipis: u64,
    /// Invalidations that concerned no other CPU.
    pub shootdowns_local_only: u64,
    /// Invalidations of kernel translations done by INVLPGB, without interrupts.
    pub shootdown_broadcasts: u64,
    /// Interrupts that were not sent because the CPU, which had translations of the address space under a PCID, did not run
    /// it: it will flush when it runs it next.
    pub ipis_saved_lazy: u64,
    /// Interrupts that were not sent because an operation flushed once for several translations: for each of these beyond
    /// the first, the number of CPUs that were interrupted.
    pub ipis_saved_batching: u64,
    /// Activations of a user address space that was not current.
    pub switches: u64,
    /// Those of them that kept what the CPU had cached of it.
    pub switches_kept: u64,
    /// Times that a CPU had handed out all PCIDs and began anew.
    pub pcid_generations: u64,
    /// Times that a pmap lock was wanted with a PV-list lock held and was not free.
    pub reversals: u64,
    /// Times that the PV list had changed after such a reversal.
    pub reversal_restarts: u64,
}

/// Counts of what is rare, or happens where there is no current CPU: one for the whole system.
#[derive(Default)]
pub(crate) struct RareCounters {
    pub(crate) frames_refused: AtomicU64,
    pub(crate) retired_frames_met: AtomicU64,
}

/// Adds up the counters of all CPUs.
pub(crate) fn sum<'a>(cpus: impl Iterator<Item = &'a Counters>, rare: &RareCounters) -> Statistics {
    let mut s = Sums::default();
    cpus.for_each(|c| s.add(c));
    Statistics {
        enters: s.enters,
        enter_quicks: s.enter_quicks,
        removes: s.removes,
        protects: s.protects,
        advises: s.advises,
        remove_all_calls: s.remove_all_calls,
        remove_write_calls: s.remove_write_calls,
        remove_pages_calls: s.remove_pages_calls,
        // An entry may be freed by another CPU than the one that allocated it: only the sums mean something.
        pv_entries: s.pv_allocated.saturating_sub(s.pv_freed),
        pv_entry_allocs: s.pv_allocated,
        pv_entry_frees: s.pv_freed,
        pv_entry_spare: (s.chunks_allocated.saturating_sub(s.chunks_freed) * ENTRIES_PER_CHUNK as u64)
            .saturating_sub(s.pv_allocated.saturating_sub(s.pv_freed)),
        pv_chunk_allocs: s.chunks_allocated,
        pv_chunk_frees: s.chunks_freed,
        kernel_pt_pages: s.kernel_pt_pages,
        frames_refused: rare.frames_refused.load(Ordering::Relaxed), // ORD: as in `add`
        retired_frames_met: rare.retired_frames_met.load(Ordering::Relaxed), // ORD: as in `add`
        pv_chunks: s.chunks_allocated.saturating_sub(s.chunks_freed),
        pt_pages: s.pt_pages_allocated.saturating_sub(s.pt_pages_freed),
        pv_reclaims: s.pv_reclaims,
        pv_reclaims_in_vain: s.pv_reclaims_in_vain,
        pv_reclaim_waits: s.pv_reclaim_waits,
        pv_reclaimed: s.pv_reclaimed,
        pv_chunks_taken: s.pv_chunks_taken,
        pt_pages_recycled: s.pt_pages_recycled,
        shootdowns: s.shootdowns,
        shootdown_ipis: s.shootdown_ipis,
        shootdowns_local_only: s.shootdowns_local_only,
        shootdown_broadcasts: s.shootdown_broadcasts,
        ipis_saved_lazy: s.ipis_saved_lazy,
        ipis_saved_batching: s.ipis_saved_batching,
        switches: s.switches,
        switches_kept: s.switches_kept,
        pcid_generations: s.pcid_generations,
        reversals: s.reversals,
        reversal_restarts: s.reversal_restarts,
    }
}
