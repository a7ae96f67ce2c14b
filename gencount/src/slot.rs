//! What a participant owns in its domain: a place in the queue, and a line of private state.

use core::cell::UnsafeCell;
use core::fmt;
use core::mem::offset_of;
use core::num::NonZeroUsize;
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;
use dcas_queue::Node;
use turnstile::ThreadId;

use crate::counters::OwnCounters;
use crate::lending::Lending;
use crate::lending::word::LoanWord;
use crate::locked::Links;
use crate::pool::Membership;
use crate::primitive::{AtomicBool, AtomicU64, AtomicUsize, Relaxed};
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
    /// What other threads read and write while they walk. First: see [`of_node`](Self::of_node).
    pub(crate) shared: Shared,
    /// What the participant alone writes, but for the loan word.
    pub(crate) own: CachePadded<Own>,
    /// Under the lock of the table in which the domain's waiters wait.
    pub(crate) lending: Lending,
    /// The slot's place in the pool; under the pool's lock.
    pub(crate) membership: UnsafeCell<Membership>,
    /// For a slot that the domain did not make: the address of the domain that it serves, or 0 before the first.
    pub(crate) home: AtomicUsize,
    /// For a slot that the domain did not make: whether a participant has it.
    pub(crate) taken: AtomicBool,
    /// Whether the domain made this slot and frees it.
    pub(crate) boxed: bool,
}

/// The slot's place among the domain's open sections, for any implementation. On lines of its own, two of which
/// processors may fetch at once.
#[repr(C, align(128))]
pub(crate) struct Shared {
    /// First: see [`Slot::of_node`].
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
    /// Whether somebody has lent to the owner on account of the open section. Beside what a finish writes anyway.
    pub(crate) loan: LoanWord,
    pub(crate) counters: OwnCounters,
}

impl Own {
    /// The thread that uses the participant.
    pub(crate) fn owner(&self) -> Option<ThreadId> {
        // ORD: Relaxed: asked under the table's lock about an open section, whose opening was seen and came after.
        NonZeroUsize::new(self.owner.load(Relaxed)).map(ThreadId::new)
    }
}

// A node's address is its slot's.
const _: () = assert!(offset_of!(Slot, shared) == 0 && offset_of!(Shared, node) == 0);

impl Slot {
    /// A slot that has never served a domain.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_origin(false)
    }

    pub(crate) const fn with_origin(boxed: bool) -> Self {
        Self {
            shared: Shared {
                node: Node::new(),
                links: UnsafeCell::new(Links::new()),
                published: Published::new(),
            },
            own: CachePadded::new(Own {
                generation: AtomicU64::new(0),
                owner: AtomicUsize::new(0),
                loan: LoanWord::new(),
                counters: OwnCounters::new(),
            }),
            lending: Lending::new(),
            membership: UnsafeCell::new(Membership::new()),
            home: AtomicUsize::new(0),
            taken: AtomicBool::new(false),
            boxed,
        }
    }

    pub(crate) fn pointer(&self) -> NonNull<Self> {
        NonNull::from(self)
    }

    /// The slot whose node lies at this address.
    ///
    /// # Safety
    ///
    /// It is the address of the node of a slot that was added to a domain, which exposed its pointer and is alive.
    pub(crate) unsafe fn of_node<'domain>(address: usize) -> &'domain Self {
        // SAFETY: the caller's promise; the node lies at the slot's beginning, as asserted above, and the slot lives as
        // long as its domain (INV-DI-6).
        unsafe { &*core::ptr::with_exposed_provenance(address) }
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

// SAFETY: `links` is touched under the lock of the domain's list only, `lending` under that of the table of its
// scheduler, `membership` under that of its pool (`next` is read without it, by those who found the slot where it was put
// after `next` had been written); all else is atomic. The pointers in them lead to slots, which live as long as the
// domain (INV-DI-6).
unsafe impl Send for Slot {}
// SAFETY: as above.
unsafe impl Sync for Slot {}
