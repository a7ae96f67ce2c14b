//! What the tests share: a system on a software machine, and its judgement at the end.
#![allow(dead_code, reason = "each test program uses a part")]

pub(crate) mod replay;

use pmap::sim::{Adversary, Config, Mode, SimMachine};
use pmap::{CpuId, Options, Protection, System};

/// The rights of most mappings.
pub(crate) const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// A small machine with a nasty adversary.
pub(crate) fn small() -> Config {
    Config { cpus: 2, frames: 128, adversary: Adversary::fierce(), ..Config::default() }
}

/// Runs `f` on CPU 0 of a fresh system, which must be clean afterwards.
pub(crate) fn on_cpu(config: Config, f: impl FnOnce(&System<SimMachine>)) {
    on_cpu_with(config, Options::default(), f);
}

/// As [`on_cpu`], with a system of one's choice.
pub(crate) fn on_cpu_with(config: Config, options: Options, f: impl FnOnce(&System<SimMachine>)) {
    let system = system_with(config, options);
    system.machine().run_cpu(cpu(0), || {
        system.start_cpu();
        f(&system);
        system.activate_kernel();
        assert_clean(&system);
        system.stop_cpu();
    });
}

/// A system on a software machine.
pub(crate) fn system(config: Config) -> System<SimMachine> {
    system_with(config, Options::default())
}

/// As [`system`], set up in a certain way.
pub(crate) fn system_with(config: Config, options: Options) -> System<SimMachine> {
    let machine = SimMachine::new(config).expect("a machine");
    System::with_options(machine, options).expect("a system")
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
