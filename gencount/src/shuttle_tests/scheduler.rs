//! Shuttle's threads as a scheduler for domains.

use core::num::NonZeroUsize;
use std::boxed::Box;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::vec::Vec;

use lock_api::{GuardNoSend, RawMutex};
use shuttle::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use shuttle::thread::{self, Thread};
use turnstile::{LendingScheduler, PiTurnstiles, Priority, Scheduler, ThreadId, TimedScheduler};

/// The one table of a run's threads.
pub(super) type Table = PiTurnstiles<Arc<Shuttled>>;

/// A lock whose waiters are parked, so that a deadlock shows as one.
pub(crate) struct Lock {
    held: AtomicBool,
    /// Who is parked here. Locked for a moment only, with no switch inside.
    queue: Mutex<Vec<Thread>>,
}

/// Locks a mutex of the standard library, which is never held when shuttle switches, so always free.
fn free<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.try_lock().unwrap_or_else(|error| match error {
        std::sync::TryLockError::Poisoned(poisoned) => PoisonError::into_inner(poisoned),
        std::sync::TryLockError::WouldBlock => panic!("held over a switch"),
    })
}

// SAFETY: `held` goes from false to true in one access, and back by its holder only.
unsafe impl RawMutex for Lock {
    #[expect(clippy::declare_interior_mutable_const, reason = "the trait's way to make one")]
    const INIT: Self = Self { held: AtomicBool::new(false), queue: Mutex::new(Vec::new()) };

    type Guard = GuardNoSend;

    fn lock(&self) -> GuardNoSend {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            // No switch between the attempt and this, so the holder has not looked at the queue yet.
            free(&self.queue).push(thread::current());
            // A stray wake-up, meant for another park of this thread, leads round once more.
            thread::park();
        }
    }

    fn try_lock(&self) -> Option<GuardNoSend> {
        // ORD: SeqCst, as all of shuttle's.
        (!self.held.swap(true, SeqCst)).then(GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: GuardNoSend) {
        // ORD: as above.
        self.held.store(false, SeqCst);
        let queue = core::mem::take(&mut *free(&self.queue));
        queue.iter().for_each(Thread::unpark);
    }

    fn is_locked(&self) -> bool {
        // ORD: as above.
        self.held.load(SeqCst)
    }
}

/// A thread's entry.
struct Entry {
    thread: Thread,
    token: bool,
    loan: Option<Priority>,
}

/// The scheduler of one run.
#[derive(Default)]
pub(super) struct Shuttled {
    /// Locked for moments only, with no switch inside.
    threads: Mutex<Vec<Entry>>,
    /// Points passed.
    clock: AtomicU64,
    check: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

fn index(thread: ThreadId) -> usize {
    thread.get().get() - 1
}

impl Shuttled {
    /// From now on `check` is called at every point.
    pub(super) fn check_at_points(&self, check: impl Fn() + Send + Sync + 'static) {
        assert!(self.check.set(Box::new(check)).is_ok(), "set once");
    }

    pub(super) fn assert_no_loans(&self) {
        assert!(free(&self.threads).iter().all(|entry| entry.loan.is_none()), "somebody has kept a loan");
    }

    /// The current thread's token, taken.
    fn take_token(&self) -> bool {
        let this = index(self.current());
        core::mem::take(&mut free(&self.threads)[this].token)
    }

    /// A switch, and time that passes.
    fn tick(&self) {
        // ORD: SeqCst, as all of shuttle's.
        self.clock.fetch_add(1, SeqCst);
    }
}

// SAFETY: an entry is found by shuttle's own id, which is not used again within a run. `Lock` is a lock. Nothing calls a
// table, and nothing unwinds but where a test has failed.
unsafe impl Scheduler for Shuttled {
    type RawLock = Lock;

    fn current(&self) -> ThreadId {
        let thread = thread::current();
        let mut threads = free(&self.threads);
        let known = threads.iter().position(|entry| entry.thread.id() == thread.id());
        let index = known.unwrap_or_else(|| {
            threads.push(Entry { thread, token: false, loan: None });
            threads.len() - 1
        });
        ThreadId::new(NonZeroUsize::MIN.saturating_add(index))
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        let lent = free(&self.threads).get(index(thread)).and_then(|entry| entry.loan);
        lent.map_or(self.own_priority(thread), |lent| lent.max(self.own_priority(thread)))
    }

    fn park(&self) {
        while !self.take_token() {
            thread::park();
        }
    }

    fn unpark(&self, thread: ThreadId) {
        let mut threads = free(&self.threads);
        let entry = &mut threads[index(thread)];
        entry.token = true;
        let thread = entry.thread.clone();
        drop(threads);
        thread.unpark();
    }

    fn point(&self) {
        if let Some(check) = self.check.get()
            && !std::thread::panicking()
        {
            check();
        }
        self.tick();
    }

    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

// SAFETY: keeps numbers, under a lock that is held for no longer than that.
unsafe impl LendingScheduler for Shuttled {
    /// All kinds, by the order in which they came.
    fn own_priority(&self, thread: ThreadId) -> Priority {
        Priority::new((index(thread) * 37 % 256) as u8)
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        free(&self.threads)[index(thread)].loan = Some(priority);
    }

    fn unlend(&self, thread: ThreadId) {
        free(&self.threads)[index(thread)].loan = None;
    }
}

// SAFETY: a deadline is a number of the clock, which only rises.
unsafe impl TimedScheduler for Shuttled {
    type Instant = u64;
    type Duration = u64;

    fn after(&self, duration: u64) -> Option<u64> {
        // ORD: SeqCst, as all of shuttle's.
        self.clock.load(SeqCst).checked_add(duration)
    }

    fn is_past(&self, deadline: u64) -> bool {
        // ORD: as above.
        self.clock.load(SeqCst) >= deadline
    }

    /// Time passes here too, or the last thread would wait for ever.
    fn park_until(&self, deadline: u64) {
        while !self.take_token() && !self.is_past(deadline) {
            self.tick();
            thread::yield_now();
        }
    }
}
