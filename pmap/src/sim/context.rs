//! Which CPU the calling host thread is, and how it waits.
//!
//! Locks, the scheduler and the machine all come here, because none of them can carry a reference to
//! the machine: a raw lock starts from a constant. The binding is a thread-local pointer that is set for
//! the duration of [`SimMachine::run_cpu`].

use std::cell::{Cell, OnceCell};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::vec::Vec;

use super::baton::Event;
use super::doorbell::{Bell, Doorbell};
use super::machine::SimMachine;
use super::turns::Turns;

/// What the calling thread runs as.
#[derive(Clone, Copy)]
struct Binding {
    machine: NonNull<SimMachine>,
    cpu: usize,
    /// Serves a shootdown in the name of a CPU that no thread runs.
    proxy: bool,
}

std::thread_local! {
    static BINDING: Cell<Option<Binding>> = const { Cell::new(None) };
    static UNBOUND: OnceCell<(usize, Arc<Doorbell>)> = const { OnceCell::new() };
}

/// The calling thread's CPU.
#[derive(Clone, Copy)]
pub(super) struct Here<'m> {
    pub(super) machine: &'m SimMachine,
    pub(super) cpu: usize,
    pub(super) proxy: bool,
}

/// Calls `f` with the CPU that the thread runs as, if any.
#[inline]
pub(super) fn with<R>(f: impl FnOnce(Option<Here<'_>>) -> R) -> R {
    match BINDING.get() {
        None => f(None),
        Some(Binding { machine, cpu, proxy }) => {
            // SAFETY: a binding exists only inside `bound`, whose caller lends the machine for that long;
            // `f` cannot keep the reference, its lifetime is of this call's choosing.
            let machine = unsafe { machine.as_ref() };
            f(Some(Here { machine, cpu, proxy }))
        }
    }
}

/// The CPU of `machine` that the thread runs as.
#[inline]
pub(super) fn cpu_of(machine: &SimMachine) -> Option<usize> {
    BINDING.get().filter(|b| core::ptr::eq(b.machine.as_ptr(), machine)).map(|b| b.cpu)
}

/// Whether the thread serves in the name of another CPU.
pub(super) fn is_proxy() -> bool {
    BINDING.get().is_some_and(|b| b.proxy)
}

/// Runs `f` as a CPU; the binding before is back afterwards, also after a panic.
pub(super) fn bound<R>(machine: &SimMachine, cpu: usize, proxy: bool, f: impl FnOnce() -> R) -> R {
    struct Restore(Option<Binding>);
    impl Drop for Restore {
        fn drop(&mut self) {
            BINDING.set(self.0);
        }
    }
    let binding = Binding { machine: NonNull::from(machine), cpu, proxy };
    let _restore = Restore(BINDING.replace(Some(binding)));
    f()
}

/// Runs `f`, during which other tasks may run on this host thread and be other CPUs.
pub(super) fn as_nobody(f: impl FnOnce()) {
    let binding = BINDING.take();
    f();
    BINDING.set(binding);
}

/// Names of threads that are no CPU begin here, above all CPUs'.
pub(super) const FIRST_UNBOUND: usize = 1 << 32;

/// Doorbells of threads that are no CPU, by name.
static THREADS: Mutex<Vec<(usize, Weak<Doorbell>)>> = Mutex::new(Vec::new());

fn unbound<R>(f: impl FnOnce(usize, &Arc<Doorbell>) -> R) -> R {
    static NEXT: AtomicUsize = AtomicUsize::new(FIRST_UNBOUND);
    UNBOUND.with(|cell| {
        let (id, bell) = cell.get_or_init(|| {
            // ORD: Relaxed; only uniqueness matters.
            let id = NEXT.fetch_add(1, Ordering::Relaxed);
            let bell = Arc::new(Doorbell::default());
            let mut threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
            threads.retain(|(_, bell)| bell.strong_count() > 0);
            threads.push((id, Arc::downgrade(&bell)));
            (id, bell)
        });
        f(*id, bell)
    })
}

/// The name of a thread that is no CPU.
pub(super) fn unbound_id() -> usize {
    unbound(|id, _| id)
}

/// Rings for a thread that is no CPU, if it still lives.
pub(super) fn ring_unbound(id: usize) {
    let threads = THREADS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(bell) = threads.iter().find(|(i, _)| *i == id).and_then(|(_, bell)| bell.upgrade()) {
        bell.ring();
    }
}

/// The bell that wakes the calling thread.
pub(super) fn bell() -> Bell {
    with(|here| match here {
        Some(here) => Bell::Cpu(Arc::clone(&here.machine.doorbells), here.cpu),
        None => unbound(|_, bell| Bell::Thread(Arc::clone(bell))),
    })
}

/// A point: interrupts may be taken, and another CPU may run. Never unwinds.
#[inline]
pub(super) fn point(event: Event) {
    with(|here| {
        if let Some(here) = here.filter(|h| !h.proxy) {
            here.machine.point_of(here.cpu, event, 0);
        }
    });
}

/// Waits for the calling thread's bell, taking interrupts before and after; `why` is for the deadlock report.
/// If `quiet`, it does not unwind even if the machine is poisoned: for locks that nobody holds across a wait.
pub(super) fn park(why: &'static str, quiet: bool) {
    with(|here| match here {
        Some(here) => here.machine.park(here.cpu, why, quiet),
        None => unbound(|_, bell| bell.park()),
    });
}

/// Takes interrupts and lets others run.
pub(super) fn relax() {
    with(|here| {
        if let Some(here) = here.filter(|h| !h.proxy) {
            here.machine.poll_now(here.cpu);
            here.machine.point_of(here.cpu, Event::Point, 0);
            if let Some(turns @ Turns::Executor(_)) = &here.machine.doorbells.turns {
                turns.spin();
            }
        }
    });
    if may_spin() {
        std::thread::yield_now();
    }
}

/// Whether spinning for a moment can help: not where only one CPU runs.
pub(super) fn may_spin() -> bool {
    with(|here| here.is_none_or(|here| here.machine.doorbells.turns.is_none()))
}
