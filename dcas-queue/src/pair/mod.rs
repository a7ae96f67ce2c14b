//! The atomic pair: 64 bits of payload and a link, changed together by one double-width compare-exchange.
//!
//! [`AtomicPair`] is usable on its own, wherever a word and a tagged pointer (or any other word) must change
//! together: a versioned pointer, a stack with a counter against ABA, a sequence number beside an index.
//!
//! # One owner for all accesses
//! Reading one half is an 8-byte access, changing both a 16-byte one, and Rust gives no meaning to racing atomics of
//! different size. So the 16 bytes are private to this module and every access to them takes one of two forms,
//! decided once for the whole process:
//!
//! * x86-64 with `CMPXCHG16B`, as `cpuid` says: inline assembly only. Loads of halves are plain `MOV`s, so a walk over
//!   many pairs writes nothing and costs no locked instruction.
//! * everything else: `portable_atomic::AtomicU128` only. Other architectures use their own instructions
//!   where portable-atomic knows them; x86-64 without `CMPXCHG16B` uses a lock. `--cfg dcas_queue_fallback`
//!   forces this form, for tests.
//!
//! [`is_lock_free`] tells which. The invariants of this module are INV-P-1 to INV-P-4 in `MODEL.md`.
//!
//! # Example
//! ```
//! use dcas_queue::pair::{AtomicPair, Pair};
//!
//! let cell = AtomicPair::new(Pair { payload: 7, link: 0x1000 });
//! let seen = Pair { payload: cell.load_payload(), link: cell.load_link() };
//! // Two loads may be torn; the compare-exchange then fails, since it compares both halves.
//! assert!(cell.compare_exchange(seen, Pair { payload: 8, link: 0x2000 }));
//! assert_eq!(cell.load_payload(), 8);
//! ```

pub(crate) mod access;
#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
))]
mod detect;
mod portable;
#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
))]
mod x86_64;

#[cfg(test)]
mod tests;

use crate::primitive::{AtomicU128, constructor};
use access::Access;

/// The tag bit in a link: the pair is marked. Everything that a link points to is at least 2-byte aligned.
pub const MARK: usize = 1;

/// The two halves as a plain value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Pair {
    /// The 64-bit half.
    pub payload: u64,
    /// The pointer-sized half; its lowest bit is the [`MARK`].
    pub link: usize,
}

/// A [`Pair`] that threads share: its halves can be read one by one and changed together.
///
/// 16 bytes, 16-byte aligned, and never accessed but through these methods (INV-P-1).
#[repr(C, align(16))]
pub struct AtomicPair(AtomicU128);

/// Evaluates an expression with the form of access that the process uses (INV-P-2) bound to a name. The last expression of a
/// function: it returns from it.
macro_rules! decided {
    (|$access:ident| $use:expr) => {{
        #[cfg(all(
            target_arch = "x86_64",
            target_pointer_width = "64",
            not(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
        ))]
        {
            if let Some($access) = $crate::pair::access::Assembly::decided() {
                return $use;
            }
            core::hint::cold_path();
        }
        let $access = $crate::pair::access::Portable;
        $use
    }};
}
pub(crate) use decided;

impl AtomicPair {
    constructor! {
        /// A pair that holds `pair`.
        #[must_use]
        pub fn new(pair: Pair) -> Self {
            Self(AtomicU128::new(portable::pack(pair)))
        }
    }

    /// The newest value, under a model checker; not a step.
    #[cfg(any(dcas_queue_loom, dcas_queue_shuttle))]
    pub(crate) fn newest(&self) -> Pair {
        portable::unpack(self.0.newest())
    }

    /// The payload. Acquire: whoever sees a payload sees what its writer did before.
    #[inline]
    #[must_use]
    pub fn load_payload(&self) -> u64 {
        decided!(|access| access.load_payload(self))
    }

    /// The link. Acquire, like [`load_payload`](Self::load_payload).
    ///
    /// The two loads are two steps: between them the pair may change. A later
    /// [`compare_exchange`](Self::compare_exchange) compares both halves, so a torn read can only make it fail.
    #[inline]
    #[must_use]
    pub fn load_link(&self) -> usize {
        decided!(|access| access.load_link(self))
    }

    /// Both halves at one moment. SeqCst.
    ///
    /// With the assembly this is `CMPXCHG16B` as well: a locked instruction, which takes the line away from others as a
    /// write does. Where a later [`compare_exchange`](Self::compare_exchange) decides anyway, load the halves one by one.
    #[inline]
    #[must_use]
    pub fn load(&self) -> Pair {
        decided!(|access| access.load(self))
    }

    /// Stores the payload and leaves the link alone. Release.
    ///
    /// # Safety
    /// From the last to the next change of this pair that others may make, the caller is the only one who writes it:
    /// it owns the pair and nothing links to it. (Others may still read it, and may still try compare-exchanges that
    /// are bound to fail.)
    #[inline]
    pub unsafe fn store_payload(&self, payload: u64) {
        // SAFETY: the caller is the only writer.
        decided!(|access| unsafe { access.store_payload(self, payload) })
    }

    /// Stores the link and leaves the payload alone. Release.
    ///
    /// # Safety
    /// As for [`store_payload`](Self::store_payload).
    #[inline]
    pub unsafe fn store_link(&self, link: usize) {
        // SAFETY: the caller is the only writer.
        decided!(|access| unsafe { access.store_link(self, link) })
    }

    /// Sets the [`MARK`] in the link and returns the link as it was before. SeqCst.
    ///
    /// A marked pair is frozen until its owner stores to it (INV-P-3): nobody compare-exchanges from a marked
    /// link. Where a caller breaks that, the returned link may be a later one.
    #[inline]
    pub fn mark(&self) -> usize {
        decided!(|access| access.mark(self))
    }

    /// Replaces `current` by `new` if the pair equals it in both halves; says whether it did. SeqCst on success.
    #[inline]
    #[must_use]
    pub fn compare_exchange(&self, current: Pair, new: Pair) -> bool {
        decided!(|access| access.compare_exchange(self, current, new))
    }
}

impl core::fmt::Debug for AtomicPair {
    /// Two loads: the halves may be torn.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let pair = Pair { payload: self.load_payload(), link: self.load_link() };
        f.debug_tuple("AtomicPair").field(&pair).finish()
    }
}

/// Whether pairs are changed by the processor's own instructions, without a lock.
///
/// On x86-64: `CMPXCHG16B` is present and `--cfg dcas_queue_fallback` does not force it off. The answer is the same
/// for the whole life of the process.
#[inline]
#[must_use]
pub fn is_lock_free() -> bool {
    #[cfg(all(
        target_arch = "x86_64",
        target_pointer_width = "64",
        not(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
    ))]
    let lock_free = detect::assembly();
    #[cfg(all(
        target_arch = "x86_64",
        any(
            dcas_queue_fallback,
            dcas_queue_loom,
            dcas_queue_shuttle,
            miri,
            not(target_pointer_width = "64")
        )
    ))]
    let lock_free = false;
    #[cfg(not(target_arch = "x86_64"))]
    let lock_free = !cfg!(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
        && portable_atomic::AtomicU128::is_lock_free();
    lock_free
}
