//! How far each recorded CPU is, and who waits for that.

use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use turnstile::{Address, Decision, LockScheduler as _, Queue};

use crate::sched::KernelScheduler;
use crate::trace::{Stream, Wait};

/// Looks before a thread parks.
const LOOKS: usize = 500;

/// One CPU's entry, on cache lines of its own.
#[repr(align(128))]
#[derive(Default)]
struct Entry {
    /// Steps done.
    done: AtomicU32,
    /// Threads that are parked, or about to be, until it is more.
    waiters: AtomicU32,
}

/// Progress of all CPUs.
pub(super) struct Ledger {
    cpus: Vec<Entry>,
    /// The replay is being given up.
    stopped: AtomicBool,
}

/// The replay is being given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stopped;

impl Ledger {
    pub(super) fn new(stream: &Stream<'_>) -> Self {
        Self { cpus: (0..stream.cpus()).map(|_| Entry::default()).collect(), stopped: AtomicBool::new(false) }
    }

    /// Whether the step that is waited for is done.
    pub(super) fn is_done(&self, wait: Wait) -> bool {
        // ORD: SeqCst: pairs with `done`, so that what the step did is visible; and see `park`.
        self.cpus.get(wait.cpu as usize).is_none_or(|cpu| cpu.done.load(Ordering::SeqCst) > wait.position)
    }

    /// Looks for a while whether the step is done.
    pub(super) fn spin(&self, wait: Wait) -> bool {
        (0..LOOKS).any(|_| {
            spin_loop();
            self.is_done(wait) || self.is_stopped()
        })
    }

    /// Waits until the step is done, or `gives_up`.
    pub(super) fn park(&self, wait: Wait, gives_up: impl Fn() -> bool) -> Result<(), Stopped> {
        let Some(cpu) = self.cpus.get(wait.cpu as usize) else { return Ok(()) };
        // ORD: SeqCst pairs with `done`: it counts its step and then looks here, we count ourselves and then look at its steps,
        // so one of us sees the other.
        cpu.waiters.fetch_add(1, Ordering::SeqCst);
        let is_over = || self.is_done(wait) || self.is_stopped() || gives_up();
        while !is_over() {
            // Nobody owns a step, so there is no cycle, hence no error.
            let _ = KernelScheduler::table().block(Address::of(cpu), Queue::Shared, 0, |_| {
                if is_over() { Decision::Proceed } else { Decision::Wait }
            });
        }
        cpu.waiters.fetch_sub(1, Ordering::SeqCst); // ORD: as above
        if self.is_stopped() { Err(Stopped) } else { Ok(()) }
    }

    /// A CPU has done its next step.
    pub(super) fn done(&self, cpu: u32) {
        let Some(cpu) = self.cpus.get(cpu as usize) else { return };
        // ORD: SeqCst, both: see `park`.
        cpu.done.fetch_add(1, Ordering::SeqCst);
        if cpu.waiters.load(Ordering::SeqCst) > 0 {
            KernelScheduler::table().wake_all(Address::of(cpu), Queue::Shared);
        }
    }

    /// Makes everybody stop.
    pub(super) fn stop(&self) {
        // ORD: SeqCst: before the wake-ups, see `park`.
        self.stopped.store(true, Ordering::SeqCst);
        self.wake_all();
    }

    /// Has everybody look again whether to go on.
    pub(super) fn wake_all(&self) {
        for cpu in &self.cpus {
            KernelScheduler::table().wake_all(Address::of(cpu), Queue::Shared);
        }
    }

    /// Whether everybody is to stop.
    pub(super) fn is_stopped(&self) -> bool {
        // ORD: SeqCst: see `stop`.
        self.stopped.load(Ordering::SeqCst)
    }

    /// Steps done by all CPUs.
    pub(super) fn steps(&self) -> u64 {
        // ORD: Relaxed; a count.
        self.cpus.iter().map(|cpu| u64::from(cpu.done.load(Ordering::Relaxed))).sum()
    }
}
