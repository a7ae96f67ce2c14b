//! What the scheduler decides by: who could run, who does, who sleeps. Under one lock.
//!
//! The rule is that the most urgent threads run: as many as there are CPUs, but for those that are bound to one. Whoever makes a
//! thread ready, or changes how urgent one is, asks the CPU on which that matters to look again ([`State::place`]); a CPU that is asked
//! does so when it next may switch. A tick asks again, so nothing rests on it that an interrupt comes at once.

use core::cell::Cell;
use core::sync::atomic::{AtomicBool, Ordering};

use pmap::{CpuId, MAX_CPUS};

use super::run_queue::{Place, RunQueue};
use super::sleep::Sleepers;
use super::spin::SpinLock;
use super::thread::{Held, Phase, Thread};
use crate::arch::{apic, percpu};

/// Ticks that a thread runs before its equals have a turn.
pub(super) const TURN: u32 = 2;

/// The scheduler's lock, and what it guards. It is a leaf: nothing is locked under it. Whoever switches to another thread holds it
/// across the switch, and the other thread releases it: so nobody finds a thread ready that has not left its stack.
pub(super) static STATE: SpinLock<State> = SpinLock::new(State {
    // SAFETY: the one that the lock guards.
    held: unsafe { Held::new() },
    ready: RunQueue::new(),
    sleepers: Sleepers::new(),
    free: Cell::new(None),
    cpus: [const {
        Cpu {
            current: Cell::new(None),
            idle: Cell::new(None),
            promised: Cell::new(None),
            leaves: Cell::new(false),
        }
    }; MAX_CPUS],
});

/// CPUs that are asked to look whether another thread should run.
static DUE: [AtomicBool; MAX_CPUS] = [const { AtomicBool::new(false) }; MAX_CPUS];

pub(super) struct State {
    pub(super) held: Held,
    pub(super) ready: RunQueue,
    pub(super) sleepers: Sleepers,
    /// Blocks of threads that have ended.
    pub(super) free: Cell<Option<&'static Thread>>,
    pub(super) cpus: [Cpu; MAX_CPUS],
}

/// What runs on one CPU.
pub(super) struct Cpu {
    /// The thread; nothing before the CPU has been taken into service.
    pub(super) current: Cell<Option<&'static Thread>>,
    /// The thread that waits for interrupts when there is nothing to do.
    pub(super) idle: Cell<Option<&'static Thread>>,
    /// The rank of the thread for which the CPU was asked to look, and has not yet.
    pub(super) promised: Cell<Option<u8>>,
    /// It was asked to load the kernel's tables if its thread has none of its own.
    pub(super) leaves: Cell<bool>,
}

impl Cpu {
    /// The rank of what it runs or is about to; an idle CPU has none.
    fn rank(&self, held: &Held) -> Option<u8> {
        let running = self.current.get().filter(|thread| self.idle.get() != Some(*thread));
        running.map(|thread| thread.scheduling(held).rank.get()).max(self.promised.get())
    }
}

impl State {
    /// Lets a thread run when its turn comes that was parked, or is new.
    pub(super) fn wake(&self, thread: &'static Thread) {
        self.sleepers.remove(&self.held, thread);
        let scheduling = thread.scheduling(&self.held);
        scheduling.phase.set(Phase::Ready);
        scheduling.turn.set(TURN);
        self.ready.push(&self.held, thread, Place::Back);
        self.place(thread);
    }

    /// Asks the CPU that runs the least urgent thread to look at the run queue, if `thread`, which is in it, is more urgent.
    pub(super) fn place(&self, thread: &'static Thread) {
        let scheduling = thread.scheduling(&self.held);
        let last = scheduling.cpu.get();
        let cpus = || (0..percpu::cpu_count()).filter_map(CpuId::new);
        let served = cpus().filter(|cpu| self.cpus[cpu.index()].current.get().is_some());
        let eligible = served.filter(|cpu| !scheduling.is_bound.get() || *cpu == last);
        // Where it ran last if it is all the same.
        let least = eligible.min_by_key(|cpu| (self.cpus[cpu.index()].rank(&self.held), *cpu != last));
        if let Some(cpu) = least
            && self.cpus[cpu.index()].rank(&self.held) < Some(scheduling.rank.get())
        {
            self.cpus[cpu.index()].promised.set(Some(scheduling.rank.get()));
            ask(cpu);
        }
    }

    /// Asks `cpu` to look at the run queue if there is somebody more urgent than what it runs, which has been lowered.
    pub(super) fn look_again(&self, cpu: CpuId) {
        if let Some(first) = self.ready.first(&self.held, cpu)
            && self.cpus[cpu.index()].rank(&self.held) < Some(first.scheduling(&self.held).rank.get())
        {
            ask(cpu);
        }
    }

    /// Whether `cpu`, which runs `me`, should switch to another thread: a more urgent one, or an equal after its turn.
    pub(super) fn should_switch(&self, me: &'static Thread, cpu: CpuId) -> bool {
        let Some(first) = self.ready.first(&self.held, cpu) else { return false };
        let (mine, its) = (me.scheduling(&self.held), first.scheduling(&self.held));
        self.cpus[cpu.index()].idle.get() == Some(me)
            || its.rank.get() > mine.rank.get()
            || (its.rank.get() == mine.rank.get() && mine.turn.get() == 0)
    }

    /// Follows a change of a thread's own priority or its loan. `caller` is the thread that makes it: if that is lowered itself, it goes on as before
    /// until it [settles](State::settle), because it has still to wake those it let go on (INV-L-8 of turnstile).
    pub(super) fn follow(&self, thread: &'static Thread, caller: &'static Thread) {
        let scheduling = thread.scheduling(&self.held);
        let (before, now) = (scheduling.rank.get(), thread.priority().level());
        if now < before && (thread == caller || thread.is_unsettled()) {
            thread.set_unsettled(true);
            return;
        }
        thread.set_unsettled(false);
        self.rank(thread, now);
    }

    /// Lowers the calling thread to what it is lent now.
    pub(super) fn settle(&self, me: &'static Thread) {
        me.set_unsettled(false);
        self.rank(me, me.priority().level());
    }

    /// Schedules a thread by `rank` from now on.
    fn rank(&self, thread: &'static Thread, rank: u8) {
        let scheduling = thread.scheduling(&self.held);
        let before = scheduling.rank.get();
        if rank == before {
            return;
        }
        match scheduling.phase.get() {
            Phase::Ready => {
                self.ready.remove(&self.held, thread);
                scheduling.rank.set(rank);
                // Who is lowered was about to go on: it does so before its new equals.
                let place = if rank < before { Place::Front } else { Place::Back };
                self.ready.push(&self.held, thread, place);
                self.place(thread);
            }
            Phase::Running => {
                scheduling.rank.set(rank);
                self.look_again(scheduling.cpu.get());
            }
            Phase::Parked | Phase::Ended => scheduling.rank.set(rank),
        }
    }
}

/// Has a CPU look whether another thread should run.
pub(super) fn ask(cpu: CpuId) {
    // ORD: Relaxed: what the CPU looks at is under the lock, which the asker holds.
    DUE[cpu.index()].store(true, Ordering::Relaxed);
    if cpu != percpu::current_cpu() {
        apic::send_reschedule(cpu);
    }
}

/// Whether the current CPU is asked; with interrupts disabled, or as a hint.
pub(super) fn is_asked() -> bool {
    // ORD: Relaxed: a hint; looking takes the lock.
    DUE[percpu::current_cpu().index()].load(Ordering::Relaxed)
}

/// The current CPU looks now. Under the lock.
pub(super) fn answered(state: &State, cpu: CpuId) {
    // ORD: Relaxed: under the lock, as the store in `ask`.
    DUE[cpu.index()].store(false, Ordering::Relaxed);
    state.cpus[cpu.index()].promised.set(None);
}
