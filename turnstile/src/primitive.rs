//! The atomic types that the whole crate is written against.
//!
//! Everything that another thread may see goes through this module, so that a model checker's types can be put
//! in its place without touching the code that uses them.

pub(crate) use core::sync::atomic::AtomicU8;
pub(crate) use core::sync::atomic::Ordering::{Acquire, Release};

#[cfg(feature = "std")]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicUsize, Ordering::Relaxed};
