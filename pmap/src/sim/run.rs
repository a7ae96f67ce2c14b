//! Host threads that run as CPUs, and what becomes of the others when one panics.
//!
//! A panic poisons the machine (INV-M-12): every other CPU panics too, at its next access or wait,
//! because what it waits for may never come. Points and unlocks never unwind: the code around them may
//! be half-way through a step. A CPU that unwinds still serves interrupts and still waits for locks,
//! since those whom it waits for unwind as well and let go.

use std::format;
use std::string::{String, ToString};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread::ScopedJoinHandle;
use std::vec::Vec;

use super::config::SimError;
use super::context;
use super::cpu::{BOUND, PROXY, UNBOUND};
use super::machine::SimMachine;
use super::turns::Stuck;
use crate::CpuId;

/// Why a machine does not go on.
#[derive(Default)]
pub(super) struct Poison {
    set: AtomicBool,
    reason: Mutex<Option<(Option<usize>, String)>>,
}

impl Poison {
    pub(super) fn is_set(&self) -> bool {
        // ORD: Acquire pairs with the Release in `SimMachine::poison`.
        self.set.load(Ordering::Acquire)
    }

    /// Who poisoned it (no CPU if all were stuck), and why.
    fn reason(&self) -> (Option<usize>, String) {
        let reason = self.reason.lock().unwrap_or_else(PoisonError::into_inner);
        reason.clone().unwrap_or((None, String::new()))
    }
}

impl SimMachine {
    /// Runs `f` as CPU `cpu` on the calling thread.
    ///
    /// In deterministic mode the thread first waits for the baton. A panic in `f` poisons the machine:
    /// other CPUs panic too, at their next access or wait, instead of waiting for ever.
    ///
    /// # Panics
    ///
    /// If the machine has no such CPU, another thread runs as it, or the calling thread is a CPU of this
    /// machine already; [`try_run_cpu`](Self::try_run_cpu) returns these as errors.
    pub fn run_cpu<R>(&self, cpu: CpuId, f: impl FnOnce() -> R) -> R {
        match self.try_run_cpu(cpu, f) {
            Ok(result) => result,
            Err(error) => panic!("run_cpu: {error}"),
        }
    }

    /// As [`run_cpu`](Self::run_cpu), but says so if the CPU cannot be run.
    ///
    /// # Errors
    ///
    /// [`SimError::NoSuchCpu`], [`SimError::CpuBusy`], [`SimError::AlreadyBound`]; `f` has not been called.
    pub fn try_run_cpu<R>(&self, cpu: CpuId, f: impl FnOnce() -> R) -> Result<R, SimError> {
        let cpu = cpu.index();
        let this = self.cpus.get(cpu).ok_or(SimError::NoSuchCpu { cpu })?;
        if let Some(cpu) = context::cpu_of(self) {
            return Err(SimError::AlreadyBound { cpu });
        }
        loop {
            // ORD: SeqCst; pairs with the stores that give the binding up, and stands before the poll
            // (INV-M-8).
            let bound = this.binding.compare_exchange(UNBOUND, BOUND, Ordering::SeqCst, Ordering::Relaxed);
            match bound {
                Ok(_) => break,
                Err(PROXY) => match &self.doorbells.turns {
                    Some(turns) => turns.spin(),
                    None => std::thread::yield_now(),
                },
                Err(_) => return Err(SimError::CpuBusy { cpu }),
            }
        }
        let outcome = context::bound(self, cpu, false, || {
            if let Some(turns) = &self.doorbells.turns {
                turns.enter(cpu, &self.doorbells.bells);
            }
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                self.poll_now(cpu);
                f()
            }));
            if let Err(payload) = &outcome {
                self.poison(Some(cpu), panic_message(payload.as_ref()));
            }
            // A panic may have left interrupts off.
            this.masked.store(0, Ordering::Relaxed); // ORD: Relaxed; own thread's word.
            self.take_all(cpu);
            // ORD: SeqCst; before the look at `pending` below (INV-M-8), and Release for the next thread.
            this.binding.store(UNBOUND, Ordering::SeqCst);
            self.serve_if_unbound(cpu);
            outcome
        });
        if let Some(turns) = &self.doorbells.turns
            && let Err(Stuck(words)) = turns.leave(cpu, &self.doorbells.bells)
        {
            self.poison(None, words);
        }
        match outcome {
            Ok(result) => Ok(result),
            Err(payload) => std::panic::resume_unwind(payload),
        }
    }

    /// Runs `f` as every CPU at once, each on a thread of its own, and returns the results in order of
    /// the CPUs.
    ///
    /// In deterministic mode all CPUs take part from the beginning, so that the history depends on the
    /// seed and the program only; a deadlock among them is reported by a panic.
    ///
    /// # Errors
    ///
    /// [`SimError::HostThreads`] if the host refuses a thread; `f` has not been called then.
    /// [`SimError::AlreadyBound`] if the calling thread is a CPU.
    ///
    /// # Panics
    ///
    /// With the panic of the CPU that panicked first, after all have ended; with the states of all CPUs if
    /// they were stuck; as [`run_cpu`](Self::run_cpu) if another thread runs as one of the CPUs.
    pub fn run_cpus<R: Send>(&self, f: impl Fn(CpuId) -> R + Sync) -> Result<Vec<R>, SimError> {
        if let Some(cpu) = context::cpu_of(self) {
            return Err(SimError::AlreadyBound { cpu });
        }
        let count = self.cpus.len();
        let go = (Mutex::new(None::<bool>), std::sync::Condvar::new());
        let open = |decision: bool| {
            *go.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(decision);
            go.1.notify_all();
        };
        let begun = || {
            let mut decision = go.0.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                match *decision {
                    Some(decision) => return decision,
                    None => decision = go.1.wait(decision).unwrap_or_else(PoisonError::into_inner),
                }
            }
        };
        let f = &f;
        let results = std::thread::scope(|scope| {
            let mut threads = Vec::with_capacity(count);
            for cpu in (0..count).filter_map(CpuId::new) {
                let body = move || begun().then(|| self.run_one(cpu, f)).flatten();
                let name = format!("cpu-{}", cpu.index());
                match std::thread::Builder::new().name(name).spawn_scoped(scope, body) {
                    Ok(thread) => threads.push(thread),
                    Err(_) => {
                        open(false);
                        return Err(SimError::HostThreads { asked: count });
                    }
                }
            }
            if let Some(turns) = &self.doorbells.turns {
                turns.expect(count);
            }
            open(true);
            Ok(threads.into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>())
        })?;
        let (culprit, words) = self.poison.reason();
        let mut values = Vec::with_capacity(count);
        let mut first_panic = None;
        for (cpu, result) in results.into_iter().enumerate() {
            match result {
                Ok(value) => values.extend(value),
                // The others have only stopped because of the culprit.
                Err(payload) if culprit == Some(cpu) || first_panic.is_none() => first_panic = Some(payload),
                Err(_) => {}
            }
        }
        match first_panic {
            Some(payload) if culprit.is_some() => std::panic::resume_unwind(payload),
            None if values.len() == count => Ok(values),
            _ => panic!("{words} (seed {})", self.config.seed),
        }
    }

    /// One CPU of [`run_cpus`](Self::run_cpus); if it cannot be run the others must not wait for it.
    fn run_one<R>(&self, cpu: CpuId, f: &(impl Fn(CpuId) -> R + Sync)) -> Option<R> {
        match self.try_run_cpu(cpu, || f(cpu)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.poison(None, error.to_string());
                None
            }
        }
    }

    /// Whether a CPU has panicked or all were stuck. The machine's memory may then be in any state.
    #[must_use]
    pub fn is_poisoned(&self) -> bool {
        self.poison.is_set()
    }

    /// Marks the machine as broken and wakes everybody, so that they notice (INV-M-12).
    pub(super) fn poison(&self, cpu: Option<usize>, words: String) {
        {
            let mut reason = self.poison.reason.lock().unwrap_or_else(PoisonError::into_inner);
            reason.get_or_insert((cpu, words));
        }
        // ORD: Release pairs with the Acquire in `Poison::is_set`.
        self.poison.set.store(true, Ordering::Release);
        for cpu in &self.cpus {
            // ORD: SeqCst, as an interrupt's; the poll that finds it also finds the poison.
            cpu.pending.store(true, Ordering::SeqCst);
        }
        if let Some(turns) = &self.doorbells.turns {
            turns.release();
        }
        for cpu in 0..self.cpus.len() {
            self.doorbells.ring(cpu);
        }
    }

    /// Panics if the machine is poisoned, unless the thread is unwinding already.
    #[inline]
    pub(super) fn stop_if_poisoned(&self) {
        if self.poison.is_set() && !std::thread::panicking() {
            match self.poison.reason() {
                (Some(cpu), words) => panic!("stopped because cpu {cpu} panicked: {words}"),
                (None, words) => panic!("{words} (seed {})", self.config.seed),
            }
        }
    }
}

fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no message)".to_string())
}
