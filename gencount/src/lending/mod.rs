//! Waiters lend their priority to the threads whose sections they wait for.
//!
//! # Protocol
//!
//! Waiters wait in the one table of their scheduler. Under its lock, before it queues, a waiter for generation g finds the
//! open sections that hold it up, and registers a `Hold` for each, in the section's slot: at the domain's wait address, for the
//! slot's owner, at the section's *level*. Everybody who waits for a generation of at least that level lends to that owner from
//! then on, those who come later included; and the table passes it on, if the owner is blocked itself.
//!
//! | implementation | level of a section |
//! |---|---|
//! | `locked` | one above the older neighbour's generation, or above the watermark: the generation that was issued |
//! | `lockfree` | one above the predecessor's payload: the generation that was issued. The node's own payload may have grown |
//! | `sharded` | the reading that is published: at most the generation |
//!
//! A hold stays until its section finishes: as long as that is open, whoever waits for its level or above is held up by it.
//! What each waiter lends ends when its wait does; that is the table's affair.
//!
//! # Who takes it back (INV-DI-12)
//!
//! The finish of the section does, in every case. The lender *L* (a waiter, or a finish that leaves waiters behind) and the
//! finisher *F* make these steps:
//!
//! | L | F |
//! |---|---|
//! | a waiter is in the waiter count; full fence | closes its section; full fence |
//! | takes the table's lock | reads the waiter count (Acquire) |
//! | finds the section open | reads its loan word |
//! | registers the hold, sets the loan word, unlocks | if either is set: takes the lock, releases the hold, clears the word |
//! | the waiter leaves the count (Release) | |
//!
//! The first two lines are the Dekker pair of INV-DI-8: as L finds the section open, F's reading of the count comes after the
//! waiter entered it. So F reads a count above 0 and takes the lock, after L; or the waiter has left the count again, and
//! F's Acquire makes the word visible. L need not look a second time, and F cannot return from its finish, let alone leave the
//! domain or open its next section, as long as L holds the lock: the owner that L reads is the section's.

pub(crate) mod word;

#[cfg(not(gencount_loom))]
mod holds;
#[cfg(not(gencount_loom))]
pub(crate) use holds::Lending;
