//! Three uses outside kernels, each a program that runs.
//!
//! What they share: numbers are issued in order, the work behind them ends in any order, and somebody needs the
//! largest number up to which *everything* has ended. All three use the [safe layer](crate::safe); the intrusive core
//! does the same where there is no allocator.
//!
//! # The oldest active snapshot
//! A multi-version store keeps old versions of a row as long as a transaction may still read them. A transaction that
//! holds the ticket `t` reads what was committed before it began. A commit takes a number of its own at that moment, under the lock of the
//! versions, so whoever may still read the version that it supersedes has a smaller number; that version can go as
//! soon as all transactions up to the commit's number have ended. The garbage collector asks once per sweep, and that costs one load.
//!
//! ```
//! use std::collections::BTreeMap;
//! use std::sync::Mutex;
//!
//! use dcas_queue::safe::{ONE, Tracker};
//!
//! static TRANSACTIONS: Tracker = Tracker::new(0);
//!
//! /// Versions that were replaced, by the number of the commit that did so.
//! static SUPERSEDED: Mutex<BTreeMap<u64, &str>> = Mutex::new(BTreeMap::new());
//!
//! fn sweep() -> Vec<&'static str> {
//!     let mut superseded = SUPERSEDED.lock().expect("no panic while held");
//!     let keep = superseded.split_off(&(TRANSACTIONS.watermark() + 1));
//!     std::mem::replace(&mut *superseded, keep).into_values().collect()
//! }
//!
//! # fn main() -> Result<(), dcas_queue::Overflow> {
//! let report = TRANSACTIONS.append(ONE)?;
//! {
//!     let mut superseded = SUPERSEDED.lock().expect("no panic");
//!     let commit = TRANSACTIONS.append(ONE)?;
//!     superseded.insert(commit.end(), "the old balance");
//! }
//!
//! // The report began before the commit and may still read the old balance.
//! assert!(sweep().is_empty());
//! drop(report);
//! assert_eq!(sweep(), ["the old balance"]);
//! # Ok(())
//! # }
//! ```
//!
//! # Completion of a write-ahead log
//! Writers reserve room in a log, fill it, and their writes reach the disk in any order. A transaction is durable when
//! everything up to its log sequence number (LSN) is. [`append(n)`](crate::safe::Tracker::append) reserves `n` bytes: the ticket says which,
//! and the watermark is the durable LSN.
//!
//! ```
//! use std::num::NonZeroU64;
//! use std::thread;
//!
//! use dcas_queue::safe::{Ticket, Tracker};
//!
//! /// Stands for the disk: writes these bytes at the ticket's place, and lets the ticket go when they are durable.
//! fn write(room: Ticket<'_>, bytes: &[u8]) {
//!     assert_eq!(room.end() - room.start(), bytes.len() as u64);
//!     // Seek to `room.start()`, write, flush.
//!     room.complete();
//! }
//!
//! # fn main() -> Result<(), dcas_queue::Overflow> {
//! // Recovery found 4096 bytes in the log.
//! let log = Tracker::new(4096);
//! let reserve = |bytes: &[u8]| log.append(NonZeroU64::new(bytes.len() as u64).expect("a record is not empty"));
//!
//! let (begin, commit) = (b"begin 7; set x = 1".as_slice(), b"commit 7".as_slice());
//! let first = reserve(begin)?;
//! let second = reserve(commit)?;
//! let committed_at = second.end();
//! assert_eq!((first.start(), second.start()), (4096, 4096 + 18));
//!
//! // The commit record is on the disk first. Alone it is worth nothing.
//! write(second, commit);
//! assert!(!log.is_complete(committed_at));
//! assert_eq!(log.watermark(), 4096);
//!
//! // Another thread finishes the first write.
//! thread::scope(|scope| {
//!     scope.spawn(move || write(first, begin));
//! });
//! assert!(log.is_complete(committed_at), "now the transaction may be acknowledged");
//! # Ok(())
//! # }
//! ```
//!
//! # A consumer's committed offset
//! A consumer takes messages of a partition in order, hands them to workers, and commits one offset: after a
//! crash it reads again from there. The offset that may be committed is the one before the first message that is not yet
//! handled, and a handler that panics or forgets its ticket must not lose a message.
//!
//! ```
//! use std::mem;
//! use std::sync::mpsc;
//! use std::thread;
//!
//! use dcas_queue::safe::{ONE, Ticket, Tracker};
//!
//! /// A message is handled when its ticket is dropped; keep it where the outcome is decided.
//! fn handle(offset: Ticket<'_>, message: &str) {
//!     if message == "poison" {
//!         // Not handled, so not to be committed: without its `Drop` a ticket stays open.
//!         mem::forget(offset);
//!     }
//! }
//!
//! # fn main() -> Result<(), dcas_queue::Overflow> {
//! // Offsets up to 100 were committed before.
//! let partition = Tracker::new(100);
//! thread::scope(|scope| {
//!     let workers: Vec<_> = (0..2)
//!         .map(|_| {
//!             let (sender, messages) = mpsc::channel();
//!             scope.spawn(move || messages.into_iter().for_each(|(offset, message)| handle(offset, message)));
//!             sender
//!         })
//!         .collect();
//!     for (i, message) in ["a", "b", "c", "poison", "d", "e"].into_iter().enumerate() {
//!         let offset = partition.append(ONE)?;
//!         workers[i % 2].send((offset, message)).expect("workers outlive the consumer");
//!     }
//!     Ok(())
//! })?;
//! // 104 was not handled; 105 and 106 were, but a restart must come back for 104.
//! assert_eq!(partition.watermark(), 103);
//! # Ok(())
//! # }
//! ```
//! A consumer with a fixed set of workers gives each a [`Slot`](crate::safe::Slot) and appends on its behalf, or lets the
//! worker itself append in the order in which it takes messages; that saves an allocation per message.
