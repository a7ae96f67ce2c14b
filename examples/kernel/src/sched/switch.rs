//! Switching: who runs next on this CPU, and when.
//!
//! A CPU switches when its thread parks, yields or ends, when an interrupt handler returns, and when interrupts or preemption are allowed
//! again; in the last three cases only if it was asked to look. Never while its thread has asked to stay ([`without_preemption`]) or holds a
//! spin lock, which keeps interrupts off.

use core::sync::atomic::{AtomicBool, Ordering};

use pmap::CpuId;
use x86_64::instructions::interrupts;

use super::run_queue::Place;
use super::state::{STATE, State, TURN, answered, ask, is_asked};
use super::thread::{Phase, Thread};
use super::{BOOT_CPU, sleep};
use crate::arch::{context, percpu};
use crate::machine;

/// Whether a CPU keeps the address space of its last thread while it runs threads that have none.
static KEEPS_SPACES: AtomicBool = AtomicBool::new(true);

/// Chooses whether a CPU that goes from a process to a kernel thread keeps the process's address space loaded, as it does unless it is told otherwise: it
/// stays a target of that address space's shootdowns, and need not load anything if the process goes on.
pub(crate) fn keep_address_spaces(keep: bool) {
    // ORD: Relaxed: either way is right at any time.
    KEEPS_SPACES.store(keep, Ordering::Relaxed);
}

/// The current thread.
#[inline]
pub(crate) fn current() -> &'static Thread {
    // SAFETY: set before the CPU's first interrupt, to blocks, which are never freed; and always this thread's own when it asks.
    unsafe { &*percpu::current_thread() }
}

/// Switches to whom it may concern: the most urgent ready thread, or the idle one. `me` has been queued, parked or ended.
pub(super) fn run_next(state: &State, me: &'static Thread) {
    let cpu = percpu::current_cpu();
    answered(state, cpu);
    let here = &state.cpus[cpu.index()];
    let next = match state.ready.first(&state.held, cpu) {
        Some(first) => {
            state.ready.remove(&state.held, first);
            first
        }
        None => here.idle.get().expect("a CPU in service has an idle thread"),
    };
    let its = next.scheduling(&state.held);
    its.phase.set(Phase::Running);
    its.cpu.set(cpu);
    if its.turn.get() == 0 {
        its.turn.set(TURN);
    }
    if next == me {
        return;
    }
    let fits = me.stack().is_none_or(|stack| stack.is_intact());
    assert!(
        fits,
        "the kernel stack of the thread \"{}\" is too small",
        me.scheduling(&state.held).name.get()
    );
    here.current.set(Some(next));
    // SAFETY: interrupts are off (the lock is held), and this is the thread whose stack is taken below.
    unsafe { percpu::set_current_thread(next, next.stack().map(|stack| stack.top())) };
    load_space(state, next);
    let (from, to) = (me.scheduling(&state.held).stack_pointer.as_ptr(), its.stack_pointer.get());
    // SAFETY: `to` was stored by a switch from that thread, or made by `context::prepare`, and nobody else goes on from it: its
    // phase was changed under the lock, which is held until that thread has its stack, and releases it.
    unsafe { context::switch(from, to) };
    // Some switch came back to this thread, perhaps on another CPU. The lock is held, on its behalf now.
}

/// Loads the address space of a thread that is about to run, if it has one. Kernel threads run in any.
fn load_space(state: &State, next: &'static Thread) {
    let space = next.scheduling(&state.held).space.get();
    // ORD: Relaxed: see `keep_address_spaces`.
    match space {
        // SAFETY: whoever gave it to the thread keeps it until it is taken from the thread (`set_address_space`).
        Some(space) => unsafe { space.as_ref() }.activate(),
        None if !KEEPS_SPACES.load(Ordering::Relaxed) => leave_space(),
        None => {}
    }
}

/// Loads the kernel's own tables.
pub(super) fn leave_space() {
    if let Some(system) = machine::system() {
        system.activate_kernel();
    }
}

/// Looks for somebody who should run instead, as this CPU was asked to. Interrupts are off.
#[cold]
fn preempt() {
    let me = current();
    let state = STATE.lock();
    let cpu = percpu::current_cpu();
    answered(&state, cpu);
    if state.cpus[cpu.index()].leaves.take() && me.scheduling(&state.held).space.get().is_none() {
        leave_space();
    }
    if !state.should_switch(me, cpu) {
        return;
    }
    if state.cpus[cpu.index()].idle.get() != Some(me) {
        let mine = me.scheduling(&state.held);
        mine.phase.set(Phase::Ready);
        let place = if mine.turn.get() == 0 { Place::Back } else { Place::Front };
        state.ready.push(&state.held, me, place);
        // This CPU is taken; perhaps another one is free for it.
        let first = state.ready.first(&state.held, cpu).map(|first| first.scheduling(&state.held).rank.get());
        state.cpus[cpu.index()].promised.set(first);
        state.place(me);
    }
    run_next(&state, me);
}

/// For the end of an interrupt handler, with interrupts off: the thread that it came upon may have to make room.
pub(crate) fn preempt_if_due() {
    if is_asked() && !current().stays() {
        preempt();
    }
}

/// Enables interrupts, once whoever is due has run. They are off.
pub(super) fn enable_interrupts() {
    preempt_if_due();
    interrupts::enable();
}

/// The timer's interrupt, on every CPU.
pub(crate) fn tick() {
    let cpu = percpu::current_cpu();
    let state = STATE.lock();
    if cpu == BOOT_CPU {
        let now = sleep::count_tick();
        while let Some(thread) = state.sleepers.due(&state.held, now) {
            state.wake(thread);
        }
    }
    let Some(me) = state.cpus[cpu.index()].current.get() else { return };
    let turn = &me.scheduling(&state.held).turn;
    turn.set(turn.get().saturating_sub(1));
    if state.should_switch(me, cpu) {
        ask(cpu);
    } else if turn.get() == 0 {
        turn.set(TURN);
    }
}

/// Runs `f` without switching to another thread, hence on one CPU; interrupts are still taken. `f` must not park.
pub(crate) fn without_preemption<R>(f: impl FnOnce() -> R) -> R {
    let me = current();
    me.stay();
    let result = f();
    if me.may_go() && is_asked() && interrupts::are_enabled() {
        interrupts::disable();
        enable_interrupts();
    }
    result
}

/// Whether the calling thread is kept on its CPU.
pub(crate) fn is_pinned() -> bool {
    current().stays() || !interrupts::are_enabled()
}

/// Lets the thread's equals have their turn.
pub(crate) fn yield_now() {
    let me = current();
    let state = STATE.lock();
    me.scheduling(&state.held).turn.set(0);
    me.scheduling(&state.held).phase.set(Phase::Ready);
    state.ready.push(&state.held, me, Place::Back);
    run_next(&state, me);
}

/// Parks the current thread until its token is there, or until the tick `deadline`; takes the token.
///
/// # Panics
///
/// If the thread has asked to stay on its CPU, or interrupts are off: nobody could run in its place.
pub(super) fn park(deadline: Option<u64>) {
    let me = current();
    assert!(!is_pinned(), "a thread that must stay on its CPU cannot wait for another one");
    let state = STATE.lock();
    let mine = me.scheduling(&state.held);
    if !mine.token.get() {
        match deadline {
            Some(deadline) if deadline <= sleep::ticks() => return,
            Some(deadline) => state.sleepers.insert(&state.held, me, deadline),
            None => {}
        }
        mine.phase.set(Phase::Parked);
        run_next(&state, me);
    }
    mine.token.set(false);
}

/// Gives a thread its token, and wakes it if it is parked.
pub(super) fn unpark(thread: &'static Thread) {
    let state = STATE.lock();
    let its = thread.scheduling(&state.held);
    its.token.set(true);
    if its.phase.get() == Phase::Parked {
        state.wake(thread);
    }
}

/// What a CPU does when there is nothing to do: waits for an interrupt. Its shootdowns are served like anybody's.
pub(super) fn idle() -> ! {
    loop {
        interrupts::disable();
        preempt_if_due();
        // Between the two nothing can come: the interrupts are taken after the halt has begun.
        interrupts::enable_and_hlt();
    }
}

/// Takes the calling CPU into service with `idle` as its thread.
pub(super) fn adopt(idle: &'static Thread, cpu: CpuId) {
    let state = STATE.lock();
    let scheduling = idle.scheduling(&state.held);
    scheduling.name.set("idle");
    scheduling.phase.set(Phase::Running);
    scheduling.cpu.set(cpu);
    state.cpus[cpu.index()].current.set(Some(idle));
    state.cpus[cpu.index()].idle.set(Some(idle));
    // SAFETY: interrupts are off, and the caller runs on the CPU's own stack, which is this thread's from now on.
    unsafe { percpu::set_current_thread(idle, None) };
    // The lock's release looks at the current thread: it is known by now.
    drop(state);
}
