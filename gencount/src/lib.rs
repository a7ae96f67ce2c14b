//! Generation counting for delayed invalidation: begin, mark, finish, wait.
//!
//! # Protocol
//!
//! A [`Domain`] issues generations: 1, 2, 3 and so on. A thread joins it as a [`Participant`].
//!
//! * **begin** opens a [`Section`] and issues its generation.
//! * **mark** raises a [`GenerationWord`], one for each thing (a page) that the section touches and will have cleaned up by
//!   its finish. Marks are made under the lock of that thing, held exclusively.
//! * **finish** ends the section. The domain's *watermark* reaches a generation when all sections up to it have
//!   finished, in whatever order they do.
//! * **wait** returns when the watermark has reached the word: at once, nearly always.
//!
//! # Guarantee
//!
//! On return from [`wait`](Participant::wait) every section that marked the word before the call has finished, and all that it
//! did happens-before the return. Begin and finish never wait for another section. A waiter is woken by the finish that reaches its
//! generation: no wake-up is lost, and there is no timer.
//!
//! `MODEL.md` numbers these (INV-DI-1 to INV-DI-14), argues for them, and says which test shows each.
//!
//! # Implementations
//!
//! [`Implementation`] lists them; all keep the same contract. A domain fixes its own when it is made, and
//! [`dispatch`] chooses one for those who do not care.
//!
//! # Sources
//!
//! The problem and the names of the counters are those of FreeBSD's amd64 pmap (<https://reviews.freebsd.org/D19630>); the
//! queue of `lockfree` goes back to Timothy Harris, "A pragmatic implementation of
//! non-blocking linked lists" (DISC 2001).
#![no_std]

#[cfg(feature = "alloc")]
extern crate alloc;
#[cfg(any(feature = "std", gencount_loom))]
extern crate std;
// For harnesses that the fuzz targets share.
#[cfg(all(test, feature = "std", not(gencount_loom)))]
extern crate self as gencount;

mod barrier;
#[cfg(not(gencount_loom))]
mod common;
#[cfg(not(gencount_loom))]
mod counters;
#[cfg(not(gencount_loom))]
pub mod dispatch;
#[cfg(not(gencount_loom))]
mod domain;
#[cfg(not(gencount_loom))]
mod fault;
#[cfg(not(gencount_loom))]
mod implementation;
mod lending;
#[cfg(not(gencount_loom))]
mod limit;
#[cfg(not(gencount_loom))]
mod locked;
#[cfg(not(gencount_loom))]
mod lockfree;
#[cfg(not(gencount_loom))]
mod operations;
#[cfg(not(gencount_loom))]
mod participant;
#[cfg(not(gencount_loom))]
mod pool;
mod primitive;
#[cfg(not(gencount_loom))]
mod selection;
mod sharded;
#[cfg(not(gencount_loom))]
mod slot;
mod waiters;
#[cfg(not(gencount_loom))]
mod waiting;
#[cfg(not(gencount_loom))]
mod word;

#[cfg(all(test, feature = "std", not(any(gencount_loom, gencount_shuttle))))]
mod tests;

#[cfg(all(test, gencount_loom))]
mod loom_tests;

#[cfg(all(test, gencount_shuttle))]
mod shuttle_tests;
#[cfg(all(test, feature = "std", not(gencount_loom)))]
#[path = "../tests/world/mod.rs"]
mod world;

#[cfg(not(gencount_loom))]
pub use counters::Counters;
#[cfg(not(gencount_loom))]
pub use domain::{Domain, JoinError};
#[cfg(not(gencount_loom))]
pub use implementation::{Implementation, UnknownImplementation};
#[cfg(not(gencount_loom))]
pub use participant::{Participant, Section};
#[cfg(not(gencount_loom))]
pub use selection::{Dispatch, Dynamic, Locked, Lockfree, Sharded, Static};
#[cfg(not(gencount_loom))]
pub use slot::Slot;
#[cfg(all(feature = "std", not(gencount_loom)))]
pub use turnstile::Hosted;
#[cfg(all(feature = "linux-rt", target_os = "linux", not(gencount_loom)))]
pub use turnstile::LinuxRt;
#[cfg(not(gencount_loom))]
pub use turnstile::{Deadlock, PiTurnstiles, Priority, Scheduler, TableScheduler, ThreadId};
#[cfg(not(gencount_loom))]
pub use word::GenerationWord;

/// The README's examples, compiled and run.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
