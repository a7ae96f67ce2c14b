//! What the table tells about itself, as data: cycles, and who waits for whom.

use core::fmt;

use crate::{Address, Priority, Queue, ThreadId};

/// How many links of a cycle a [`Deadlock`] has room for.
const ROOM: usize = 7;

/// One step of a cycle: `thread` waits for `address`, which the thread of the next step owns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Link {
    /// Who waits.
    pub thread: ThreadId,
    /// For what.
    pub address: Address,
}

/// A wait, or a change of owner, that was refused because it would have closed a cycle: one of waits without time limits, or of any
/// if it was itself a wait with a limit.
///
/// The cycle begins with the thread and the address of the refused wait (of a waiter of the refused owner's address)
/// and each link's address is owned by the thread of the next; that of the last by the thread of the first.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Deadlock {
    links: [Option<Link>; ROOM],
    length: usize,
}

impl Deadlock {
    pub(super) fn new(length: usize) -> Self {
        Self { links: [None; ROOM], length }
    }

    pub(super) fn set(&mut self, place: usize, link: Link) {
        if let Some(slot) = self.links.get_mut(place) {
            *slot = Some(link);
        }
    }

    /// How many threads form the cycle: 1 for a thread that waits for itself.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// The cycle's links in order; the first seven of a longer one.
    pub fn links(&self) -> impl Iterator<Item = Link> + '_ {
        self.links.iter().flatten().copied()
    }
}

impl fmt::Debug for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.links()).finish()
    }
}

impl fmt::Display for Deadlock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deadlock of {} threads:", self.length)?;
        for link in self.links() {
            write!(f, " thread {} waits for {:?}, owned by", link.thread.get(), link.address)?;
        }
        match (self.links().next(), self.length > ROOM) {
            (Some(first), false) => write!(f, " thread {}", first.thread.get()),
            _ => f.write_str(" more threads"),
        }
    }
}

impl core::error::Error for Deadlock {}

/// A waiter, and one of those it waits for: what introspection returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Edge {
    /// Who waits.
    pub thread: ThreadId,
    /// For what.
    pub address: Address,
    /// In which queue.
    pub queue: Queue,
    /// The number that it brought.
    pub token: u64,
    /// At which priority, with what is lent to it.
    pub priority: Priority,
    /// Who owns what it waits for; a waiter has one edge per owner, and a single one with none if there is no owner.
    pub owner: Option<ThreadId>,
    /// How many waits away from the thread that was asked about, beginning with 0.
    pub depth: usize,
}

/// Counts since the table was made, read under its lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Threads that queued.
    pub blocks: u64,
    /// Waiters whose priority changed because of what was lent to their threads, or no longer was.
    pub hops: u64,
    /// Cycles refused.
    pub deadlocks: u64,
    /// Waits ended by their time-out, or before it because they were on a cycle.
    pub time_outs: u64,
    /// Waits ended by [`cancel`](crate::PiTurnstiles::cancel).
    pub cancels: u64,
}
