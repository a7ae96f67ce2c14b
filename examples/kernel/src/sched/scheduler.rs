//! The scheduler as turnstiles see it, and the one table in which all threads wait for each other.

use core::sync::atomic::{AtomicBool, Ordering};

use turnstile::{
    LendingScheduler, LockScheduler, PiTurnstiles, Priority, ReadHolds, ReaderScheduler, Scheduler, ThreadId,
    TimedScheduler,
};

use super::spin::RawSpinLock;
use super::state::{STATE, State};
use super::thread::{self, Thread};
use super::{sleep, switch};

/// The kernel's scheduler; all values are the same one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct KernelScheduler;

static TABLE: PiTurnstiles<KernelScheduler> = PiTurnstiles::new(KernelScheduler);

/// Whether loans reach the run queue.
static LENDS: AtomicBool = AtomicBool::new(true);

/// Switches lending off, to show what happens then, and on again. Nobody waits for anybody meanwhile.
pub(crate) fn set_lending(lends: bool) {
    // ORD: Relaxed: a choice between two ways that are both memory-safe.
    LENDS.store(lends, Ordering::Relaxed);
}

/// Under the scheduler's lock: `priority` is lent to a thread from now on.
fn set_loan(id: ThreadId, priority: Priority) {
    // ORD: Relaxed: see `set_lending`.
    if LENDS.load(Ordering::Relaxed) {
        with_state(|state, me| {
            let thread = Thread::of(id);
            thread.set_lent(priority);
            state.follow(thread, me);
        });
    }
}

fn with_state<R>(f: impl FnOnce(&State, &'static Thread) -> R) -> R {
    f(&STATE.lock(), switch::current())
}

// SAFETY: 1. An id is the address of a thread's block, which is used again only by a thread that is made after the last has ended,
// under the scheduler's lock. 2. `RawSpinLock` excludes. 3. Nothing here uses the table. 4. Nothing unwinds: panics end the kernel.
// 5. and 6. Tokens are given and taken under the scheduler's lock.
unsafe impl Scheduler for KernelScheduler {
    type RawLock = RawSpinLock;

    #[inline]
    fn current(&self) -> ThreadId {
        switch::current().id()
    }

    #[inline]
    fn priority(&self, thread: ThreadId) -> Priority {
        Thread::of(thread).priority()
    }

    fn park(&self) {
        switch::park(None);
    }

    fn unpark(&self, thread: ThreadId) {
        switch::unpark(Thread::of(thread));
    }
}

// SAFETY: as above. The scheduler's lock is a leaf: nobody who holds it waits for anybody.
unsafe impl LendingScheduler for KernelScheduler {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        Thread::of(thread).own_priority()
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        set_loan(thread, priority);
    }

    fn unlend(&self, thread: ThreadId) {
        set_loan(thread, Priority::LOWEST);
    }

    fn is_unsettled(&self) -> bool {
        switch::current().is_unsettled()
    }

    fn settle(&self) {
        with_state(State::settle);
    }
}

// SAFETY: as above.
unsafe impl TimedScheduler for KernelScheduler {
    /// A tick.
    type Instant = u64;
    /// Ticks.
    type Duration = u64;

    fn after(&self, duration: u64) -> Option<u64> {
        // The tick that is under way does not count.
        sleep::ticks().checked_add(duration)?.checked_add(1)
    }

    fn is_past(&self, deadline: u64) -> bool {
        sleep::ticks() >= deadline
    }

    fn park_until(&self, deadline: u64) {
        switch::park(Some(deadline));
    }
}

// SAFETY: 1. A static, of the one scheduler that there is. 2. Ids are addresses of blocks, which are aligned to more than 4.
unsafe impl LockScheduler for KernelScheduler {
    #[inline]
    fn table() -> &'static PiTurnstiles<Self> {
        &TABLE
    }

    #[inline]
    fn to_word(thread: ThreadId) -> usize {
        thread.get().get()
    }

    #[inline]
    fn from_word(word: usize) -> Option<ThreadId> {
        core::num::NonZeroUsize::new(word).map(ThreadId::new)
    }
}

const _: () = assert!(align_of::<Thread>() >= 4, "the lowest bits of a thread's address are for flags");

// SAFETY: 1. The record lies in the thread's block. 2. All blocks are visited.
unsafe impl ReaderScheduler for KernelScheduler {
    #[inline]
    fn read_holds(&self, thread: ThreadId) -> Option<&'static ReadHolds> {
        Some(Thread::of(thread).read_holds())
    }

    fn each_thread(&self, visit: &mut dyn FnMut(ThreadId, &'static ReadHolds)) {
        thread::all().for_each(|thread| visit(thread.id(), thread.read_holds()));
    }
}
