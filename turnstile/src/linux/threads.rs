//! What is kept for a thread under the real-time scheduler, in the records of the hosted registry.

use core::cell::Cell;
use core::num::NonZeroUsize;
use std::thread_local;
use std::time::Instant;

use super::{FutexParker, MissingCapability, Policy};
use crate::hosted::threads as registry;
use crate::primitive::{Acquire, AtomicU32, Relaxed, Release};
use crate::{Parker as _, Priority, ReadHolds, ThreadId};

/// No loan; `RealTime::loan`.
const NO_LOAN: u32 = u32::MAX;

/// A thread's part of its record. All zero until it first uses the scheduler.
pub(crate) struct RealTime {
    parker: FutexParker,
    /// The system's number for the thread, 0 before its first use.
    tid: AtomicU32,
    own: AtomicU32,
    /// A priority's level, or `NO_LOAN`.
    loan: AtomicU32,
    /// What the system was last told.
    applied: AtomicU32,
    refused: AtomicU32,
    pub(super) read_holds: ReadHolds,
}

impl RealTime {
    pub(crate) const fn new() -> Self {
        Self {
            parker: FutexParker::NEW,
            tid: AtomicU32::new(0),
            own: AtomicU32::new(0),
            loan: AtomicU32::new(NO_LOAN),
            applied: AtomicU32::new(0),
            refused: AtomicU32::new(0),
            read_holds: ReadHolds::new(),
        }
    }

    fn own(&self) -> Policy {
        // ORD: Relaxed: a number on its own.
        Policy::unpack(self.own.load(Relaxed))
    }

    fn loan(&self) -> Option<Priority> {
        // ORD: Relaxed: a number on its own.
        let loan = self.loan.load(Relaxed);
        (loan != NO_LOAN).then(|| Priority::new(loan as u8))
    }

    /// Has the thread run as its own policy and its loan say. Called under the table's lock, so one at a time.
    fn apply(&self) {
        let policy = self.own().with(self.loan());
        // ORD: Relaxed: written under the table's lock only.
        if self.applied.load(Relaxed) == policy.pack() {
            return;
        }
        // ORD: Relaxed: set once, before the Release that `of` saw.
        if policy.apply(self.tid.load(Relaxed).cast_signed()) {
            // ORD: Relaxed: written under the table's lock only.
            self.applied.store(policy.pack(), Relaxed);
        } else {
            // ORD: Relaxed: a count.
            self.refused.fetch_add(1, Relaxed);
        }
    }
}

thread_local! {
    /// The thread's id once it has used this scheduler, else 0.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    /// Whether this thread has still to lower itself.
    static UNSETTLED: Cell<bool> = const { Cell::new(false) };
    static TID: Cell<u32> = const { Cell::new(0) };
}

/// The system's number for the current thread.
#[inline]
pub(super) fn tid() -> u32 {
    match TID.get() {
        0 => {
            // SAFETY: takes nothing.
            let tid = unsafe { libc::gettid() }.cast_unsigned();
            TID.set(tid);
            tid
        }
        tid => tid,
    }
}

#[inline]
pub(super) fn current() -> ThreadId {
    match NonZeroUsize::new(CURRENT.get()) {
        Some(id) => ThreadId::new(id),
        None => register(),
    }
}

/// The current thread's record is given back: what runs later on this thread gets another.
pub(crate) fn forget_current() {
    CURRENT.set(0);
}

pub(super) fn of(thread: ThreadId) -> Option<&'static RealTime> {
    // ORD: Acquire pairs with the Release store in `register`: the other fields are this thread's then.
    registry::record(thread)
        .map(|record| &record.real_time)
        .filter(|real_time| real_time.tid.load(Acquire) != 0)
}

#[cold]
fn register() -> ThreadId {
    if let Err(missing) = super::LinuxRt::new() {
        refuse(missing);
    }
    let thread = registry::current();
    if let Some(record) = registry::record(thread) {
        let real_time = &record.real_time;
        // ORD: Relaxed: published by the store of `tid`. An older thread of the same record has ended.
        real_time.own.store(Policy::of_current().pack(), Relaxed);
        // ORD: Relaxed: as above.
        real_time.loan.store(NO_LOAN, Relaxed);
        // ORD: Relaxed: as above. Nothing needs to be told about what the thread has already.
        real_time.applied.store(Policy::of_current().pack(), Relaxed);
        // ORD: Relaxed: as above.
        real_time.refused.store(0, Relaxed);
        // ORD: Release pairs with the Acquire in `of`.
        real_time.tid.store(tid(), Release);
    }
    CURRENT.set(thread.get().get());
    thread
}

#[cold]
fn refuse(missing: MissingCapability) -> ! {
    panic!("{missing}")
}

pub(super) fn own_priority(thread: ThreadId) -> Priority {
    of(thread).map_or(Priority::LOWEST, |real_time| Priority::new(real_time.own().level()))
}

pub(super) fn priority(thread: ThreadId) -> Priority {
    of(thread).map_or(Priority::LOWEST, |real_time| {
        Priority::new(real_time.own().level()).max(real_time.loan().unwrap_or(Priority::LOWEST))
    })
}

pub(super) fn refused(thread: ThreadId) -> u32 {
    // ORD: Relaxed: a count.
    of(thread).map_or(0, |real_time| real_time.refused.load(Relaxed))
}

/// Writes a thread's own policy down; returns the old one. The system is told with the next loan or its absence.
pub(super) fn set_own(thread: ThreadId, policy: Policy) -> Option<Policy> {
    // ORD: Relaxed: a number on its own.
    of(thread).map(|real_time| Policy::unpack(real_time.own.swap(policy.pack(), Relaxed)))
}

/// Writes the loan down and has the thread run accordingly, at once, or with `settle` if it lowers the calling thread.
/// Called under the table's lock.
pub(super) fn set_loan(thread: ThreadId, loan: Option<Priority>) {
    let Some(real_time) = of(thread) else { return };
    // ORD: Relaxed: a number on its own.
    real_time.loan.store(loan.map_or(NO_LOAN, |loan| u32::from(loan.level())), Relaxed);
    // ORD: Relaxed: written under the table's lock only.
    let applied = Policy::unpack(real_time.applied.load(Relaxed));
    let lowered = real_time.own().with(loan).level() < applied.level();
    if lowered && thread.get().get() == CURRENT.get() {
        // Whom this thread is about to wake must not wait for whoever is more urgent than this thread by itself.
        UNSETTLED.set(true);
    } else {
        real_time.apply();
    }
}

pub(super) fn is_unsettled() -> bool {
    UNSETTLED.get()
}

/// Called under the table's lock, like `set_loan`.
pub(super) fn settle() {
    UNSETTLED.set(false);
    if let Some(real_time) = NonZeroUsize::new(CURRENT.get()).and_then(|id| of(ThreadId::new(id))) {
        real_time.apply();
    }
}

pub(super) fn park(deadline: Option<Instant>) {
    match (of(current()), deadline) {
        (Some(real_time), Some(deadline)) => real_time.parker.park_until(deadline),
        (Some(real_time), None) => real_time.parker.park(),
        (None, _) => {}
    }
}

pub(super) fn unpark(thread: ThreadId) {
    if let Some(real_time) = of(thread) {
        real_time.parker.unpark();
    }
}
