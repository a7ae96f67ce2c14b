//! How a domain finds its implementation: at run time, or when the program is compiled.

use turnstile::TableScheduler;

use crate::common::Common;
use crate::implementation::Implementation;
use crate::slot::Slot;
use crate::{locked, lockfree, sharded};

/// How a [`Domain`](crate::Domain) finds its implementation: the type parameter of domains, participants and sections.
///
/// [`Dynamic`] is the default: the domain is made with an [`Implementation`], and begin and finish are each one
/// indirect call that the processor predicts. With [`Locked`], [`Lockfree`] or [`Sharded`] the program is compiled for one
/// implementation, and calls it directly; all else is the same code.
///
/// These four are all that there are.
pub trait Dispatch: sealed::ShortPaths + Send + Sync + 'static {}

/// A [`Dispatch`] that is decided when the program is compiled.
pub trait Static: Dispatch {
    /// The implementation.
    const IMPLEMENTATION: Implementation;
}

/// The implementation is chosen when the domain is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dynamic {}

mod sealed {
    use super::{Common, Slot, TableScheduler};

    /// What is called directly, or through the table of the domain.
    pub trait ShortPaths {
        /// # Safety
        ///
        /// As [`Operations::begin`](crate::operations::Operations::begin).
        unsafe fn begin<S: TableScheduler>(domain: &Common<S>, slot: &Slot) -> u64;
        /// # Safety
        ///
        /// As [`Operations::finish`](crate::operations::Operations::finish).
        unsafe fn finish<S: TableScheduler>(domain: &Common<S>, slot: &Slot);
        fn watermark<S: TableScheduler>(domain: &Common<S>) -> u64;
    }
}

impl Dispatch for Dynamic {}

impl sealed::ShortPaths for Dynamic {
    #[inline]
    unsafe fn begin<S: TableScheduler>(domain: &Common<S>, slot: &Slot) -> u64 {
        // SAFETY: the caller's promise.
        unsafe { (domain.operations.begin)(domain, slot) }
    }

    #[inline]
    unsafe fn finish<S: TableScheduler>(domain: &Common<S>, slot: &Slot) {
        // SAFETY: the caller's promise.
        unsafe { (domain.operations.finish)(domain, slot) }
    }

    #[inline]
    fn watermark<S: TableScheduler>(domain: &Common<S>) -> u64 {
        domain.watermark()
    }
}

macro_rules! fixed {
    ($($name:ident: $module:ident),+) => {
        $(
            #[doc = concat!("[`Implementation::", stringify!($name), "`], when the program is compiled.")]
            #[derive(Clone, Copy, PartialEq, Eq, Debug)]
            pub enum $name {}

            impl Dispatch for $name {}

            impl Static for $name {
                const IMPLEMENTATION: Implementation = Implementation::$name;
            }

            impl sealed::ShortPaths for $name {
                #[inline]
                unsafe fn begin<S: TableScheduler>(domain: &Common<S>, slot: &Slot) -> u64 {
                    // SAFETY: the caller's promise.
                    unsafe { $module::begin(domain, slot) }
                }

                #[inline]
                unsafe fn finish<S: TableScheduler>(domain: &Common<S>, slot: &Slot) {
                    // SAFETY: the caller's promise.
                    unsafe { $module::finish(domain, slot) }
                }

                #[inline]
                fn watermark<S: TableScheduler>(domain: &Common<S>) -> u64 {
                    $module::watermark(domain)
                }
            }
        )+
    };
}

fixed!(Locked: locked, Lockfree: lockfree, Sharded: sharded);
