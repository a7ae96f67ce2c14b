//! How the CPUs that run the suite wait for each other, and learn that one of them is through with it.

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use super::rule::{Broken, Rule};
use crate::cpuset::CpuId;
use crate::machine::Machine;

/// The suite ends here: somebody has found a rule broken, and it is written down.
#[derive(Debug)]
pub(super) struct Over;

pub(super) struct Meeting {
    arrived: AtomicUsize,
    stage: AtomicU32,
    /// 0, or the first rule found broken and the CPU that saw it.
    broken: AtomicU32,
}

/// In place of a CPU.
const NO_CPU: u32 = 0xffff;

impl Meeting {
    pub(super) const fn new() -> Self {
        Self { arrived: AtomicUsize::new(0), stage: AtomicU32::new(0), broken: AtomicU32::new(0) }
    }

    /// Writes down that a rule is broken, unless one was already.
    pub(super) fn found(&self, rule: Rule, cpu: Option<CpuId>) -> Over {
        let cpu = cpu.map_or(NO_CPU, |cpu| cpu.index() as u32);
        let code = 1 << 31 | (rule as u32) << 16 | cpu;
        // ORD: Release pairs with the Acquire in `broken`; Relaxed on failure, somebody else was first.
        let _ = self.broken.compare_exchange(0, code, Ordering::Release, Ordering::Relaxed);
        Over
    }

    /// The first rule found broken.
    pub(super) fn broken(&self) -> Option<Broken> {
        // ORD: Acquire pairs with the Release in `found`.
        let code = self.broken.load(Ordering::Acquire);
        let rule = Rule::ALL.get((code >> 16 & 0xff) as usize).filter(|_| code != 0)?;
        Some(Broken { rule: *rule, cpu: CpuId::new((code & 0xffff) as usize) })
    }

    /// Calls `wait` until `is_so`, or somebody has found a rule broken.
    pub(super) fn until(&self, mut wait: impl FnMut(), mut is_so: impl FnMut() -> bool) -> Result<(), Over> {
        while !is_so() {
            if self.broken().is_some() {
                return Err(Over);
            }
            wait();
        }
        Ok(())
    }

    /// Waits for all of `count` CPUs. `round` is how often they have met before.
    pub(super) fn meet<M: Machine>(&self, machine: &M, round: &mut usize, count: usize) -> Result<(), Over> {
        *round += 1;
        // ORD: AcqRel pairs with itself on the others: what a CPU did before is seen by all afterwards.
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == *round * count {
            (0..machine.cpu_count()).filter_map(CpuId::new).for_each(|cpu| machine.wake(cpu));
        }
        // ORD: Acquire, as above.
        self.until(|| machine.relax(), || self.arrived.load(Ordering::Acquire) >= *round * count)
    }

    /// Where two CPUs are in what they do together.
    pub(super) fn stage(&self) -> u32 {
        // ORD: Acquire pairs with the Release in `enter_stage`.
        self.stage.load(Ordering::Acquire)
    }

    /// Goes on to `stage`: what was done before is seen by who sees it.
    pub(super) fn enter_stage(&self, stage: u32) {
        // ORD: Release pairs with `stage`.
        self.stage.store(stage, Ordering::Release);
    }
}
