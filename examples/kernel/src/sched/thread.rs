//! Threads: what the scheduler keeps for each.
//!
//! Control blocks are never freed, only used again: a thread's id is the address of its block, turnstiles look through all blocks for
//! readers, and delayed invalidation keeps its place for a thread in one. What changes as threads are scheduled is
//! [`Scheduling`], under the scheduler's one lock.

use alloc::boxed::Box;
use alloc::sync::Arc;
use core::cell::Cell;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU8, AtomicU32, Ordering};

use gencount::{Participant, Slot};
use pmap::{CpuId, Pmap};
use turnstile::{Priority, ReadHolds, ThreadId};

use super::join::Completion;
use super::scheduler::KernelScheduler;
use super::stack::Stack;
use super::{BOOT_CPU, delayed};
use crate::machine::Board;

/// What a thread runs.
pub(crate) type Body = Box<dyn FnOnce() + Send>;

/// An address space as threads have it; it outlives its use by them.
pub(crate) type Space = NonNull<Pmap<'static, Board>>;

/// A thread's control block.
pub(crate) struct Thread {
    /// Its place in the domain of delayed invalidation.
    participant: Participant<KernelScheduler>,
    /// What it holds for reading.
    read_holds: ReadHolds,
    /// Its own priority, and what is lent to it; written under the scheduler's lock.
    own: AtomicU8,
    lent: AtomicU8,
    /// Whether it was lowered and goes on as urgently as before until it settles; written under the scheduler's lock.
    unsettled: AtomicBool,
    /// How many times it has asked to stay on its CPU.
    stays: AtomicU32,
    /// The block made before this one.
    older: Option<&'static Thread>,
    /// Nothing for the threads that CPUs boot with.
    stack: Option<Stack>,
    scheduling: Scheduling,
}

// SAFETY: `scheduling` is reached with a `Held`, hence under the scheduler's lock only; the rest is Sync.
unsafe impl Sync for Thread {}
// SAFETY: as above; the body is Send, and the rest is not bound to a CPU.
unsafe impl Send for Thread {}

/// What a thread is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// In the run queue.
    Ready,
    /// On a CPU.
    Running,
    /// Off, until a token or its deadline comes.
    Parked,
    /// Ended; the block is free.
    Ended,
}

/// That the scheduler's lock is held: whoever has a reference to it got it from there.
pub(super) struct Held(());

impl Held {
    /// # Safety
    ///
    /// Called once, for what the lock guards.
    pub(super) const unsafe fn new() -> Self {
        Self(())
    }
}

/// What the scheduler knows of a thread, under its lock.
pub(super) struct Scheduling {
    pub(super) name: Cell<&'static str>,
    pub(super) phase: Cell<Phase>,
    /// The priority by which it is scheduled: the larger of own and lent, unless it is unsettled.
    pub(super) rank: Cell<u8>,
    /// Somebody unparked it.
    pub(super) token: Cell<bool>,
    /// The tick at which its park ends.
    pub(super) deadline: Cell<Option<u64>>,
    /// Ticks that are left of its turn among its equals.
    pub(super) turn: Cell<u32>,
    /// The CPU that it runs on, or ran on last.
    pub(super) cpu: Cell<CpuId>,
    /// Whether it may run nowhere else.
    pub(super) is_bound: Cell<bool>,
    /// Neighbours in the run queue.
    pub(super) next: Cell<Option<&'static Thread>>,
    pub(super) previous: Cell<Option<&'static Thread>>,
    /// The next to wake among those with a deadline, or the next free block.
    pub(super) next_other: Cell<Option<&'static Thread>>,
    /// Where its registers are while it is off its CPU.
    pub(super) stack_pointer: Cell<usize>,
    pub(super) body: Cell<Option<Body>>,
    pub(super) completion: Cell<Option<Arc<Completion>>>,
    pub(super) space: Cell<Option<Space>>,
}

impl Scheduling {
    const fn new() -> Self {
        Self {
            name: Cell::new(""),
            phase: Cell::new(Phase::Ended),
            rank: Cell::new(0),
            token: Cell::new(false),
            deadline: Cell::new(None),
            turn: Cell::new(0),
            cpu: Cell::new(BOOT_CPU),
            is_bound: Cell::new(false),
            next: Cell::new(None),
            previous: Cell::new(None),
            next_other: Cell::new(None),
            stack_pointer: Cell::new(0),
            body: Cell::new(None),
            completion: Cell::new(None),
            space: Cell::new(None),
        }
    }
}

/// The youngest block.
static YOUNGEST: AtomicPtr<Thread> = AtomicPtr::new(core::ptr::null_mut());
/// Only one block is put on the list at a time.
static MAKING: super::SpinLock<()> = super::SpinLock::new(());

impl Thread {
    /// A new block, free.
    pub(super) fn make(stack: Option<Stack>) -> &'static Self {
        let slot: &'static Slot = Box::leak(Box::new(Slot::new()));
        let participant = delayed::join(slot);
        let mut block = Box::new(Self {
            participant,
            read_holds: ReadHolds::new(),
            own: AtomicU8::new(0),
            lent: AtomicU8::new(0),
            unsettled: AtomicBool::new(false),
            stays: AtomicU32::new(0),
            older: None,
            scheduling: Scheduling::new(),
            stack,
        });
        let making = MAKING.lock();
        block.older = youngest();
        let block: &'static mut Self = Box::leak(block);
        // ORD: Release pairs with the Acquire in `youngest`.
        YOUNGEST.store(block, Ordering::Release);
        drop(making);
        block
    }

    /// Its id: the address of its block.
    pub(crate) fn id(&self) -> ThreadId {
        let address = core::ptr::from_ref(self).expose_provenance();
        ThreadId::new(NonZeroUsize::new(address).expect("a reference is not null"))
    }

    /// The thread with this id.
    pub(crate) fn of(id: ThreadId) -> &'static Self {
        // SAFETY: ids are made by `id` alone, from blocks, which are never freed and whose pointers were exposed there.
        unsafe { &*core::ptr::with_exposed_provenance(id.get().get()) }
    }

    /// Its place in the domain of delayed invalidation.
    pub(crate) fn participant(&self) -> &Participant<KernelScheduler> {
        &self.participant
    }

    pub(super) fn read_holds(&self) -> &ReadHolds {
        &self.read_holds
    }

    /// The priority it was given.
    pub(crate) fn own_priority(&self) -> Priority {
        // ORD: Relaxed: a number on its own.
        Priority::new(self.own.load(Ordering::Relaxed))
    }

    /// The larger of what it was given and what is lent to it.
    pub(crate) fn priority(&self) -> Priority {
        // ORD: Relaxed: a number on its own.
        self.own_priority().max(Priority::new(self.lent.load(Ordering::Relaxed)))
    }

    /// Under the scheduler's lock.
    pub(super) fn set_own(&self, priority: Priority) {
        // ORD: Relaxed: a number on its own.
        self.own.store(priority.level(), Ordering::Relaxed);
    }

    /// Under the scheduler's lock. The lowest priority is no loan.
    pub(super) fn set_lent(&self, priority: Priority) {
        // ORD: Relaxed: a number on its own.
        self.lent.store(priority.level(), Ordering::Relaxed);
    }

    /// Whether it was lowered and has not settled.
    pub(super) fn is_unsettled(&self) -> bool {
        // ORD: Relaxed: asked by the thread itself about what it did itself.
        self.unsettled.load(Ordering::Relaxed)
    }

    /// Under the scheduler's lock.
    pub(super) fn set_unsettled(&self, unsettled: bool) {
        // ORD: Relaxed: under the lock.
        self.unsettled.store(unsettled, Ordering::Relaxed);
    }

    /// The thread itself: it stays on its CPU until the matching [`may_go`](Self::may_go).
    pub(super) fn stay(&self) {
        // ORD: Relaxed, both: the thread's own word; an interrupt in between leaves it as it was.
        self.stays.store(self.stays.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// The thread itself: undoes a [`stay`](Self::stay); says whether it was the last.
    pub(super) fn may_go(&self) -> bool {
        // ORD: Relaxed, both: as in `stay`.
        let left = self.stays.load(Ordering::Relaxed) - 1;
        self.stays.store(left, Ordering::Relaxed);
        left == 0
    }

    /// Whether it asked to stay on its CPU.
    pub(super) fn stays(&self) -> bool {
        // ORD: Relaxed: the thread's own word, or that of the thread that an interrupt came upon.
        self.stays.load(Ordering::Relaxed) > 0
    }

    /// What the scheduler knows of it.
    pub(super) fn scheduling(&self, _: &Held) -> &Scheduling {
        &self.scheduling
    }

    /// Nothing for the threads that CPUs boot with.
    pub(super) fn stack(&self) -> Option<&Stack> {
        self.stack.as_ref()
    }
}

impl PartialEq for Thread {
    fn eq(&self, other: &Self) -> bool {
        core::ptr::eq(self, other)
    }
}

/// The youngest block that was made.
fn youngest() -> Option<&'static Thread> {
    // ORD: Acquire pairs with the Release in `make`.
    let youngest = YOUNGEST.load(Ordering::Acquire);
    // SAFETY: null, or a block, and those are never freed.
    unsafe { youngest.as_ref() }
}

/// All blocks, the youngest first.
pub(super) fn all() -> impl Iterator<Item = &'static Thread> {
    core::iter::successors(youngest(), |thread| thread.older)
}
