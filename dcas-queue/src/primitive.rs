//! The atomic types and hints that the whole crate is written against.
//!
//! Everything that a model checker would replace goes through this module and nothing else in the crate names
//! `core::sync::atomic` or `portable_atomic`. Swapping the checker in is then a change of one file.

pub(crate) use core::hint::spin_loop;
#[cfg(all(target_arch = "x86_64", target_pointer_width = "64", not(dcas_queue_fallback), not(miri)))]
pub(crate) use core::sync::atomic::AtomicU8;
pub(crate) use core::sync::atomic::Ordering;
pub(crate) use portable_atomic::AtomicU128;
