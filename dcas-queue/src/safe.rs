//! The safe layer: owned nodes, removed by `Drop`, their memory reclaimed through crossbeam-epoch.
//!
//! | type | is |
//! |---|---|
//! | [`Tracker`] | the queue: issues tickets, knows the watermark |
//! | [`Ticket`] | one open section with a node of its own, to be moved to wherever the work ends |
//! | [`Slot`] | a node to be used again and again, for a worker's hot path: no allocation per section |
//! | [`Section`] | one open section of a slot |
//!
//! # What safe code cannot break
//! * *A node offered to a second queue:* nodes have no name here. A slot borrows the tracker that it was made by, and all it
//!   does it does there, also after [`mem::swap`](core::mem::swap).
//! * *[`mem::forget`](core::mem::forget) of a ticket or section:* the section never ends, so the watermark stops below it for ever, and its
//!   node stays linked until the tracker is dropped, which frees it. Nothing dangles: only `Drop` gives a node's memory back,
//!   and only after the node was unlinked. A slot whose section was forgotten takes a new node.
//! * *Panics:* a section that unwinds ends, like any other; no code of the caller's runs inside an operation.
//! * *Threads that exit while others walk:* nodes are on the heap. A removed node is handed to the collector, which
//!   frees it when no walk that began before the removal can still run (INV-S-1). Tickets may be dropped while a thread's
//!   thread-local values are.
//! * *A tracker that goes away:* tickets and slots borrow it.
//!
//! # Progress
//! As the core's: a thread stopped anywhere holds nobody else up (INV-Q-4). It may hold back *memory*: while it stands inside an
//! operation, removed nodes are collected but not freed. With a slot per worker, that is one node per slot dropped.
//!
//! # With and without `std`
//! With the feature `std` all trackers share the process's default collector, whose handles are thread-local;
//! [`Tracker::new`] is `const`, and tickets and slots are [`Send`]. With `alloc` alone each tracker has
//! a collector, each ticket and slot registers with it when it is made (one more allocation, one more compare-exchange), and neither
//! is `Send`. [`Slot`]s make that cheap.
//!
//! # Example
//! ```
//! # fn main() -> Result<(), dcas_queue::Overflow> {
//! use dcas_queue::safe::{ONE, Tracker};
//!
//! let tracker = Tracker::new(0);
//! let first = tracker.append(ONE)?;
//! let second = tracker.append(ONE)?;
//! assert_eq!((first.end(), second.end()), (1, 2));
//! drop(second);
//! assert_eq!(tracker.watermark(), 0, "the first is still open");
//! drop(first);
//! assert!(tracker.is_complete(2));
//! # Ok(())
//! # }
//! ```
//!
//! # What the types refuse
//! A ticket does not outlive its tracker:
//! ```compile_fail,E0505
//! use dcas_queue::safe::{ONE, Tracker};
//! let tracker = Tracker::new(0);
//! let ticket = tracker.append(ONE).unwrap();
//! drop(tracker);
//! drop(ticket);
//! ```
//! A slot has one section at a time:
//! ```compile_fail,E0499
//! use dcas_queue::safe::{ONE, Tracker};
//! let tracker = Tracker::new(0);
//! let mut slot = tracker.slot();
//! let one = slot.append(ONE).unwrap();
//! let two = slot.append(ONE).unwrap();
//! drop(one);
//! ```
//! A ticket ends once:
//! ```compile_fail,E0382
//! use dcas_queue::safe::{ONE, Tracker};
//! let tracker = Tracker::new(0);
//! let ticket = tracker.append(ONE).unwrap();
//! ticket.complete();
//! ticket.complete();
//! ```

mod node;
mod slot;
mod ticket;
mod tracker;

#[cfg(test)]
mod tests;

use core::num::NonZeroU64;

pub use slot::{Section, Slot};
pub use ticket::Ticket;
pub use tracker::Tracker;

/// The step of a tracker that counts sections: `append(ONE)`.
pub const ONE: NonZeroU64 = NonZeroU64::MIN;
