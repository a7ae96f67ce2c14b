//! The two forms of access as types: an operation that makes many accesses asks once which of them is in force.
//!
//! A value of [`Assembly`] exists only if the process uses the assembly, so passing it on keeps INV-P-2. With the form known,
//! an access is the bare instruction.

use super::{AtomicPair, Pair, portable};

/// A form of access. The methods are those of [`AtomicPair`], and so are their contracts.
pub(crate) trait Access: Copy {
    fn load_payload(self, pair: &AtomicPair) -> u64;

    fn load_link(self, pair: &AtomicPair) -> usize;

    fn load(self, pair: &AtomicPair) -> Pair;

    /// # Safety
    /// As [`AtomicPair::store_payload`].
    unsafe fn store_payload(self, pair: &AtomicPair, payload: u64);

    /// # Safety
    /// As [`AtomicPair::store_link`].
    unsafe fn store_link(self, pair: &AtomicPair, link: usize);

    fn mark(self, pair: &AtomicPair) -> usize;

    fn compare_exchange(self, pair: &AtomicPair, current: Pair, new: Pair) -> bool;
}

/// Everything through portable-atomic.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

impl Access for Portable {
    #[inline]
    fn load_payload(self, pair: &AtomicPair) -> u64 {
        portable::load(&pair.0).payload
    }

    #[inline]
    fn load_link(self, pair: &AtomicPair) -> usize {
        portable::load(&pair.0).link
    }

    #[inline]
    fn load(self, pair: &AtomicPair) -> Pair {
        portable::load(&pair.0)
    }

    #[inline]
    unsafe fn store_payload(self, pair: &AtomicPair, payload: u64) {
        portable::store(&pair.0, |pair| pair.payload = payload);
    }

    #[inline]
    unsafe fn store_link(self, pair: &AtomicPair, link: usize) {
        portable::store(&pair.0, |pair| pair.link = link);
    }

    #[inline]
    fn mark(self, pair: &AtomicPair) -> usize {
        portable::mark(&pair.0)
    }

    #[inline]
    fn compare_exchange(self, pair: &AtomicPair, current: Pair, new: Pair) -> bool {
        portable::compare_exchange(&pair.0, current, new)
    }
}

#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
))]
pub(crate) use assembly::Assembly;

#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
))]
mod assembly {
    use super::super::{AtomicPair, Pair, detect, x86_64};
    use super::Access;

    /// Everything through the assembly. Only [`decided`](Self::decided) makes one.
    #[derive(Clone, Copy)]
    pub(crate) struct Assembly(());

    impl Assembly {
        /// The form, if it is the one that this process uses.
        #[inline]
        pub(crate) fn decided() -> Option<Self> {
            detect::assembly().then_some(Self(()))
        }
    }

    // SAFETY of all blocks: a reference is aligned and valid, and all accesses to the 16 bytes take this form (INV-P-2),
    // since there is an `Assembly`, which also says that the CPU has CMPXCHG16B.
    impl Access for Assembly {
        #[inline]
        fn load_payload(self, pair: &AtomicPair) -> u64 {
            // SAFETY: see above.
            unsafe { x86_64::load_payload(pair.0.as_ptr()) }
        }

        #[inline]
        fn load_link(self, pair: &AtomicPair) -> usize {
            // SAFETY: see above.
            unsafe { x86_64::load_link(pair.0.as_ptr()) }
        }

        #[inline]
        fn load(self, pair: &AtomicPair) -> Pair {
            // SAFETY: see above.
            let (payload, link) = unsafe { x86_64::load(pair.0.as_ptr()) };
            Pair { payload, link }
        }

        #[inline]
        unsafe fn store_payload(self, pair: &AtomicPair, payload: u64) {
            // SAFETY: see above; the caller is the only writer.
            unsafe { x86_64::store_payload(pair.0.as_ptr(), payload) };
        }

        #[inline]
        unsafe fn store_link(self, pair: &AtomicPair, link: usize) {
            // SAFETY: see above; the caller is the only writer.
            unsafe { x86_64::store_link(pair.0.as_ptr(), link) };
        }

        #[inline]
        fn mark(self, pair: &AtomicPair) -> usize {
            // SAFETY: see above.
            unsafe { x86_64::mark(pair.0.as_ptr()) }
        }

        #[inline]
        fn compare_exchange(self, pair: &AtomicPair, current: Pair, new: Pair) -> bool {
            let (old, new) = ((current.payload, current.link), (new.payload, new.link));
            // SAFETY: see above.
            unsafe { x86_64::compare_exchange(pair.0.as_ptr(), old, new) }
        }
    }
}
