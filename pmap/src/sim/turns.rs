//! Who says which CPU runs next, where it is not the host: the baton, or an executor from outside.

use std::boxed::Box;
use std::string::String;

use super::baton::{Baton, Event};
use super::context;
use super::doorbell::Doorbell;
use crate::CpuId;

/// Runs the CPUs of a machine as tasks of its own, one at a time, in an order of its own: a checker of schedules.
///
/// Each CPU is a task that calls [`SimMachine::run_cpu`](super::SimMachine::run_cpu). The tasks may share a host thread. What they do to
/// each other they do between two calls of these functions, so the order of the tasks and the seed determine the history.
pub trait Executor: Send + Sync {
    /// The current task is CPU `cpu` from now on.
    fn begin(&self, cpu: CpuId);

    /// Another task may run.
    fn point(&self);

    /// The current task cannot go on until others have run.
    fn relax(&self);

    /// Blocks the current task until [`unpark`](Self::unpark) is called for its CPU, or has been since the last call of this.
    /// It may return early.
    fn park(&self);

    /// Lets the task of `cpu` go on. There may be none. May be a point.
    fn unpark(&self, cpu: CpuId);
}

/// Nobody can run, or everybody only relaxes: the states of all CPUs, in words.
#[derive(Debug)]
pub(super) struct Stuck(pub(super) String);

/// One CPU at a time. An executor finds by itself when its tasks are stuck.
pub(super) enum Turns {
    Baton(Baton),
    Executor(Box<dyn Executor>),
}

impl Turns {
    /// The next `cpus` arrivals start together.
    pub(super) fn expect(&self, cpus: usize) {
        if let Self::Baton(baton) = self {
            baton.expect(cpus);
        }
    }

    /// `cpu` begins to run.
    pub(super) fn enter(&self, cpu: usize, bells: &[Doorbell]) {
        match self {
            Self::Baton(baton) => baton.enter(cpu, bells),
            Self::Executor(executor) => each(cpu).for_each(|cpu| executor.begin(cpu)),
        }
    }

    /// `cpu`, which runs, ends.
    pub(super) fn leave(&self, cpu: usize, bells: &[Doorbell]) -> Result<(), Stuck> {
        match self {
            Self::Baton(baton) => baton.leave(cpu, bells),
            Self::Executor(_) => Ok(()),
        }
    }

    /// A point of `cpu`, which runs: perhaps another CPU runs before this returns.
    pub(super) fn point(&self, cpu: usize, event: Event, detail: u64, bells: &[Doorbell]) {
        match self {
            Self::Baton(baton) => baton.point(cpu, event, detail, bells),
            // Who unwinds is not interrupted: whether a thread unwinds is the host thread's, which others run on as well.
            Self::Executor(_) if std::thread::panicking() => {}
            Self::Executor(executor) => context::as_nobody(|| executor.point()),
        }
    }

    /// `cpu`, which runs, cannot go on by itself but is not parked: somebody else runs, if anybody can.
    pub(super) fn relax(&self, cpu: usize, bells: &[Doorbell]) -> Result<(), Stuck> {
        match self {
            Self::Baton(baton) => baton.relax(cpu, bells),
            Self::Executor(executor) => {
                context::as_nobody(|| executor.relax());
                Ok(())
            }
        }
    }

    /// For who looks again and again, and need not wait long; so it is for threads that are no CPU, too.
    pub(super) fn spin(&self) {
        match self {
            // The baton goes round at points.
            Self::Baton(_) => std::thread::yield_now(),
            Self::Executor(executor) => context::as_nobody(|| executor.relax()),
        }
    }

    /// `cpu`, which runs, waits for its doorbell.
    pub(super) fn park(&self, cpu: usize, why: &'static str, bells: &[Doorbell]) -> Result<(), Stuck> {
        match self {
            Self::Baton(baton) => baton.park(cpu, why, bells),
            Self::Executor(executor) => {
                while !bells[cpu].take() {
                    context::as_nobody(|| executor.park());
                }
                Ok(())
            }
        }
    }

    /// The doorbell of `cpu` was rung.
    pub(super) fn kick(&self, cpu: usize, bells: &[Doorbell]) {
        match self {
            Self::Baton(baton) => baton.kick(bells),
            Self::Executor(executor) => {
                each(cpu).for_each(|cpu| context::as_nobody(|| executor.unpark(cpu)));
            }
        }
    }

    /// Ends determinism: all CPUs run. For a machine that is broken.
    pub(super) fn release(&self) {
        if let Self::Baton(baton) = self {
            baton.release();
        }
    }

    /// Adds to the history without being a point.
    pub(super) fn record(&self, cpu: usize, event: Event, detail: u64) {
        if let Self::Baton(baton) = self {
            baton.record(cpu, event, detail);
        }
    }

    /// Hash over the history, and how often the turn has passed; zeroes where an executor keeps its own.
    pub(super) fn history(&self) -> (u64, u64) {
        match self {
            Self::Baton(baton) => baton.history(),
            Self::Executor(_) => (0, 0),
        }
    }
}

fn each(cpu: usize) -> impl Iterator<Item = CpuId> {
    CpuId::new(cpu).into_iter()
}
