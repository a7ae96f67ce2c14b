//! Points, and how a CPU waits.
//!
//! No wait spins longer than a moment: it parks on the CPU's doorbell, which interrupts ring too, or
//! yields. In deterministic mode both give the baton away.

use std::sync::{MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::baton::Event;
use super::context;
use super::machine::SimMachine;
use super::mmu::Mmu;
use super::turns::Stuck;

/// How much rarer speculation is at points than at accesses.
const KERNEL_SPECULATION: u32 = 4;

impl SimMachine {
    /// A place where other CPUs may run.
    #[inline]
    pub(super) fn point_of(&self, cpu: usize, event: Event, detail: u64) {
        self.poll(cpu);
        if let Some(turns) = &self.doorbells.turns {
            turns.point(cpu, event, detail, &self.doorbells.bells);
            self.speculate_at_point(cpu);
            // Somebody may have sent an interrupt meanwhile.
            self.poll(cpu);
        } else if self.config.adversary.pause_one_in != 0 {
            self.pause(cpu);
            self.speculate_at_point(cpu);
        }
    }

    /// Once in a while, a translation is filled while the CPU is busy with something else.
    fn speculate_at_point(&self, cpu: usize) {
        let one_in = self.config.adversary.speculate_one_in.saturating_mul(KERNEL_SPECULATION);
        if one_in != 0 && (self.cpus[cpu].roll() as u32).is_multiple_of(one_in) {
            self.speculate_idly(cpu);
        }
    }

    /// Once in a while, stands still for a moment.
    fn pause(&self, cpu: usize) {
        let roll = self.cpus[cpu].roll();
        if !(roll as u32).is_multiple_of(self.config.adversary.pause_one_in) {
            return;
        }
        match (roll >> 32) % 16 {
            0 => std::thread::sleep(Duration::from_micros(10 + (roll >> 40) % 60)),
            1..=5 => (0..(roll >> 40) % 400).for_each(|_| core::hint::spin_loop()),
            _ => std::thread::yield_now(),
        }
    }

    /// Waits for the doorbell of CPU `cpu`, the caller's. Unwinds if the machine is poisoned, unless `quiet`.
    pub(super) fn park(&self, cpu: usize, why: &'static str, quiet: bool) {
        let poll = || {
            if quiet {
                self.take_all(cpu)
            } else {
                self.poll_now(cpu)
            }
            self.serve_masked(cpu);
        };
        poll();
        if self.poison.is_set() {
            // Unwinding, or quiet: what is waited for comes from threads that unwind as well.
            std::thread::yield_now();
            return;
        }
        match &self.doorbells.turns {
            Some(turns) => {
                if let Err(Stuck(words)) = turns.park(cpu, why, &self.doorbells.bells) {
                    self.poison(None, words);
                }
            }
            None => self.doorbells.bells[cpu].park(),
        }
        poll();
    }

    /// One turn of a waiting loop of CPU `cpu`, the caller's.
    pub(super) fn relax_on(&self, cpu: usize) {
        self.poll_now(cpu);
        self.serve_masked(cpu);
        if self.poison.is_set() {
            // As in `park`.
            std::thread::yield_now();
            return;
        }
        if self.doorbells.bells[cpu].take() {
            return;
        }
        match &self.doorbells.turns {
            Some(turns) => {
                if let Err(Stuck(words)) = turns.relax(cpu, &self.doorbells.bells) {
                    self.poison(None, words);
                }
            }
            None => {
                for _ in 0..16 {
                    core::hint::spin_loop();
                }
                if !self.doorbells.bells[cpu].is_rung() {
                    std::thread::yield_now();
                }
            }
        }
        self.poll_now(cpu);
    }

    /// Waits until `condition` is true; the current CPU takes interrupts and sleeps meanwhile. Whoever
    /// makes the condition true calls [`wake`](crate::Machine::wake) for this CPU afterwards (or
    /// [`wake_all`](Self::wake_all)).
    ///
    /// The condition may be evaluated any number of times. It must not panic and must not wait.
    ///
    /// # Panics
    ///
    /// If the machine is poisoned, or in deterministic mode if no CPU can run any more; or if the calling
    /// thread is no CPU of this machine.
    pub fn wait_until(&self, mut condition: impl FnMut() -> bool) {
        let cpu = self.here();
        loop {
            self.poll_now(cpu);
            if condition() {
                return;
            }
            self.park(cpu, "wait_until", false);
        }
    }

    /// [`wake`](crate::Machine::wake) for every CPU.
    pub fn wake_all(&self) {
        (0..self.cpus.len()).for_each(|cpu| self.doorbells.ring(cpu));
    }

    /// The translation hardware of a CPU. A leaf lock: its holder waits for nothing.
    pub(super) fn mmu(&self, cpu: usize) -> MutexGuard<'_, Mmu> {
        let lock = &self.cpus[cpu].mmu;
        let Some(turns) = &self.doorbells.turns else {
            return lock.lock().unwrap_or_else(PoisonError::into_inner);
        };
        // Its holder may be a CPU that has lost the baton in the middle of a walk.
        loop {
            match lock.try_lock() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(error)) => return error.into_inner(),
                Err(TryLockError::WouldBlock) => match context::cpu_of(self) {
                    Some(me) if !context::is_proxy() && !self.poison.is_set() => {
                        if let Err(Stuck(words)) = turns.relax(me, &self.doorbells.bells) {
                            self.poison(None, words);
                        }
                    }
                    _ => std::thread::yield_now(),
                },
            }
        }
    }
}
