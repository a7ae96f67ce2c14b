//! The pmap against a plain model: random operations on several address spaces and CPUs, an adversarial TLB, the audit
//! after every step.

mod world;

use gencount::Implementation;
use pmap::PvLocking;
use pmap::sim::CpuModel;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use world::{Op, Setting, run};

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 160,
        // What once failed is tried first, and is committed.
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct("tests/state_machine.regressions"))),
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_pmap_agrees_with_the_model(
        program in prop::collection::vec(any::<[u8; 8]>(), 1..100),
        setting in any::<u64>(),
    ) {
        let program: Vec<Op> = program.into_iter().map(Op::decode).collect();
        run(&program, Setting::from_number(setting));
    }
}

/// Every kind of processor with every implementation of delayed invalidation that runs on it, with enough PCIDs and with
/// too few, PV locks of both kinds.
#[test]
fn every_configuration_agrees_with_the_model() {
    let mut configurations = 0;
    for cpu_model in CpuModel::ALL {
        for di in Implementation::ALL.into_iter().filter(|di| cpu_model.can_run(*di)) {
            for (pcids, pv_locking) in [(4, PvLocking::Hashed), (64, PvLocking::PerRun)] {
                configurations += 1;
                let seed = 1000 + configurations;
                let setting = Setting { di, cpu_model, pcids, pv_locking, ..Setting::from_number(seed << 4) };
                run(&Op::by_chance(seed, 150), setting);
            }
        }
    }
    assert_eq!(configurations, 2 * (7 * 3 - 1), "all but lock-free on a processor without CMPXCHG16B");
}
