//! The atomic types and fences that the whole crate is written against.
//!
//! Everything that another thread may see goes through this module, so that a model checker's types can be put in
//! its place without touching the code that uses them.

pub(crate) use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
pub(crate) use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize};

/// A fence that is sequentially consistent: what this thread did before it comes, in the one total order of such
/// fences, before what it does afterwards.
///
/// Both sides of a Dekker pair (write mine, fence, read yours) call this one, instead of leaning on SeqCst accesses,
/// which some model checkers take for mere acquire and release.
#[inline]
pub(crate) fn full_fence() {
    // ORD: SeqCst; each caller names its partner.
    core::sync::atomic::fence(SeqCst);
}
