//! How far each CPU is, and who waits for that.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use pmap::{CpuId, Machine as _};

use crate::plan::{Plan, Point};
use crate::vm::{Cpu, Vm, VmError};

/// Nobody is waited for.
const NOTHING: u64 = u64::MAX;

/// One CPU's entry, on cache lines of its own.
#[repr(align(128))]
struct Entry {
    /// Steps done.
    done: AtomicU32,
    /// Events among them.
    events: AtomicU64,
    /// The step that this CPU waits for: CPU in the upper half, position in the lower.
    awaited: AtomicU64,
}

/// Progress of all CPUs.
pub(super) struct Ledger {
    cpus: Vec<Entry>,
}

impl Ledger {
    pub(super) fn new(plan: &Plan) -> Self {
        let entry = |_| Entry {
            done: AtomicU32::new(0),
            events: AtomicU64::new(0),
            awaited: AtomicU64::new(NOTHING),
        };
        Self { cpus: plan.queues.iter().map(entry).collect() }
    }

    /// Events done by all CPUs.
    pub(super) fn events(&self) -> u64 {
        // ORD: Relaxed; a count.
        self.cpus.iter().map(|cpu| cpu.events.load(Ordering::Relaxed)).sum()
    }

    fn is_done(&self, point: Point) -> bool {
        // ORD: SeqCst pairs with `done`: what the step did is visible, and see `wait`.
        self.cpus[usize::from(point.cpu)].done.load(Ordering::SeqCst) > point.position
    }

    /// Waits until the step at `point` is done. Leaves a space that is being torn down meanwhile.
    pub(super) fn wait<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, point: Point) -> Result<(), VmError> {
        if self.is_done(point) {
            return Ok(());
        }
        let awaited = &self.cpus[cpu.index()].awaited;
        // ORD: SeqCst pairs with `done`: it stores its progress and then looks here, we store here and then look
        // at its progress, so one of us sees the other.
        awaited.store(u64::from(point.cpu) << 32 | u64::from(point.position), Ordering::SeqCst);
        loop {
            let leaving = || cpu.current().is_some_and(|space| space.is_leaving());
            vm.machine().wait_until(|| self.is_done(point) || vm.is_stopped() || leaving());
            vm.poll(cpu);
            if self.is_done(point) || vm.is_stopped() {
                break;
            }
        }
        awaited.store(NOTHING, Ordering::SeqCst); // ORD: as above
        if vm.is_stopped() { Err(VmError::Stopped) } else { Ok(()) }
    }

    /// A CPU has done its next step: wakes who waits for it.
    pub(super) fn done(&self, vm: &Vm<'_>, me: usize, event: bool) {
        let entry = &self.cpus[me];
        // ORD: Relaxed; a count, and written by this CPU only.
        entry.events.fetch_add(u64::from(event), Ordering::Relaxed);
        // ORD: SeqCst; Release for who waited, and see `wait`.
        let position = entry.done.fetch_add(1, Ordering::SeqCst);
        for (index, other) in self.cpus.iter().enumerate() {
            // ORD: SeqCst; see `wait`.
            let awaited = other.awaited.load(Ordering::SeqCst);
            if awaited >> 32 == me as u64
                && awaited as u32 <= position
                && let Some(cpu) = CpuId::new(index)
            {
                vm.machine().wake(cpu);
            }
        }
    }
}
