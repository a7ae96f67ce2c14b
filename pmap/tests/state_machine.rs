//! The pmap against a plain model: random operations on several address spaces and CPUs, an adversarial TLB, the audit
//! after every step.

mod world;

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
