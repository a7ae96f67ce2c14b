//! The atomic types that the whole crate is written against.
//!
//! Everything that another thread may see goes through this module, so that a model checker's types can be put
//! in its place without touching the code that uses them: `--cfg turnstile_loom` and `--cfg turnstile_shuttle` do that. The cfgs are this
//! crate's own, so that a crate which checks itself under loom has ordinary turnstiles.

#[cfg(turnstile_loom)]
mod lazy;

#[cfg(not(any(turnstile_loom, turnstile_shuttle)))]
pub(crate) use core::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};
#[cfg(turnstile_loom)]
pub(crate) use lazy::{AtomicU64, AtomicUsize};
#[cfg(turnstile_loom)]
pub(crate) use loom::sync::atomic::AtomicU8;
#[cfg(turnstile_shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize};

pub(crate) use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};

#[cfg(any(feature = "simulated", all(test, feature = "std")))]
pub(crate) use core::sync::atomic::AtomicBool;
#[cfg(feature = "std")]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU32};

#[cfg(all(any(turnstile_loom, turnstile_shuttle), feature = "std"))]
compile_error!("the checkers replace the host's threads: build with --no-default-features");
