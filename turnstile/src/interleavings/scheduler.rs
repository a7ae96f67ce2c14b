//! A scheduler whose threads are the checker's, and the state of one execution.

use core::cell::{Cell, UnsafeCell};
use core::num::NonZeroUsize;
use std::boxed::Box;
use std::cell::OnceCell;
use std::vec::Vec;

use lock_api::{GuardNoSend, RawMutex};

use super::checker::sync::{Arc, Condvar, Mutex, MutexGuard};
use super::checker::thread::{self, JoinHandle};
use crate::{
    LendingScheduler, LockScheduler, PiTurnstiles, Priority, ReadHolds, ReaderScheduler, Scheduler, ThreadId,
    TimedScheduler,
};

/// The scheduler of both checkers. All its values are the same one.
#[derive(Default)]
pub(super) struct Checked;

/// What is kept for a thread.
struct Record {
    own: Cell<Priority>,
    loan: Cell<Option<Priority>>,
    token: Arc<(Mutex<bool>, Condvar)>,
    holds: ReadHolds,
}

/// One execution: its table, and its threads.
struct Execution {
    table: PiTurnstiles<Checked>,
    /// All that there can be, made before any of them starts.
    threads: Vec<Record>,
    started: Cell<usize>,
}

/// Loom knows no more than four threads at once.
const THREADS: usize = if cfg!(turnstile_loom) { 3 } else { 6 };

std::thread_local! {
    /// Executions follow each other on one thread of the host.
    static EXECUTION: Cell<Option<&'static Execution>> = const { Cell::new(None) };
}

super::checker::thread_local! {
    /// A thread's number in its execution.
    static NUMBER: Cell<usize> = Cell::new(0);
}

fn this() -> &'static Execution {
    EXECUTION.get().expect("inside `execution`")
}

fn record(thread: ThreadId) -> &'static Record {
    &this().threads[thread.get().get() - 1]
}

/// The current thread is that of the next record.
fn next(own: u8) -> usize {
    let this = this();
    let number = this.started.get();
    this.threads[number].own.set(Priority::new(own));
    this.started.set(number + 1);
    number + 1
}

/// Runs `body` as the first thread (own priority 1) of a fresh execution; at its end nothing is lent and nobody waits.
pub(super) fn execution(body: &dyn Fn()) {
    let threads = (0..THREADS).map(|_| Record {
        own: Cell::new(Priority::LOWEST),
        loan: Cell::new(None),
        token: Arc::new((Mutex::new(false), Condvar::new())),
        holds: ReadHolds::new(),
    });
    let fresh = Box::leak(Box::new(Execution {
        table: PiTurnstiles::new(Checked),
        threads: threads.collect(),
        started: Cell::new(0),
    }));
    fresh.table.locked(|_| ());
    fresh.threads.iter().for_each(|record| record.holds.touch());
    EXECUTION.set(Some(fresh));
    let first = next(1);
    NUMBER.with(|mine| mine.set(first));
    body();
    for record in &fresh.threads {
        assert_eq!(record.loan.get(), None, "a loan is left over");
        fresh.table.locked(|table| record.holds.assert_empty(table));
    }
    assert_eq!(fresh.table.edges(&mut []), 0, "somebody is still queued");
    EXECUTION.set(None);
    // SAFETY: leaked above; the threads of the execution have ended, so nobody uses it any more. (One whose test failed is left alone:
    // its threads were stopped somewhere.)
    drop(unsafe { Box::from_raw(core::ptr::from_ref(fresh).cast_mut()) });
}

/// Starts a thread with an own priority.
pub(super) fn spawn(own: u8, body: impl FnOnce() + Send + 'static) -> JoinHandle<()> {
    let number = next(own);
    thread::spawn(move || {
        NUMBER.with(|mine| mine.set(number));
        body();
    })
}

/// A mutex of the checker's behind the interface of a raw one.
#[derive(Default)]
pub(super) struct RawCheckedMutex {
    mutex: OnceCell<Mutex<()>>,
    guard: UnsafeCell<Option<MutexGuard<'static, ()>>>,
}

// SAFETY: the checkers run one thread at a time on one thread of the host; the guard is touched by the holder only.
unsafe impl Sync for RawCheckedMutex {}
// SAFETY: as above.
unsafe impl Send for RawCheckedMutex {}

impl RawCheckedMutex {
    fn mutex(&self) -> &'static Mutex<()> {
        let mutex = self.mutex.get_or_init(|| Mutex::new(()));
        // SAFETY: the mutex lives as long as the execution's table, and no guard outlives that.
        unsafe { &*core::ptr::from_ref(mutex) }
    }
}

// SAFETY: it is the checker's mutex.
unsafe impl RawMutex for RawCheckedMutex {
    const INIT: Self = Self { mutex: OnceCell::new(), guard: UnsafeCell::new(None) };

    type Guard = GuardNoSend;

    fn lock(&self) -> GuardNoSend {
        let guard = self.mutex().lock().expect("no panic under the lock");
        // SAFETY: this thread holds the mutex.
        unsafe { *self.guard.get() = Some(guard) };
        GuardNoSend::new()
    }

    fn try_lock(&self) -> Option<GuardNoSend> {
        let guard = self.mutex().try_lock().ok()?;
        // SAFETY: this thread holds the mutex.
        unsafe { *self.guard.get() = Some(guard) };
        Some(GuardNoSend::new())
    }

    unsafe fn unlock(&self, _: GuardNoSend) {
        // SAFETY: this thread holds the mutex, and keeps the guard here until it has taken it out.
        let guard = unsafe { (*self.guard.get()).take() };
        drop(guard);
    }

    fn is_locked(&self) -> bool {
        self.mutex().try_lock().is_err()
    }
}

// SAFETY: numbers are given once each per execution, and the checker's threads do not outlive it. Nothing calls a table.
unsafe impl Scheduler for Checked {
    type RawLock = RawCheckedMutex;

    fn current(&self) -> ThreadId {
        ThreadId::new(NonZeroUsize::new(NUMBER.with(Cell::get)).expect("a thread of this execution"))
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        let record = record(thread);
        record.loan.get().map_or(record.own.get(), |loan| loan.max(record.own.get()))
    }

    fn park(&self) {
        let token = record(self.current()).token.clone();
        let mut there = token.0.lock().unwrap();
        while !*there {
            there = token.1.wait(there).unwrap();
        }
        *there = false;
    }

    fn unpark(&self, thread: ThreadId) {
        let token = record(thread).token.clone();
        *token.0.lock().unwrap() = true;
        token.1.notify_one();
    }

    fn relax(&self, _: u32) {
        thread::yield_now();
    }
}

// SAFETY: writes numbers down. Under the table's lock, so one thread at a time.
unsafe impl LendingScheduler for Checked {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        record(thread).own.get()
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        record(thread).loan.set(Some(priority));
    }

    fn unlend(&self, thread: ThreadId) {
        record(thread).loan.set(None);
    }
}

// SAFETY: nothing calls a table.
unsafe impl TimedScheduler for Checked {
    /// A deadline passes whenever the checker lets the thread go on.
    type Instant = ();
    type Duration = ();

    fn after(&self, (): ()) -> Option<()> {
        Some(())
    }

    fn is_past(&self, (): ()) -> bool {
        true
    }

    fn park_until(&self, (): ()) {
        thread::yield_now();
        *record(self.current()).token.0.lock().unwrap() = false;
    }
}

// SAFETY: one table per execution; small ids.
unsafe impl LockScheduler for Checked {
    fn table() -> &'static PiTurnstiles<Self> {
        &this().table
    }
}

// SAFETY: every record has its own.
unsafe impl ReaderScheduler for Checked {
    fn read_holds(&self, thread: ThreadId) -> Option<&'static ReadHolds> {
        Some(&record(thread).holds)
    }

    fn each_thread(&self, visit: &mut dyn FnMut(ThreadId, &'static ReadHolds)) {
        for number in 1..=this().started.get() {
            let thread = ThreadId::new(NonZeroUsize::new(number).expect("from 1 on"));
            visit(thread, &record(thread).holds);
        }
    }
}
