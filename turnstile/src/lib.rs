//! Blocking on an address, in priority order, with a pluggable scheduler.
//!
//! A thread that cannot go on blocks on the *address* of what it waits for; whoever makes that available wakes by the
//! same address. The queues lie in a table ([`Turnstiles`]), hashed by address, so what is waited for needs no room for
//! them; a waiter lies on the stack of its thread, so nothing is ever allocated.
//!
//! # Protocol
//!
//! 1. The waiter sees that it cannot go on, and calls [`Turnstiles::block`] with a re-check.
//! 2. Under the chain lock the re-check runs again; if it still says "blocked", the waiter is linked, by priority, then by
//!    arrival. The lock is released and the thread parks.
//! 3. The waker makes the condition true, *then* takes the chain lock, takes waiters off, and unparks them after it
//!    has released the lock.
//!
//! # Guarantee
//!
//! No wake-up is lost; the order of wake-ups is priority, then arrival; spurious returns of the scheduler's park are not
//! passed on. `MODEL.md` numbers these (INV-T-1 to INV-T-8) and says which test shows each.
//!
//! # Lending
//!
//! In a [`PiTurnstiles`] the waiters lend their priority to whoever owns what they wait for, through chains of blocked owners, and the
//! loans are recomputed whenever something changes (INV-L-1 to INV-L-8). [`RawPiMutex`] and
//! [`RawPiRwLock`] are locks on it.
//!
//! # Schedulers
//!
//! Parking, waking and priorities come from a [`Scheduler`]: a kernel's, a simulator's, or with feature `std` the hosted
//! one, `Hosted`. Its [`point`](Scheduler::point) lets a simulated scheduler switch threads at every access to shared
//! memory. With feature `simulated` there is one for tests, `simulated::Machine`.
#![no_std]

#[cfg(feature = "conformance")]
extern crate alloc;
#[cfg(any(feature = "std", test, turnstile_loom))]
extern crate std;
// The sources below `tests/` that the unit tests include name the crate as users do.
#[cfg(test)]
extern crate self as turnstile;

#[cfg(feature = "conformance")]
pub mod conformance;
mod fault;
mod forward;
#[cfg(feature = "std")]
mod hosted;
#[cfg(all(test, any(turnstile_loom, turnstile_shuttle)))]
mod interleavings;
mod lending;
#[cfg(all(feature = "linux-rt", target_os = "linux"))]
mod linux;
mod locks;
mod parker;
mod primitive;
mod scheduler;
#[cfg(any(feature = "simulated", all(test, feature = "std")))]
pub mod simulated;
mod table;
mod waiter;

#[cfg(feature = "std")]
pub use hosted::{Hosted, HostedParker, RawParkingMutex};
pub use lending::{
    Deadlock, Decision, Edge, Ending, Hold, LendingScheduler, Link, Locked, PiTurnstiles, Statistics,
    TableScheduler, TimedScheduler, Waiting,
};
#[cfg(all(feature = "linux-rt", target_os = "linux"))]
pub use linux::{FutexParker, LinuxRt, MissingCapability, Policy, RawFutexPiMutex};
pub use locks::{LockScheduler, RawPiMutex, RawPiRwLock, ReadHolds, ReaderScheduler, Share};
pub use parker::Parker;
pub use scheduler::{Priority, Scheduler, ThreadId};
pub use table::{Address, Outcome, Queue, Turnstiles, Woken};

/// The README's examples, compiled.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
