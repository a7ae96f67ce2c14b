//! Loom's atomics with constant constructors: locks must have one (`lock_api`), and loom's have none.
//!
//! The atomic is made when it is first used, which has to happen before threads that use it start: loom counts it as a write of whoever makes
//! it. All threads of an execution run on one thread of the host, so it needs no synchronisation of its own.

use std::cell::OnceCell;

macro_rules! lazy {
    ($($name:ident: $int:ty),*) => {$(
        #[derive(Debug)]
        pub(crate) struct $name {
            first: $int,
            atomic: OnceCell<loom::sync::atomic::$name>,
        }

        // SAFETY: loom's threads are coroutines on one thread of the host.
        unsafe impl Sync for $name {}

        impl $name {
            pub(crate) const fn new(first: $int) -> Self {
                Self { first, atomic: OnceCell::new() }
            }
        }

        impl core::ops::Deref for $name {
            type Target = loom::sync::atomic::$name;

            fn deref(&self) -> &Self::Target {
                self.atomic.get_or_init(|| loom::sync::atomic::$name::new(self.first))
            }
        }
    )*};
}
lazy!(AtomicU64: u64, AtomicUsize: usize);
