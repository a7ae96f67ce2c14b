//! The 16-byte cell under a model checker.
//!
//! Neither loom nor shuttle has a 128-bit atomic, so payload and link are packed into one of their 64-bit ones: 17 bits of payload
//! and 47 of link, which is what addresses in user space need. Each method is one access to it, hence one scheduling
//! point; loom also lets a load return any value that its orderings permit. The accesses and orderings are those of
//! `pair/portable.rs`, as they stand.

use core::sync::atomic::{AtomicU64 as Plain, Ordering};

#[cfg(dcas_queue_loom)]
use loom::sync::atomic::AtomicU64;
#[cfg(dcas_queue_shuttle)]
use shuttle::sync::atomic::AtomicU64;

#[cfg(dcas_queue_loom)]
pub(crate) use loom::hint::spin_loop;
#[cfg(dcas_queue_shuttle)]
pub(crate) use shuttle::hint::spin_loop;

const LINK_BITS: u32 = 47;

/// A cell of 128 bits of which the checker sees 64.
pub(crate) struct AtomicU128 {
    checked: AtomicU64,
    /// The newest value, for invariants to look at without a scheduling point. No other thread runs between a change of
    /// `checked` and this one's: checkers switch before an access.
    newest: Plain,
}

/// # Panics
/// If the test's payloads are too large, or its addresses.
fn pack(bits: u128) -> u64 {
    let (payload, link) = (bits as u64, (bits >> 64) as u64);
    assert!(payload < 1 << (64 - LINK_BITS) && link < 1 << LINK_BITS, "too large for a checked cell");
    payload << LINK_BITS | link
}

fn unpack(packed: u64) -> u128 {
    u128::from(packed & ((1 << LINK_BITS) - 1)) << 64 | u128::from(packed >> LINK_BITS)
}

impl AtomicU128 {
    pub(crate) fn new(bits: u128) -> Self {
        Self { checked: AtomicU64::new(pack(bits)), newest: Plain::new(pack(bits)) }
    }

    pub(crate) fn load(&self, order: Ordering) -> u128 {
        unpack(self.checked.load(order))
    }

    pub(crate) fn store(&self, bits: u128, order: Ordering) {
        self.checked.store(pack(bits), order);
        self.remember(pack(bits));
    }

    pub(crate) fn fetch_or(&self, bits: u128, order: Ordering) -> u128 {
        let before = self.checked.fetch_or(pack(bits), order);
        self.remember(before | pack(bits));
        unpack(before)
    }

    pub(crate) fn compare_exchange(
        &self,
        old: u128,
        new: u128,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u128, u128> {
        let result = self.checked.compare_exchange(pack(old), pack(new), success, failure);
        if result.is_ok() {
            self.remember(pack(new));
        }
        result.map(unpack).map_err(unpack)
    }

    /// The newest value. Not a scheduling point.
    pub(crate) fn newest(&self) -> u128 {
        // ORD: Relaxed: a checker runs one thread at a time.
        unpack(self.newest.load(Ordering::Relaxed))
    }

    fn remember(&self, packed: u64) {
        // ORD: Relaxed: as in `newest`.
        self.newest.store(packed, Ordering::Relaxed);
    }
}
