//! The dispatch table, shown.

use crate::common::pmaplab;

#[test]
fn the_choice_and_its_reason_are_shown() {
    let out = pmaplab(&["cpu"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    assert!(out.stdout.contains("locked"), "{}", out.stdout);
    let report = pmaplab(&["cpu", "--json"]).json();
    assert!(["locked", "lockfree"].contains(&report["di"].as_str().unwrap()));
}

#[test]
fn the_environment_overrides_it() {
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_pmaplab"))
        .args(["cpu", "--json"])
        .env("GENCOUNT_DI", "locked")
        .output()
        .unwrap();
    let report: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(report["di"], "locked");
    assert!(report["overridden_by"].as_str().unwrap().contains("GENCOUNT_DI"));
}

#[test]
fn costs_of_invalidation_are_measured_or_the_reason_is_given() {
    let out = pmaplab(&["flush-cost", "--json"]);
    if out.code == Some(0) {
        let costs = out.json();
        let positive = |key: &str| costs[key].as_f64().is_some_and(|value| value > 0.0);
        assert!(positive("page_ns") && positive("refill_ns") && positive("threshold"), "{costs}");
    } else {
        // A machine that is too busy, or another system.
        assert_eq!(out.code, Some(2));
        assert!(out.sentence().len() > 20);
    }
}
