//! The two kinds of records that a table links together: waiters, and holds.

use core::cell::Cell;
use core::ptr::NonNull;

use super::Ending;
use super::list::{Linked, Links};
use crate::primitive::{Acquire, AtomicU8, Release};
use crate::{Address, Priority, Queue, ThreadId};

/// Linked in the table, or about to be; `Waiter::state`.
const WAITING: u8 = 0;
/// Taken off by a waker; `Waiter::state`.
const WOKEN: u8 = 1;
/// Taken off by somebody who cancelled the wait; `Waiter::state`.
const CANCELLED: u8 = 2;
/// Taken off before its time limit, which was on a cycle; `Waiter::state`.
const TIMED_OUT: u8 = 3;

/// The list of those who wait in one bucket of addresses, and of the holds there.
pub(super) enum ByAddress {}
/// The list of the waiters, and of the holds, whose owner is in one bucket of threads.
pub(super) enum ByOwner {}
/// The list of the waiters whose thread is in one bucket of threads.
pub(super) enum ByThread {}

/// A blocked thread's record, on its stack. All but `state` is written and read under the table's lock.
pub(super) struct Waiter {
    pub(super) address: Address,
    pub(super) queue: Queue,
    pub(super) token: u64,
    pub(super) thread: ThreadId,
    /// Whether the wait would end by itself, at a time limit.
    pub(super) is_limited: bool,
    /// The thread's own priority or what is lent to it, whichever is larger: its rank in the queue, and what it lends.
    pub(super) priority: Cell<Priority>,
    pub(super) arrival: Cell<u64>,
    pub(super) owner: Cell<Option<ThreadId>>,
    by_address: Links<Waiter>,
    by_owner: Links<Waiter>,
    by_thread: Links<Waiter>,
    /// The next in the queue of work of a propagation or a search, and whether this one is in it.
    pub(super) work: Cell<Option<NonNull<Waiter>>>,
    pub(super) has_work: Cell<bool>,
    /// The last search that came by, and from where.
    pub(super) seen: Cell<u64>,
    pub(super) came_from: Cell<Option<NonNull<Waiter>>>,
    pub(super) depth: Cell<usize>,
    state: AtomicU8,
}

impl Waiter {
    pub(super) fn new(
        address: Address,
        queue: Queue,
        token: u64,
        thread: ThreadId,
        is_limited: bool,
    ) -> Self {
        Self {
            address,
            queue,
            token,
            thread,
            is_limited,
            priority: Cell::new(Priority::LOWEST),
            arrival: Cell::new(0),
            owner: Cell::new(None),
            by_address: Links::new(),
            by_owner: Links::new(),
            by_thread: Links::new(),
            work: Cell::new(None),
            has_work: Cell::new(false),
            seen: Cell::new(0),
            came_from: Cell::new(None),
            depth: Cell::new(0),
            state: AtomicU8::new(WAITING),
        }
    }

    /// How the wait was ended by another thread, if it was. Nobody else touches the waiter after that.
    #[inline]
    pub(super) fn ended(&self) -> Option<Ending> {
        // ORD: pairs with the Release store in `end`, so that what the waker did is visible (INV-L-1).
        match self.state.load(Acquire) {
            WAITING => None,
            WOKEN => Some(Ending::Woken),
            CANCELLED => Some(Ending::Cancelled),
            _ => Some(Ending::TimedOut),
        }
    }

    /// Ends the wait of a waiter that has been unlinked; it may be gone as soon as this returns.
    pub(super) fn end(&self, ending: Ending) {
        let state = match ending {
            Ending::Woken | Ending::NotBlocked => WOKEN,
            Ending::Cancelled => CANCELLED,
            Ending::TimedOut => TIMED_OUT,
        };
        // ORD: pairs with `ended`; the table touches nothing of the waiter after this store (INV-L-1).
        self.state.store(state, Release);
    }
}

impl Linked<ByAddress> for Waiter {
    fn links(&self) -> &Links<Self> {
        &self.by_address
    }
}

impl Linked<ByOwner> for Waiter {
    fn links(&self) -> &Links<Self> {
        &self.by_owner
    }
}

impl Linked<ByThread> for Waiter {
    fn links(&self) -> &Links<Self> {
        &self.by_thread
    }
}

/// One of several owners' share in an address: a reader's, or that of one who must come to an end before others go on.
///
/// The record belongs to whoever provides the memory, usually the owner. While it is [registered](crate::Locked::hold), every
/// waiter at its address whose token is at least its *level* lends to its owner.
#[derive(Default)]
pub struct Hold {
    pub(super) owner: Cell<Option<ThreadId>>,
    pub(super) address: Cell<Option<Address>>,
    pub(super) level: Cell<u64>,
    by_address: Links<Hold>,
    by_owner: Links<Hold>,
}

// SAFETY: the cells are touched under the lock of the one table that the hold is used with: every function that takes
// a hold asks for that in its `# Safety`.
unsafe impl Sync for Hold {}
// SAFETY: it may not be moved while it is registered; an unregistered one points nowhere.
unsafe impl Send for Hold {}

impl Hold {
    /// A hold that is not registered.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            owner: Cell::new(None),
            address: Cell::new(None),
            level: Cell::new(0),
            by_address: Links::new(),
            by_owner: Links::new(),
        }
    }
}

impl core::fmt::Debug for Hold {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        // The fields need the table's lock.
        f.debug_struct("Hold").finish_non_exhaustive()
    }
}

impl Linked<ByAddress> for Hold {
    fn links(&self) -> &Links<Self> {
        &self.by_address
    }
}

impl Linked<ByOwner> for Hold {
    fn links(&self) -> &Links<Self> {
        &self.by_owner
    }
}
