//! The accesses to a pair through `portable_atomic::AtomicU128`: every access is 128 bits wide.
//!
//! Used where the assembly does not apply: other architectures, x86-64 without `CMPXCHG16B`, Miri, and builds with
//! `--cfg dcas_queue_fallback`. Depending on the machine portable-atomic uses the architecture's own 128-bit
//! instructions or a lock.

use super::Pair;
use crate::primitive::{AtomicU128, Ordering};

#[inline]
pub(super) const fn pack(pair: Pair) -> u128 {
    ((pair.link as u128) << 64) | pair.payload as u128
}

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "taking the halves apart is the purpose")]
pub(super) const fn unpack(bits: u128) -> Pair {
    Pair { payload: bits as u64, link: (bits >> 64) as usize }
}

#[inline]
pub(super) fn load(cell: &AtomicU128) -> Pair {
    // ORD: Acquire pairs with the Release store that prepared the pair and with the SeqCst read-modify-writes.
    unpack(cell.load(Ordering::Acquire))
}

/// Stores one half: `change` gets the pair as it is. Only for the one thread that may write the pair.
#[inline]
pub(super) fn store(cell: &AtomicU128, change: impl FnOnce(&mut Pair)) {
    // ORD: Relaxed: nobody else writes the pair now, so this reads what the caller itself last saw there.
    let mut pair = unpack(cell.load(Ordering::Relaxed));
    change(&mut pair);
    // ORD: Release pairs with the Acquire in `load`: who sees the half sees what its writer did before.
    cell.store(pack(pair), Ordering::Release);
}

#[inline]
pub(super) fn mark(cell: &AtomicU128) -> usize {
    // ORD: SeqCst: the mark takes part in the users' store-then-load protocols and pairs with `load`.
    unpack(cell.fetch_or(pack(Pair { payload: 0, link: super::MARK }), Ordering::SeqCst)).link
}

#[inline]
pub(super) fn compare_exchange(cell: &AtomicU128, old: Pair, new: Pair) -> bool {
    // ORD: SeqCst on success as for the mark. Acquire on failure: the value is dropped; SeqCst would buy nothing.
    cell.compare_exchange(pack(old), pack(new), Ordering::SeqCst, Ordering::Acquire).is_ok()
}
