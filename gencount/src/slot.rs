//! What a participant owns in its domain: a place in the queue, and a line of private state.

use core::cell::UnsafeCell;
use core::fmt;
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;
use dcas_queue::Node;

use crate::counters::OwnCounters;
use crate::locked::Links;
use crate::pool::Membership;
use crate::primitive::{AtomicBool, AtomicU64, AtomicUsize};
use crate::sharded::protocol::Published;

/// The memory behind one participant.
///
/// With feature `alloc` the domain makes slots as they are needed. A kernel without an allocator declares them
/// as statics and hands them to [`Domain::join_with`](crate::Domain::join_with).
///
/// A slot serves one domain for life, and its memory stays what it is as long as that domain lives: a walk may
/// still read it after its section has finished (INV-DI-6).
#[repr(C)]
pub struct Slot {
    /// What other threads read and write while they walk.
    pub(crate) shared: CachePadded<Shared>,
    /// What the participant alone writes.
    pub(crate) own: CachePadded<Own>,
    /// The slot's place in the pool; under the pool's lock.
    pub(crate) membership: UnsafeCell<Membership>,
    /// For a slot that the domain did not make: the address of the domain that it serves, or 0 before the first.
    pub(crate) home: AtomicUsize,
    /// For a slot that the domain did not make: whether a participant has it.
    pub(crate) taken: AtomicBool,
    /// Whether the domain made this slot and frees it.
    pub(crate) boxed: bool,
}

/// The slot's place among the domain's open sections, for any implementation.
pub(crate) struct Shared {
    pub(crate) node: Node,
    /// Under the lock of the list; `locked` only.
    pub(crate) links: UnsafeCell<Links>,
    /// `sharded` only.
    pub(crate) published: Published,
}

/// A section is being opened or closed: nothing else may be done with the slot.
pub(crate) const BUSY: u64 = u64::MAX;

/// The participant's private state.
pub(crate) struct Own {
    /// The generation of the open section; 0 if none is open; [`BUSY`] inside begin and finish.
    pub(crate) generation: AtomicU64,
    /// The thread that uses the participant; 0 before its first use.
    pub(crate) owner: AtomicUsize,
    pub(crate) counters: OwnCounters,
}

impl Slot {
    /// A slot that has never served a domain.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_origin(false)
    }

    pub(crate) const fn with_origin(boxed: bool) -> Self {
        Self {
            shared: CachePadded::new(Shared {
                node: Node::new(),
                links: UnsafeCell::new(Links::new()),
                published: Published::new(),
            }),
            own: CachePadded::new(Own {
                generation: AtomicU64::new(0),
                owner: AtomicUsize::new(0),
                counters: OwnCounters::new(),
            }),
            membership: UnsafeCell::new(Membership::new()),
            home: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
            boxed,
        }
    }

    pub(crate) fn pointer(&self) -> NonNull<Self> {
        NonNull::from(self)
    }
}

impl Default for Slot {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

// SAFETY: `links` is touched under the lock of the domain's list only, `membership` under the lock of its pool (`next` is
// read without it, by those who found the slot where it was put after `next` had been written); all else is atomic. The pointers in both lead to slots, which live as long as the domain (INV-DI-6).
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}
