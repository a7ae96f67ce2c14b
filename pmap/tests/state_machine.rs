//! The pmap against a plain model: random operations on several address spaces and CPUs, an adversarial TLB, the audit
//! after every step.

#[path = "support/replay.rs"]
mod replay;
mod world;

use gencount::Implementation;
use pmap::PvLocking;
use pmap::sim::CpuModel;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestError, TestRunner};
use world::{Op, Setting, run};

/// A program as it is written down, and the number of a setting.
type Program = (Vec<[u8; 8]>, u64);

fn play((program, setting): &Program) {
    let program: Vec<Op> = program.iter().copied().map(Op::decode).collect();
    run(&program, Setting::from_number(*setting));
}

/// The program in environment variables.
fn settings((program, setting): &Program) -> replay::Settings {
    let text = program.iter().flatten().map(|byte| format!("{byte:02x}")).collect();
    vec![("PMAP_SETTING", setting.to_string()), ("PMAP_PROGRAM", text)]
}

/// The inverse of [`settings`]; `None` if nothing is asked for.
fn wanted(value: impl Fn(&str) -> Option<String>) -> Option<Program> {
    let setting = value("PMAP_SETTING")?.parse().expect("PMAP_SETTING is a number");
    let text = value("PMAP_PROGRAM").expect("PMAP_PROGRAM goes with PMAP_SETTING");
    let digits: Vec<u8> =
        text.chars().map(|c| c.to_digit(16).expect("PMAP_PROGRAM is hexadecimal") as u8).collect();
    let bytes: Vec<u8> = digits.chunks_exact(2).map(|two| two[0] << 4 | two[1]).collect();
    Some((bytes.as_chunks().0.to_vec(), setting))
}

#[test]
fn the_pmap_agrees_with_the_model() {
    if let Some(program) = wanted(|name| std::env::var(name).ok()) {
        return play(&program);
    }
    let mut runner = TestRunner::new(ProptestConfig {
        cases: 160,
        // What once failed is tried first, and is committed.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/state_machine.regressions",
        ))),
        ..ProptestConfig::default()
    });
    let programs = (prop::collection::vec(any::<[u8; 8]>(), 1..100), any::<u64>());
    let result = runner.run(&programs, |program| {
        play(&program);
        Ok(())
    });
    match result {
        Err(TestError::Fail(reason, program)) => {
            let command = replay::command(&settings(&program));
            panic!("{reason}\nto replay this run:\n    {command}");
        }
        other => other.expect("programs can be made"),
    }
}

/// What the command says is the program.
#[test]
fn programs_come_back_from_the_environment() {
    let program = (vec![[0, 1, 2, 253, 254, 255, 16, 15], [7; 8]], u64::MAX);
    let settings = settings(&program);
    let value = |name: &str| settings.iter().find(|(n, _)| *n == name).map(|(_, value)| value.clone());
    assert_eq!(wanted(value), Some(program));
    assert_eq!(wanted(|_| None), None);
}

/// Every kind of processor with every implementation of delayed invalidation that runs on it, with enough PCIDs and with
/// too few, PV locks of both kinds, and with flushes one by one that interrupt everybody.
#[test]
fn every_configuration_agrees_with_the_model() {
    let mut configurations = Vec::new();
    for cpu_model in CpuModel::ALL {
        for di in Implementation::ALL.into_iter().filter(|di| cpu_model.can_run(*di)) {
            for (pcids, pv_locking, saving) in
                [(4, PvLocking::Hashed, true), (64, PvLocking::PerRun, true), (64, PvLocking::Hashed, false)]
            {
                let seed = 1001 + configurations.len() as u64;
                let (batching, lazy_targets) = (saving, saving);
                let choices = Setting::from_number(seed << 4);
                let setting = Setting { di, cpu_model, pcids, pv_locking, batching, lazy_targets, ..choices };
                let names = [("PMAP_MODEL", cpu_model.to_string()), ("PMAP_DI", di.to_string())];
                let settings = names.into_iter().chain([("PMAP_SEED", seed.to_string())]).collect();
                configurations.push((settings, (seed, setting)));
            }
        }
    }
    assert_eq!(configurations.len(), 3 * (7 * 3 - 1), "all but lock-free on a processor without CMPXCHG16B");
    replay::each(configurations, |(seed, setting)| run(&Op::by_chance(seed, 150), setting));
}
