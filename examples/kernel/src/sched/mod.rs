//! Threads, and a preemptive priority scheduler over all CPUs that lends.
//!
//! At any moment the most urgent threads run, as many as there are CPUs. A thread runs at its own priority or at what is lent to it through the
//! turnstiles, whichever is more; equals take turns of [`state::TURN`] ticks. Kernel code is preempted like user code, except where it
//! says otherwise ([`without_preemption`]) and under spin locks.
//!
//! # Locks, and who may take them
//!
//! [`SpinLock`]s are for a few instructions, in interrupt handlers too. [`Mutex`] and [`RwLock`] lend; the pmap's locks are such. Whoever takes
//! one must be able to park, hence be preemptible and have interrupts enabled; [`switch::park`] checks it. The pmap never takes one where it
//! has preemption or interrupts off: there it only sends and awaits shootdowns, loads CR3, and counts.
//!
//! # Shootdowns while waiting
//!
//! A thread that is parked is not on a CPU, and the CPU that it left runs another thread or halts, both with interrupts on. A thread that
//! spins for a spin lock does it with interrupts as they were; where they are off, the holder of that lock does not wait for shootdowns, so the wait is
//! short. An initiator of a shootdown serves the others' itself while it waits. So every CPU serves in finite time.

mod delayed;
mod join;
mod run_queue;
mod scheduler;
pub(crate) mod selftest;
mod sleep;
mod spin;
mod stack;
mod state;
mod switch;
mod thread;

use alloc::boxed::Box;
use core::fmt;

use gencount::{Implementation, dispatch};
use pmap::CpuId;
use turnstile::{LockScheduler as _, Priority, RawPiMutex, RawPiRwLock};

pub(crate) use delayed::domain;
pub(crate) use join::Handle;
pub(crate) use scheduler::{KernelScheduler, set_lending};
pub(crate) use sleep::{TICKS_PER_SECOND, ticks};
pub(crate) use spin::SpinLock;
pub(crate) use switch::{
    current, is_pinned, keep_address_spaces, preempt_if_due, tick, without_preemption, yield_now,
};
pub(crate) use thread::{Space, Thread};

use crate::arch::context;
use join::Completion;
use lock_api::RawMutex as _;
use spin::Saved;
use stack::Stack;
use state::STATE;
use thread::Phase;

/// The CPU that boots, whose timer is the clock.
pub(crate) const BOOT_CPU: CpuId = CpuId::new(0).expect("there is a first CPU");

/// A mutex that lends.
pub(crate) type Mutex<T> = lock_api::Mutex<RawPiMutex<KernelScheduler>, T>;
/// A reader-writer lock that lends.
pub(crate) type RwLock<T> = lock_api::RwLock<RawPiRwLock<KernelScheduler>, T>;

/// No thread could be started: there is no memory for its stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NoStack;

impl fmt::Display for NoStack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("no memory for a thread's stack: give the machine more, or run fewer threads")
    }
}

impl core::error::Error for NoStack {}

/// Does as the command line says; before any other function of this module.
pub(crate) fn configure(di: Option<Implementation>, lends: bool, keeps_address_spaces: bool) {
    if let Some(di) = di {
        // Nothing has been decided before.
        let _ = dispatch::override_with(di);
    }
    set_lending(lends);
    keep_address_spaces(keeps_address_spaces);
}

/// Takes the calling CPU into service: what it runs on becomes its idle thread. With interrupts off, before anything else of
/// this module is used on it, on the boot CPU first. The caller goes on to [`run_cpu`].
pub(crate) fn start_cpu(cpu: CpuId) {
    switch::adopt(Thread::make(None), cpu);
}

/// Runs threads on the calling CPU for ever.
pub(crate) fn run_cpu() -> ! {
    switch::idle()
}

/// Starts a thread.
///
/// # Errors
///
/// [`NoStack`].
pub(crate) fn spawn(
    name: &'static str,
    priority: Priority,
    body: impl FnOnce() + Send + 'static,
) -> Result<Handle, NoStack> {
    start(name, priority, None, Box::new(body))
}

/// Starts a thread that runs on one CPU only.
///
/// # Errors
///
/// [`NoStack`].
pub(crate) fn spawn_on(
    cpu: CpuId,
    name: &'static str,
    priority: Priority,
    body: impl FnOnce() + Send + 'static,
) -> Result<Handle, NoStack> {
    start(name, priority, Some(cpu), Box::new(body))
}

fn start(
    name: &'static str,
    priority: Priority,
    bound: Option<CpuId>,
    body: thread::Body,
) -> Result<Handle, NoStack> {
    let state = STATE.lock();
    let free = state.free.get();
    if let Some(free) = free {
        state.free.set(free.scheduling(&state.held).next_other.take());
    }
    drop(state);
    let thread = match free {
        Some(free) => free,
        None => Thread::make(Some(Stack::new().ok_or(NoStack)?)),
    };
    let completion = Completion::new();
    let top = thread.stack().map(Stack::top).ok_or(NoStack)?;
    // SAFETY: the stack is the thread's, and it does not run.
    let stack_pointer = unsafe { context::prepare(top, begin) };
    let state = STATE.lock();
    let scheduling = thread.scheduling(&state.held);
    scheduling.name.set(name);
    scheduling.token.set(false);
    scheduling.stack_pointer.set(stack_pointer);
    scheduling.body.set(Some(body));
    scheduling.completion.set(Some(completion.clone()));
    scheduling.rank.set(priority.level());
    scheduling.is_bound.set(bound.is_some());
    if let Some(cpu) = bound {
        scheduling.cpu.set(cpu);
    }
    thread.set_own(priority);
    thread.set_lent(Priority::LOWEST);
    thread.set_unsettled(false);
    state.wake(thread);
    Ok(Handle { completion, thread: thread.id() })
}

/// A thread's first step.
extern "C" fn begin() -> ! {
    // SAFETY: the switch that came here holds the lock on our behalf; a thread begins with interrupts enabled.
    unsafe { STATE.raw().unlock(Saved::enabled()) };
    let me = current();
    let body = me.scheduling(&STATE.lock().held).body.take();
    if let Some(body) = body {
        body();
    }
    exit()
}

/// Ends the current thread. What its body holds and has not dropped is never dropped.
pub(crate) fn exit() -> ! {
    let me = current();
    let state = STATE.lock();
    // Before anybody is told, who may then destroy it: this thread can be switched away and back until it has ended.
    me.scheduling(&state.held).space.set(None);
    let completion = me.scheduling(&state.held).completion.take();
    drop(state);
    if let Some(completion) = completion {
        completion.finish();
    }
    let state = STATE.lock();
    let mine = me.scheduling(&state.held);
    mine.phase.set(Phase::Ended);
    // Nobody can use the block before this CPU has left its stack and released the lock.
    mine.next_other.set(state.free.replace(Some(me)));
    switch::run_next(&state, me);
    unreachable!("a thread that has ended goes on")
}

/// Lets `ticks` ticks pass.
pub(crate) fn sleep(ticks: u64) {
    let deadline = sleep::ticks().saturating_add(ticks).saturating_add(1);
    while sleep::ticks() < deadline {
        switch::park(Some(deadline));
    }
}

/// Gives a thread another priority of its own.
pub(crate) fn set_priority(thread: &'static Thread, priority: Priority) {
    let state = STATE.lock();
    thread.set_own(priority);
    let me = current();
    if thread == me {
        // There is nobody whom it has still to wake.
        state.settle(me);
    } else {
        state.follow(thread, me);
    }
    drop(state);
    // Those it waits for inherit the new one.
    KernelScheduler::table().priority_changed(thread.id());
}

/// Gives the current thread an address space, which is loaded now and whenever the thread runs; or takes it away, and loads the kernel's own tables.
///
/// # Safety
///
/// The address space stays alive until another one has been set, or the thread has ended.
pub(crate) unsafe fn set_address_space(space: Option<Space>) {
    let state = STATE.lock();
    current().scheduling(&state.held).space.set(space);
    match space {
        // SAFETY: the caller's promise.
        Some(space) => unsafe { space.as_ref() }.activate(),
        None => switch::leave_space(),
    }
}

/// Has every CPU that keeps an address space for nobody's sake load the kernel's own tables, soon: for whoever finds that one which is to be destroyed
/// is still current somewhere.
pub(crate) fn leave_address_spaces() {
    let state = STATE.lock();
    for cpu in (0..crate::arch::percpu::cpu_count()).filter_map(CpuId::new) {
        state.cpus[cpu.index()].leaves.set(true);
        state::ask(cpu);
    }
}
