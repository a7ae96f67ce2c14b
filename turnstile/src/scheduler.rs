//! What a turnstile needs from whoever schedules the threads.
//!
//! A [`Scheduler`] names threads, knows how urgent they are, and can make the current one sleep until somebody
//! wakes it. A kernel implements it over its run queues, a simulator over its virtual processors; hosted programs
//! take `Hosted`.

use core::num::NonZeroUsize;

/// The name of a thread, unique among the threads that are alive.
///
/// What the number means is the scheduler's affair: an index, or the address of a thread's control block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct ThreadId(NonZeroUsize);

impl ThreadId {
    /// Wraps the scheduler's own number for a thread.
    #[inline]
    #[must_use]
    pub const fn new(id: NonZeroUsize) -> Self {
        Self(id)
    }

    /// The scheduler's own number for the thread.
    #[inline]
    #[must_use]
    pub const fn get(self) -> NonZeroUsize {
        self.0
    }
}

/// How urgent a thread is: **larger is more urgent**.
///
/// Schedulers that count the other way (a small number first, as FreeBSD's and Linux's internal priorities do)
/// subtract from their largest number.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(transparent)]
pub struct Priority(u8);

impl Priority {
    /// The least urgent.
    pub const LOWEST: Self = Self(0);
    /// Where threads start under `Hosted`: the middle of the range.
    pub const NORMAL: Self = Self(128);
    /// The most urgent.
    pub const HIGHEST: Self = Self(u8::MAX);

    /// A priority from its level; larger is more urgent.
    #[inline]
    #[must_use]
    pub const fn new(level: u8) -> Self {
        Self(level)
    }

    /// The level; larger is more urgent.
    #[inline]
    #[must_use]
    pub const fn level(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    #[inline]
    fn default() -> Self {
        Self::NORMAL
    }
}

/// The threads' scheduler, as far as blocking and waking need it.
///
/// All methods take `&self`, so several schedulers can live in one process (a test with two simulated machines).
/// A reference to a scheduler, and with feature `std` an `Arc` of one, is itself a scheduler: that is how several
/// tables share one. So is a [`PiTurnstiles`](crate::PiTurnstiles): its scheduler, with the table at hand.
///
/// # Safety
///
/// Code that relies on a scheduler is allowed to be unsound if the scheduler breaks one of these rules:
///
/// 1. [`current`](Self::current) returns the same id on every call from one thread, from the first call until the
///    thread ends, and never the id of another thread that is alive. An id may be given again after its thread
///    has ended; all that the old thread did then happens-before the new thread's first call.
/// 2. [`RawLock`](Self::RawLock) excludes as `lock_api` demands, and its `INIT` value is unlocked.
/// 3. No method calls back into a table of turnstiles that uses this scheduler, or into anything that is built on
///    one.
/// 4. No method but `park` and `relax` unwinds: the callers may be half-way through a step on shared memory.
///
/// Liveness rests on these, which are not needed for soundness:
///
/// 5. After `unpark(t)`, thread `t` returns from the [`park`](Self::park) that it is in, or else from its next one
///    at once. One unpark is enough for one return (a binary token); two unparks without a return between them may
///    count as one.
/// 6. What a thread did before `unpark(t)` is visible to `t` once its `park` has returned because of it.
///
/// `park` may return without reason: it is the place to serve interrupts that others wait for. It may also unwind: the
/// waiter is then taken off its chain before the panic travels on (a simulator ends stuck threads that way).
pub unsafe trait Scheduler: Send + Sync {
    /// The lock of one chain of waiters.
    ///
    /// It is a leaf: held for a few list operations and the caller's re-check, never across a `park`, and no other
    /// chain lock is taken inside it. A kernel uses a spin lock that disables preemption; hosted code one that
    /// sleeps.
    type RawLock: lock_api::RawMutex + Send + Sync;

    /// The thread that calls.
    fn current(&self) -> ThreadId;

    /// How urgent `thread` is at this moment. For a thread that has ended any value will do.
    fn priority(&self, thread: ThreadId) -> Priority;

    /// Puts the current thread to sleep until its token is there, and takes the token; at once if it is there
    /// already. May return early for no reason.
    fn park(&self);

    /// Gives `thread` its token, and wakes it if it is parked.
    ///
    /// The thread may have returned for another reason, and even ended, in the meantime: then this does nothing,
    /// or at worst leaves a token to a later thread of the same id, which sees one spurious return.
    fn unpark(&self, thread: ThreadId);

    /// A scheduling point: lock-free code calls it before every access to shared memory, and never while it holds
    /// a [`RawLock`](Self::RawLock).
    ///
    /// A simulated scheduler may run other threads here, which is how it reaches every interleaving; real ones
    /// keep the empty default, which costs nothing.
    #[inline]
    fn point(&self) {}

    /// Lets a moment pass, about as long as `pauses` pause instructions, for a thread that hopes not to have to park.
    ///
    /// Called a bounded number of times in a row, with no lock held and nothing half done, so it may serve
    /// interrupts that others wait for, give the processor up, and, like [`park`](Self::park), unwind.
    #[inline]
    fn relax(&self, pauses: u32) {
        for _ in 0..pauses {
            core::hint::spin_loop();
        }
    }
}
