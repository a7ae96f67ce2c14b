//! Torture is clean as long as every safety mechanism is on, and finds the error soon when one is off.

use crate::common::{Outcome, pmaplab};

fn torture(args: &[&str]) -> Outcome {
    let mut all = vec!["torture", "--json"];
    all.extend(args);
    pmaplab(&all)
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for args in [
        &["--seconds", "2", "--cpus", "4", "--seed", "11", "--di", "lockfree"][..],
        &["--seconds", "2", "--cpus", "8", "--seed", "12", "--di", "locked"],
        &["--seconds", "2", "--cpus", "4", "--seed", "13", "--di", "sharded"],
        &["--steps", "400", "--cpus", "3", "--seed", "13", "--deterministic", "--di", "locked"],
        &["--steps", "400", "--cpus", "3", "--seed", "13", "--deterministic", "--di", "lockfree"],
        &["--steps", "400", "--cpus", "3", "--seed", "13", "--deterministic", "--di", "sharded"],
    ] {
        let out = torture(args);
        assert_eq!(out.code, Some(0), "{args:?}: {}", out.stderr);
        let report = out.json();
        assert_eq!(report["ok"], true);
        for counter in ["remove_all_calls", "remove_write_calls", "swap_ins", "reversals", "pages_reused"] {
            assert!(report["counters"][counter].as_u64() > Some(0), "{args:?}: {counter}: {report}");
        }
    }
}

#[test]
fn every_cpu_model_is_clean() {
    for model in pmap::sim::CpuModel::ALL {
        for args in
            [&["--seconds", "1", "--cpus", "4"][..], &["--steps", "300", "--cpus", "3", "--deterministic"]]
        {
            let mut args = args.to_vec();
            args.extend(["--seed", "21", "--cpu-model", model.name()]);
            let out = torture(&args);
            assert_eq!(out.code, Some(0), "{args:?}: {}", out.stderr);
            let report = out.json();
            assert_eq!(
                (report["ok"].as_bool(), report["cpu_model"].as_str()),
                (Some(true), Some(model.name()))
            );
            if !model.has_cmpxchg16b() {
                assert_eq!(report["di"], "locked");
            }
        }
    }
}

/// With room for few mappings, they are taken away all the time.
#[test]
fn nothing_is_found_where_mappings_are_reclaimed() {
    for args in [
        &["--seconds", "2", "--cpus", "4", "--seed", "21", "--pv-chunks", "3"][..],
        &["--seconds", "2", "--cpus", "4", "--seed", "22", "--pv-chunks", "2", "--pv-locks", "per-run"],
        &["--seconds", "2", "--cpus", "4", "--seed", "24", "--pv-chunks", "4", "--domains", "2"],
        &["--steps", "400", "--cpus", "3", "--seed", "23", "--deterministic", "--pv-chunks", "2"],
    ] {
        let out = torture(args);
        assert_eq!(out.code, Some(0), "{args:?}: {}", out.stderr);
        let reclaimed = &out.json()["counters"]["pv_reclaimed"];
        assert!(reclaimed.as_u64() > Some(0), "{args:?}: nothing was reclaimed");
    }
}

/// Within ten seconds, on each of five seeds, in both modes.
fn is_found(mutation: &str) {
    let all = ["locked", "lockfree", "sharded"];
    for (seed, di) in ["1", "2", "3", "4", "5"].into_iter().zip(all.into_iter().cycle()) {
        for mode in [&[][..], &["--deterministic"]] {
            let mut args =
                vec!["--seconds", "10", "--cpus", "4", "--seed", seed, "--di", di, "--mutation", mutation];
            args.extend(mode);
            let out = torture(&args);
            assert_eq!(out.code, Some(1), "{args:?} was not found: {}", out.stderr);
            let report = out.json();
            let found = ["stale_accesses", "forbidden_entries", "model_mismatches", "audit_errors"]
                .iter()
                .filter_map(|key| report[*key].as_u64())
                .sum::<u64>();
            assert!(found > 0, "{args:?}: {report}");
        }
    }
}

#[test]
fn a_missing_wait_is_found() {
    is_found("no-di-wait");
}

#[test]
fn a_forgotten_shootdown_is_found() {
    is_found("forget-shootdown");
}

#[test]
fn the_printed_command_repeats_a_deterministic_failure() {
    let args = ["--seconds", "10", "--seed", "2", "--deterministic", "--mutation", "no-di-wait"];
    let first = torture(&args).json();
    let command = first["repeat"].as_str().unwrap();
    let words: Vec<&str> = command.split(' ').skip(2).collect();
    let again = torture(&words).json();
    assert_eq!(again["ok"], false);
    assert_eq!((&first["failures"], &first["history"]), (&again["failures"], &again["history"]));
    assert!(!first["failures"].as_array().unwrap().is_empty());
}
