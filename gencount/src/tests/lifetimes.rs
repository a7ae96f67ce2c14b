//! Property tests: whole lifetimes in an order that is part of the input, for each implementation; and with a step left out,
//! which must be noticed.
//!
//! What this cannot see: weak memory (each step is complete before the next), and schedules that random bytes do not come upon. The
//! fuzz target `gencount` looks for them with coverage as its guide.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::vec::Vec;

use proptest::collection::vec;
use proptest::prelude::*;

use super::histories::run;
use crate::tests::Fault;
use crate::{Domain, Implementation};

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_keeps_the_promises(
        implementation in 0..3u8,
        rest in vec(any::<u8>(), 1..400),
    ) {
        let mut bytes = std::vec![implementation];
        bytes.extend(rest);
        run(&bytes, Domain::new);
    }
}

/// The corpus of the fuzz target, and so every finding that was added to it.
#[test]
fn corpus() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    if !fuzz.exists() {
        std::println!("skipped: a published crate comes without its fuzz targets");
        return;
    }
    let mut files = 0;
    for file in std::fs::read_dir(fuzz.join("corpus/gencount")).expect("the committed corpus") {
        run(&std::fs::read(file.expect("readable").path()).expect("readable"), Domain::new);
        files += 1;
    }
    assert!(files > 0, "the corpus is empty");
}

/// Whether some of many random histories notices that a step is left out. (That a helper does not look takes rarer ones:
/// `schedules` has tests that lead there.)
fn noticed(implementation: Implementation, fault: Fault) -> bool {
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    (0..10_000).any(|_| {
        let mut bytes: Vec<u8> = (0..250)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 24) as u8
            })
            .collect();
        bytes[0] =
            Implementation::ALL.iter().position(|&one| one == implementation).expect("one of all") as u8;
        let faulty = |implementation, table| {
            let mut domain = Domain::new(implementation, table);
            domain.common.fault = fault;
            domain
        };
        catch_unwind(AssertUnwindSafe(|| run(&bytes, faulty))).is_err()
    })
}

#[test]
fn without_registration_or_recheck_or_look_a_waiter_is_seen_to_sleep_for_ever() {
    for implementation in Implementation::ALL {
        for fault in [Fault::NoRecheck, Fault::WaiterUnregistered, Fault::FinishBlind] {
            assert!(noticed(implementation, fault), "{implementation}: {fault:?}");
        }
    }
}

#[test]
fn without_its_readings_of_the_clock_sharded_is_seen_to_pass_open_sections() {
    for fault in [Fault::FirstReading, Fault::NotRaised] {
        assert!(noticed(Implementation::Sharded, fault), "{fault:?}");
    }
}

/// Every path out of a section gives the loan back, restarts and forgotten sections included (H-75); where it is kept, it shows.
#[test]
fn a_loan_that_outlives_its_section_is_seen() {
    assert!(noticed(Implementation::Locked, Fault::LendsUnregistered));
}
