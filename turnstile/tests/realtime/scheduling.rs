//! Schedulers that lack something, and helpers to place threads.

use std::marker::PhantomData;
use std::sync::mpsc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lock_api::RawMutex;
use turnstile::{
    LendingScheduler, LinuxRt, LockScheduler, PiTurnstiles, Policy, Priority, RawFutexPiMutex,
    RawParkingMutex, Scheduler, ThreadId, TimedScheduler,
};

/// The real-time scheduler, or the reason why there is none.
pub(crate) fn scheduler() -> Option<LinuxRt> {
    LinuxRt::new().map_err(|missing| println!("skipped: {missing}")).ok()
}

/// As [`LinuxRt`], but with another lock for tables, or loans that have no effect.
pub(crate) struct Variant<L, const LOANS: bool>(PhantomData<fn() -> L>);

/// As [`LinuxRt`], but loans have no effect.
pub(crate) type Indifferent = Variant<RawFutexPiMutex, false>;

/// As [`LinuxRt`], but a table's lock does not inherit.
pub(crate) type OrdinaryLock = Variant<RawParkingMutex, true>;

impl<L, const LOANS: bool> Variant<L, LOANS> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

static TABLE: PiTurnstiles<Indifferent> = PiTurnstiles::new(Variant::new());

fn real() -> LinuxRt {
    LinuxRt::new().expect("checked at the start of every test")
}

// SAFETY: all calls go to `LinuxRt`.
unsafe impl<L: RawMutex + Send + Sync, const LOANS: bool> Scheduler for Variant<L, LOANS> {
    type RawLock = L;

    fn current(&self) -> ThreadId {
        real().current()
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        if LOANS { real().priority(thread) } else { real().own_priority(thread) }
    }

    fn park(&self) {
        real().park();
    }

    fn unpark(&self, thread: ThreadId) {
        real().unpark(thread);
    }
}

// SAFETY: does nothing, or calls `LinuxRt`.
unsafe impl<L: RawMutex + Send + Sync, const LOANS: bool> LendingScheduler for Variant<L, LOANS> {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        real().own_priority(thread)
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        if LOANS {
            real().lend(thread, priority);
        }
    }

    fn unlend(&self, thread: ThreadId) {
        if LOANS {
            real().unlend(thread);
        }
    }

    fn is_unsettled(&self) -> bool {
        LOANS && real().is_unsettled()
    }

    fn settle(&self) {
        if LOANS {
            real().settle();
        }
    }
}

// SAFETY: all calls go to `LinuxRt`.
unsafe impl<L: RawMutex + Send + Sync, const LOANS: bool> TimedScheduler for Variant<L, LOANS> {
    type Instant = <LinuxRt as TimedScheduler>::Instant;
    type Duration = Duration;

    fn after(&self, duration: Duration) -> Option<Self::Instant> {
        real().after(duration)
    }

    fn is_past(&self, deadline: Self::Instant) -> bool {
        real().is_past(deadline)
    }

    fn park_until(&self, deadline: Self::Instant) {
        real().park_until(deadline);
    }
}

// SAFETY: a static; small ids.
unsafe impl LockScheduler for Indifferent {
    fn table() -> &'static PiTurnstiles<Self> {
        &TABLE
    }
}

/// Makes the current thread run as `SCHED_FIFO` on the machine's last processor, where the scenarios take place.
pub(crate) fn fifo_on_one_processor(priority: u8) {
    on_one_processor(Policy::Fifo(priority));
}

/// Makes the current thread run so on the machine's last processor.
pub(crate) fn on_one_processor(policy: Policy) {
    run_on(policy, <[usize]>::last);
}

/// Makes the current thread, which conducts a scenario, run before all others, and on another processor if there is one.
pub(crate) fn conduct() {
    run_on(Policy::Fifo(50), <[usize]>::first);
}

fn run_on(policy: Policy, choose: fn(&[usize]) -> Option<&usize>) {
    real().set_policy(policy).expect("the privilege is there");
    // SAFETY: a zeroed set is an empty one; the calls read and write only the local sets.
    unsafe {
        let mut online: libc::cpu_set_t = std::mem::zeroed();
        // The first thread of the process has all that the process may use; this one may have been pinned by its parent.
        assert_eq!(libc::sched_getaffinity(libc::getpid(), size_of::<libc::cpu_set_t>(), &raw mut online), 0);
        let usable: Vec<usize> =
            (0..libc::CPU_SETSIZE as usize).filter(|cpu| libc::CPU_ISSET(*cpu, &online)).collect();
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(*choose(&usable).unwrap(), &mut one);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one), 0);
    }
}

/// What the system says about the current thread: its policy and real-time priority.
pub(crate) fn system_says() -> (i32, i32) {
    let mut parameters = libc::sched_param { sched_priority: 0 };
    // SAFETY: the pointer is to a local.
    unsafe {
        assert_eq!(libc::sched_getparam(0, &raw mut parameters), 0);
        (libc::sched_getscheduler(0), parameters.sched_priority)
    }
}

/// How long the current thread has had a processor.
pub(crate) fn used() -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a local.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Computes for so long, in time of its own.
pub(crate) fn compute(time: Duration) {
    let end = used() + time;
    while used() < end {
        std::hint::spin_loop();
    }
}

/// The scenarios use one processor, one after the other.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Fails instead of hanging.
pub(crate) fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    if finished.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
        panic!("still running after {limit:?}");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
