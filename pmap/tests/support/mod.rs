//! What the tests share: a system on a software machine, and its judgement at the end.
#![allow(dead_code, reason = "each test program uses a part")]

use pmap::sim::{Adversary, Config, Mode, SimMachine};
use pmap::{CpuId, System};

/// A system on a software machine.
pub(crate) fn system(config: Config) -> System<SimMachine> {
    let machine = SimMachine::new(config).expect("a machine");
    System::new(machine).expect("a system")
}

/// A deterministic machine with an adversary.
pub(crate) fn deterministic(cpus: usize, frames: u64, seed: u64) -> Config {
    Config {
        cpus,
        frames,
        seed,
        mode: Mode::Deterministic,
        adversary: Adversary::fierce(),
        ..Config::default()
    }
}

/// A CPU by number.
pub(crate) fn cpu(index: usize) -> CpuId {
    CpuId::new(index).expect("few CPUs")
}

/// Fails if the machine saw a translation that it should not have seen, or the structure is inconsistent.
pub(crate) fn assert_clean(system: &System<SimMachine>) {
    let mut errors = Vec::new();
    system.audit(|error| errors.push(error.to_string()));
    assert!(errors.is_empty(), "audit: {errors:?}");
    let report = system.machine().report();
    assert_eq!((report.forbidden_entries, report.stale_accesses), (0, 0), "{:?}", report.first_failures);
}
