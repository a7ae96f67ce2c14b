//! A lock-free intrusive queue whose link and 64-bit payload change together, in one double-width compare-exchange.
//!
//! Tickets are issued in order and completed out of order; somebody needs to know up to which ticket *everything* is
//! complete. That is the oldest active snapshot of a database, the completed prefix of a write-ahead log, the
//! committed offset of a consumer, the delayed invalidation of TLBs in a kernel. [`Queue`] answers with one load.
//!
//! # The protocol
//! The head and every node are one pair `(payload, link)`, 16 bytes.
//!
//! ```text
//!   head            A               B               C
//!  ( 4 | ->A ) --> ( 5 | ->B ) --> ( 7 | ->C ) --> ( 8 | null )
//! ```
//!
//! * [`append`](Queue::append) walks to the tail, prepares its node with the payload *tail + n*, and links it by a
//!   compare-exchange on the tail.
//! * [`remove`](Queue::remove) marks its node, and by a compare-exchange on the predecessor replaces both words there:
//!   the link skips the node, and the payload becomes the node's. Removing `B` above makes `A` `( 7 | ->C )`;
//!   removing `A` then makes the head `( 7 | ->C )`.
//!
//! A payload is handed towards the head as nodes go, so the head's payload, the *watermark*, is always the largest
//! payload of a completed prefix. Four things hold at all times, and are checked exhaustively (see below):
//!
//! 1. Payloads strictly increase along the queue.
//! 2. The largest payload ever issued is at the tail or, with the queue empty, at the head.
//! 3. The watermark reaches `g` only when every node that was issued `g` or less has been removed.
//! 4. Append and remove are lock-free: a thread stopped anywhere, for ever, holds nobody up.
//!
//! # Why it works
//! The queue descends from T. L. Harris, "A Pragmatic Implementation of Non-Blocking Linked-Lists" (DISC 2001): a mark in a
//! node's own link freezes it, and whoever meets a marked node finishes its removal. A payload beside each link adds
//! what Harris's list has no need of, and also takes the place of a reclamation scheme inside the walk:
//!
//! * *A payload is a stay.* A node's payload never goes down in its whole life, and each stay in the queue begins above
//!   the last. A compare-exchange on a pair compares its payload, so it succeeds only in the stay in which the
//!   pair was read, however often the node was removed and appended in between.
//! * *Two plain loads read a pair.* They may be torn, but then the compare-exchange fails, since it compares both
//!   halves. Payload first, then link: the other order can pair a link of an earlier stay with a payload of a later one.
//! * *Hand over hand.* After the next node's words, the walk reads the predecessor's link and payload again. Unchanged, they
//!   prove that the next node was in the queue when it was read; from then on its payload protects it.
//! * *Payload before link, again, in preparation.* The owner raises the payload while the old mark is still set. So
//!   nobody who trusts the earlier payload ever sees this node unmarked.
//! * *The mark freezes.* Only a payload read after the mark was seen is donated; before it, a donation from
//!   behind may still arrive.
//!
//! An append costs one locked instruction, a remove two, when nothing comes in between. Both walk from the head, so their
//! cost grows with the number of open sections before them; that is the price of having no tail pointer to
//! maintain.
//!
//! # Memory
//! Nodes are the caller's, there is no allocation, and a walker may read a node that was just removed. So the memory of
//! nodes is *type-stable*: it stays what it is as long as any operation may run. Statics, a slab that is never freed, or
//! one node per thread or CPU are natural. See [`Queue`], "Safety of the operations".
//!
//! Programs with an allocator need none of that: the module `safe` has owned nodes that end by `Drop` and are reclaimed through
//! crossbeam-epoch (features `alloc` and `std`, the latter on by default). The module `uses` shows three programs with it. The core is
//! there for kernels, and for whoever embeds nodes in what they already have.
//!
//! # Example: the core, in statics
//! A multi-version store may drop a version when no running transaction can still see it. Each transaction takes a
//! number, and may end in any order.
//!
//! ```
//! use core::num::NonZeroU64;
//! use dcas_queue::{Node, Queue};
//!
//! static ACTIVE: Queue = Queue::new(0);
//! // One slot per worker. Statics are type-stable, and this queue is the only one that they are ever in.
//! static SLOTS: [Node; 3] = [const { Node::new() }; 3];
//! const NEXT: NonZeroU64 = NonZeroU64::MIN;
//!
//! # fn main() -> Result<(), dcas_queue::Overflow> {
//! // SAFETY: type-stable, one queue, and here one thread; each slot is idle when it is appended.
//! let report = unsafe { ACTIVE.append(&SLOTS[0], NEXT, ()) }?;
//! // SAFETY: as above.
//! let update = unsafe { ACTIVE.append(&SLOTS[1], NEXT, ()) }?;
//! assert_eq!((report, update), (1, 2));
//!
//! // The update commits, but the report still runs: nothing may be dropped.
//! // SAFETY: as above; the slot is in the queue.
//! unsafe { ACTIVE.remove(&SLOTS[1], ()) };
//! assert_eq!(ACTIVE.watermark(), 0);
//!
//! // The report ends. All transactions up to 2 have ended, in one load.
//! // SAFETY: as above.
//! unsafe { ACTIVE.remove(&SLOTS[0], ()) };
//! assert_eq!(ACTIVE.watermark(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! # What was checked, and how
//! `MODEL.md` numbers the invariants, and says which test covers which. The algorithm was searched state by state (up
//! to three threads), and the code compared with the searched model step by step; rules of the algorithm taken away one by
//! one were noticed. [`Observer`] and [`Step`] are the hooks that make this possible, and are yours to use.
#![no_std]

#[cfg(all(feature = "alloc", not(any(dcas_queue_loom, dcas_queue_shuttle))))]
extern crate alloc;
#[cfg(any(test, feature = "std"))]
extern crate std;

mod append;
mod backoff;
mod mutation;
mod node;
mod observer;
pub mod pair;
mod primitive;
mod queue;
// Its collector is not one that a checker could schedule.
#[cfg(all(feature = "alloc", not(any(dcas_queue_loom, dcas_queue_shuttle))))]
pub mod safe;
mod snapshot;
#[cfg(all(any(doc, doctest), feature = "std"))]
pub mod uses;
mod walk;

#[cfg(feature = "mutations")]
pub use mutation::Mutation;
pub use node::Node;
pub use observer::{LONGEST_BACKOFF, Observer, Operation, Step};
pub use queue::{Overflow, Queue, Removed};
pub use snapshot::{Entry, Snapshot};

/// The README's examples compile and run.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;
