//! A proof that the calling thread stays on its CPU.

use core::marker::PhantomData;

use crate::cpuset::CpuId;
use crate::machine::Machine;

/// Exists only while the calling thread cannot move to another CPU. What belongs to one CPU (its PCIDs, what it has loaded) is
/// read with one of these in hand, because after a move it would be another CPU's (H-19).
pub(crate) struct Pinned {
    cpu: CpuId,
    /// To be used by this thread only.
    here: PhantomData<*const ()>,
}

impl Pinned {
    /// Runs `f` with preemption disabled.
    pub(crate) fn run<M: Machine, R>(machine: &M, f: impl FnOnce(&Self) -> R) -> R {
        machine.without_preemption(|| f(&Self::already(machine)))
    }

    /// Runs `f` with interrupts disabled, which keeps it on the CPU as well.
    pub(crate) fn run_masked<M: Machine, R>(machine: &M, f: impl FnOnce(&Self) -> R) -> R {
        machine.without_interrupts(|| f(&Self::already(machine)))
    }

    /// For code that is known to be pinned: an interrupt handler.
    pub(crate) fn already<M: Machine>(machine: &M) -> Self {
        debug_assert!(machine.is_pinned(), "the thread could move to another CPU");
        Self { cpu: machine.current_cpu(), here: PhantomData }
    }

    /// The CPU.
    pub(crate) fn cpu(&self) -> CpuId {
        self.cpu
    }
}
