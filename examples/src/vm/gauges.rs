//! How much the pmap held at most, looked at now and then.

use std::sync::atomic::{AtomicU64, Ordering};

use super::{Cpu, Vm};

/// CPU 0 looks once in so many steps.
const LOOK_ONE_IN: u64 = 128;

/// The largest values seen.
#[derive(Debug, Default)]
pub(super) struct Gauges {
    pv_entries: AtomicU64,
    pv_chunks: AtomicU64,
    pt_pages: AtomicU64,
}

impl<'s> Vm<'s> {
    /// Looks, if it is time. Each CPU calls this once per step.
    pub fn look_at_gauges(&self, cpu: &mut Cpu<'s>) {
        if cpu.index() == 0 && cpu.dice.one_in(LOOK_ONE_IN) {
            let now = self.system.statistics();
            // ORD: Relaxed, all; numbers on their own.
            self.gauges.pv_entries.fetch_max(now.pv_entries, Ordering::Relaxed);
            self.gauges.pv_chunks.fetch_max(now.pv_chunks, Ordering::Relaxed); // ORD: as above
            self.gauges.pt_pages.fetch_max(now.pt_pages, Ordering::Relaxed); // ORD: as above
        }
    }

    /// Names and largest values seen.
    #[must_use]
    pub fn gauges(&self) -> [(&'static str, u64); 3] {
        // ORD: Relaxed, all; numbers on their own.
        let value = |gauge: &AtomicU64| gauge.load(Ordering::Relaxed);
        [
            ("pv_entries", value(&self.gauges.pv_entries)),
            ("pv_chunks", value(&self.gauges.pv_chunks)),
            ("pt_pages", value(&self.gauges.pt_pages)),
        ]
    }
}
