//! The atomic types and hints that the whole crate is written against.
//!
//! Everything that a model checker replaces goes through this module and nothing else in the crate names
//! `core::sync::atomic` or `portable_atomic`. `--cfg dcas_queue_loom` and `--cfg dcas_queue_shuttle` swap the checkers
//! in: pairs then take the portable form, over a 16-byte cell that the checker schedules and remembers (`checked`).
//! The cfgs are this crate's own, so that a crate which checks itself under loom has an ordinary queue.

#[cfg(any(dcas_queue_loom, dcas_queue_shuttle))]
mod checked;

#[cfg(any(dcas_queue_loom, dcas_queue_shuttle))]
pub(crate) use checked::{AtomicU128, spin_loop};

#[cfg(not(any(dcas_queue_loom, dcas_queue_shuttle)))]
pub(crate) use core::hint::spin_loop;
#[cfg(all(
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(any(dcas_queue_fallback, dcas_queue_loom, dcas_queue_shuttle, miri))
))]
pub(crate) use core::sync::atomic::AtomicU8;
pub(crate) use core::sync::atomic::Ordering;
#[cfg(not(any(dcas_queue_loom, dcas_queue_shuttle)))]
pub(crate) use portable_atomic::AtomicU128;

/// Declares a constructor that is `const` wherever the atomics' are: everywhere but under a model checker.
macro_rules! constructor {
    ($(#[$meta:meta])* pub fn new($($argument:ident: $type:ty)?) -> Self $body:block) => {
        #[cfg(not(any(dcas_queue_loom, dcas_queue_shuttle)))]
        $(#[$meta])*
        pub const fn new($($argument: $type)?) -> Self $body

        #[cfg(any(dcas_queue_loom, dcas_queue_shuttle))]
        $(#[$meta])*
        pub fn new($($argument: $type)?) -> Self $body
    };
}
pub(crate) use constructor;
