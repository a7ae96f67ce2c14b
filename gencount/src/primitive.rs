//! The atomic types and fences that the whole crate is written against.
//!
//! Everything that another thread may see goes through this module, so that a model checker's types can be put in
//! its place without touching the code that uses them: `--cfg gencount_loom` and `--cfg gencount_shuttle` do that. The cfgs are this
//! crate's own: a program that checks itself under loom has an ordinary `gencount`.

#[cfg(not(any(gencount_loom, gencount_shuttle)))]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, compiler_fence, fence,
};
#[cfg(gencount_loom)]
pub(crate) use loom::sync::atomic::{AtomicU64, AtomicUsize, fence};
#[cfg(gencount_shuttle)]
pub(crate) use shuttle::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, compiler_fence, fence,
};

#[cfg(not(gencount_loom))]
pub(crate) use core::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
#[cfg(gencount_loom)]
pub(crate) use loom::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};

/// A fence that is sequentially consistent: what this thread did before it comes, in the one total order of such
/// fences, before what it does afterwards.
///
/// Both sides of a Dekker pair (write mine, fence, read yours) call this one or one of the two below, instead of leaning
/// on SeqCst accesses, which some model checkers take for mere acquire and release.
#[inline]
pub(crate) fn full_fence() {
    // ORD: SeqCst; each caller names its partner.
    fence(SeqCst);
}

/// The fence of a Dekker pair all of whose accesses are SeqCst: the total order of those accesses already is what
/// the fence is for, on every machine. Under loom, which takes them for AcqRel, it is a [`full_fence`]; elsewhere
/// it costs no instruction.
#[inline]
pub(crate) fn fence_between_seqcst() {
    #[cfg(gencount_loom)]
    full_fence();
    #[cfg(not(gencount_loom))]
    // ORD: SeqCst, for the compiler alone; the accesses on both sides are SeqCst, see the callers.
    compiler_fence(SeqCst);
}

/// A [`full_fence`] behind an operation that changed a [`dcas_queue`] pair.
///
/// Where pairs are changed by locked instructions in inline assembly, that instruction is the fence: no later load of
/// its processor is performed before it (Intel SDM Vol. 3A, 10.2.3.9; AMD APM Vol. 2, 7.4.2), and the assembly lets the
/// compiler move nothing across. Only a barrier for the compiler remains then.
#[inline]
pub(crate) fn fence_after_pair() {
    // Without Miri's, the checkers' and the fallback's detour, "lock-free" on this architecture means the assembly.
    #[cfg(not(gencount_loom))]
    if cfg!(all(target_arch = "x86_64", target_pointer_width = "64", not(miri)))
        && dcas_queue::pair::is_lock_free()
    {
        // ORD: SeqCst, for the compiler alone; the locked instruction before it orders the processor.
        compiler_fence(SeqCst);
        return;
    }
    full_fence();
}
