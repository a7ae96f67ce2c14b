//! An asymmetric fence: one side pays for both.
//!
//! # Protocol
//!
//! A finish of `sharded` is one half of a Dekker pair, and made a million times for each time that its other half, a waiter
//! about to park, is there. So the finish keeps the compiler alone from reordering ([`light_fence`]), and the waiter makes every
//! processor that runs a thread of this process execute a full fence ([`heavy_fence`]): `membarrier(2)` of Linux, private
//! expedited. A thread that does not run meanwhile has one behind it when it runs again.
//!
//! Let the fence that the waiter causes on the finisher's processor fall between two instructions of that. What the finish
//! has written before it is visible to the waiter when the system call returns; and what it reads after it, it reads after the waiter
//! registered. As its write comes before its read, one of the two must be on its right side (INV-DI-8).
//!
//! # The decision
//!
//! Whether the process can do that is decided once and never changes, by a compare-exchange from "undecided". A finish is light
//! only if it reads "light". A waiter decides before it fences, so either it knows that finishes may be light, or none
//! ever is. Both sides are full fences where the system call is missing or refused, on other systems, and without feature `std`.

#[cfg(all(feature = "std", target_os = "linux", not(any(miri, gencount_loom, gencount_shuttle))))]
mod membarrier;
#[cfg(not(all(feature = "std", target_os = "linux", not(any(miri, gencount_loom, gencount_shuttle)))))]
#[path = "none.rs"]
mod membarrier;

use crate::primitive::full_fence;

pub(crate) use membarrier::decide;
#[cfg(not(gencount_loom))]
pub(crate) use membarrier::is_light;

/// The finish's side, if [`is_light`]. Loom knows no fence that others execute: there it is a full one.
#[inline]
pub(crate) fn light_fence() {
    #[cfg(gencount_loom)]
    full_fence();
    #[cfg(not(gencount_loom))]
    // ORD: SeqCst, for the compiler alone; the partner is `heavy_fence`.
    crate::primitive::compiler_fence(crate::primitive::SeqCst);
}

/// The waiter's side: between what this thread did before and what it does after, every other thread of the process has
/// executed a full fence, and so has this one.
pub(crate) fn heavy_fence() {
    if decide() {
        membarrier::barrier();
    } else {
        full_fence();
    }
}
