//! The atomic types that the whole crate is written against.
//!
//! Everything that another thread may see goes through this module, so that a model checker's types can be put
//! in its place without touching the code that uses them.

pub(crate) use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
pub(crate) use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};

#[cfg(feature = "std")]
pub(crate) use core::sync::atomic::AtomicPtr;
#[cfg(all(feature = "linux-rt", target_os = "linux"))]
pub(crate) use core::sync::atomic::AtomicU32;
