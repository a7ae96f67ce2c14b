//! The one decision that all pairs of the process share: assembly or portable-atomic.
//!
//! The two must never touch the same pair, so the decision is made once and agreed on for ever (INV-P-2). It comes from
//! `cpuid` itself and never from `cfg!(target_feature)`: the latter can differ between crates of one program.

use crate::primitive::{AtomicU8, Ordering};

const UNKNOWN: u8 = 0;
const ABSENT: u8 = 1;
const PRESENT: u8 = 2;

static CX16: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whether pairs are accessed by the assembly, that is, whether the CPU has `CMPXCHG16B`.
#[inline]
pub(super) fn assembly() -> bool {
    // ORD: Relaxed: the byte is all there is to know; it guards no other memory and changes once.
    match CX16.load(Ordering::Relaxed) {
        PRESENT => true,
        UNKNOWN => decide(),
        _ => false,
    }
}

#[cold]
fn decide() -> bool {
    // CPUID.01H:ECX.CMPXCHG16B[bit 13] (Intel SDM Vol. 2A, CPUID; AMD APM Vol. 3, Appendix E.3).
    let present = core::arch::x86_64::__cpuid(1).ecx & (1 << 13) != 0;
    let found = if present { PRESENT } else { ABSENT };
    // Should two CPUs answer differently, whoever comes first decides for all.
    // ORD: Relaxed: as in `assembly`; the total order of the changes of one byte is enough.
    match CX16.compare_exchange(UNKNOWN, found, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => present,
        Err(agreed) => agreed == PRESENT,
    }
}
