//! The atomics that the coherence protocols are written against.
//!
//! `tests/loom.rs` compiles those protocols a second time, with this module replaced by one on loom's types.

pub(crate) use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
