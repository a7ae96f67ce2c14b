//! A scheduler that ignores loans, and helpers to place threads.

use std::sync::mpsc;
use std::time::Duration;

use turnstile::{
    LendingScheduler, LinuxRt, LockScheduler, PiTurnstiles, Policy, Priority, Scheduler, ThreadId,
    TimedScheduler,
};

/// The real-time scheduler, or the reason why there is none.
pub(crate) fn scheduler() -> Option<LinuxRt> {
    LinuxRt::new().map_err(|missing| println!("skipped: {missing}")).ok()
}

/// As [`LinuxRt`], but loans have no effect.
pub(crate) struct Indifferent;

static TABLE: PiTurnstiles<Indifferent> = PiTurnstiles::new(Indifferent);

fn real() -> LinuxRt {
    LinuxRt::new().expect("checked at the start of every test")
}

// SAFETY: all calls go to `LinuxRt`.
unsafe impl Scheduler for Indifferent {
    type RawLock = <LinuxRt as Scheduler>::RawLock;

    fn current(&self) -> ThreadId {
        real().current()
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        real().own_priority(thread)
    }

    fn park(&self) {
        real().park();
    }

    fn unpark(&self, thread: ThreadId) {
        real().unpark(thread);
    }
}

// SAFETY: does nothing, or calls `LinuxRt`.
unsafe impl LendingScheduler for Indifferent {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        real().own_priority(thread)
    }

    fn lend(&self, _: ThreadId, _: Priority) {}

    fn unlend(&self, _: ThreadId) {}
}

// SAFETY: all calls go to `LinuxRt`.
unsafe impl TimedScheduler for Indifferent {
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
    fifo_on(priority, <[usize]>::last);
}

/// Makes the current thread, which conducts a scenario, run before all others, and on another processor if there is one.
pub(crate) fn conduct() {
    fifo_on(50, <[usize]>::first);
}

fn fifo_on(priority: u8, choose: fn(&[usize]) -> Option<&usize>) {
    real().set_policy(Policy::Fifo(priority)).expect("a real-time policy");
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

/// Computes for so long, in time of its own.
pub(crate) fn compute(time: Duration) {
    let used = || {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the pointer is to a local.
        unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut now) };
        Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
    };
    let end = used() + time;
    while used() < end {
        std::hint::spin_loop();
    }
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
