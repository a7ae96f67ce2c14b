//! The program replays traces, and its report has the promised form.

use std::io::Write;

use crate::common::{bundled_file, pmaplab, scratch};
use flate2::{Compression, write::GzEncoder};
use serde_json::Value;

/// Keys that are stable from the first release on.
const KEYS: [&str; 16] = [
    "ok",
    "trace",
    "cpus",
    "di",
    "events",
    "skipped_events",
    "faults",
    "ops_per_second",
    "wall_seconds",
    "stale_accesses",
    "forbidden_entries",
    "stale_before_guarantee",
    "model_mismatches",
    "audit_errors",
    "counters",
    "skipped_faults",
];
const COUNTERS: [&str; 16] = [
    "invl_wait",
    "invl_wait_slow",
    "invl_max_qlen",
    "invl_start_restart",
    "invl_finish_restart",
    "di_blocks",
    "di_wait_calls",
    "remove_all_calls",
    "remove_write_calls",
    "swap_ins",
    "pv_entries",
    "pv_chunks",
    "pt_pages",
    "shootdown_ipis",
    "shootdowns_local_only",
    "pages_reused",
];

fn assert_clean(report: &Value) {
    for key in KEYS {
        assert!(report.get(key).is_some(), "{key} is missing");
    }
    for key in COUNTERS {
        assert!(report["counters"][key].is_u64(), "{key} is missing");
    }
    for key in ["stale_accesses", "forbidden_entries", "model_mismatches", "audit_errors"] {
        assert_eq!(report[key], 0, "{report}");
    }
    assert_eq!(report["ok"], true, "{report}");
    assert!(report["stale_before_guarantee"].as_u64() > Some(0), "{report}");
}

#[test]
fn alone_it_replays_the_bundled_trace() {
    let out = pmaplab(&["--json"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let report = out.json();
    assert_clean(&report);
    assert_eq!(report["trace"], "parallel-compile");
    assert_eq!((&report["cpus"], &report["events"]), (&Value::from(2), &Value::from(37_365)));
    let faults = report["faults"].as_u64().unwrap() + report["skipped_faults"].as_u64().unwrap();
    assert_eq!(faults, 35_548);
    assert!(report["skipped_events"].as_u64().unwrap() * 100 < 37_365);
    assert!(report["counters"]["shootdown_ipis"].as_u64() > Some(100));
    assert!(out.stderr.contains("OK: every check held."), "the report for people is on standard error");
}

#[test]
fn people_get_a_report_on_standard_output() {
    let out = pmaplab(&["--verify", "sample", "--cpus", "3"]);
    assert_eq!(out.code, Some(0), "{}", out.stdout);
    assert!(out.stdout.ends_with("OK: every check held.\n"), "{}", out.stdout);
    assert!(out.stdout.contains("37,365 events on 3 simulated CPUs"), "{}", out.stdout);
}

#[test]
fn every_way_to_run_it_is_clean() {
    let file = bundled_file();
    let file = file.to_str().unwrap();
    for args in [
        &["--di", "locked", "--cpus", "4"][..],
        &["--di", "sharded", "--cpus", "6"],
        &["--di", "lockfree", "--cpus", "8", "--seed", "7"],
        &["--frames", "60%", "--cpus", "4", "--di", "locked"],
        &["--frames", "60%", "--cpus", "4", "--di", "lockfree"],
        &["--frames", "60%", "--cpus", "4", "--di", "sharded"],
        &["--frames", "40%"],
    ] {
        let mut all = vec!["replay", file, "--json"];
        all.extend(args);
        let out = pmaplab(&all);
        assert_eq!(out.code, Some(0), "{args:?}: {}", out.stderr);
        let report = out.json();
        assert_clean(&report);
        if args[0] == "--frames" {
            assert!(report["counters"]["remove_all_calls"].as_u64() > Some(1000), "{report}");
            assert!(report["counters"]["swap_ins"].as_u64() > Some(0), "{report}");
        }
    }
    let out = pmaplab(&["replay", file, "--verify", "off", "--json"]);
    assert_eq!((out.code, &out.json()["ok"]), (Some(0), &Value::from(true)));
}

#[test]
fn a_deterministic_replay_repeats_exactly() {
    let text = tiny();
    let file = scratch("tiny-deterministic.trace.gz", &gz(&text));
    let run = |seed| {
        let out = pmaplab(&["replay", file.to_str().unwrap(), "--json", "--deterministic", "--seed", seed]);
        assert_eq!(out.code, Some(0), "{}", out.stderr);
        let mut report = out.json();
        for key in ["wall_seconds", "ops_per_second"] {
            report[key] = Value::Null;
        }
        report
    };
    let (first, again, other) = (run("5"), run("5"), run("6"));
    assert_eq!(first, again);
    assert_ne!(first["history"], other["history"]);
}

#[test]
fn a_space_may_do_everything() {
    let file = scratch("tiny.trace.gz", &gz(&tiny()));
    let out = pmaplab(&["replay", file.to_str().unwrap(), "--json"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let report = out.json();
    assert_eq!((&report["ok"], &report["events"]), (&Value::from(true), &Value::from(24)));
    // A fault outside of everything, one against the rights, and an unmap of nothing.
    assert_eq!(report["skipped"]["fault_not_mapped"], 1);
    assert_eq!(report["skipped"]["fault_not_permitted"], 1);
    assert_eq!(report["skipped"]["nothing_mapped"], 1);
    assert_eq!((&report["skipped_events"], &report["faults"]), (&Value::from(3), &Value::from(9)));
}

#[test]
fn several_traces_make_one_object() {
    let file = scratch("tiny-twice.trace.gz", &gz(&tiny()));
    let name = file.to_str().unwrap();
    let out = pmaplab(&["replay", name, name, "--json"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let report = out.json();
    assert_eq!((&report["events"], &report["ok"]), (&Value::from(48), &Value::from(true)));
    assert_eq!(report["runs"].as_array().map(Vec::len), Some(2));
}

/// A trace with every kind of event.
fn tiny() -> String {
    let events = "0 0 10 0 exec 1\n1 0 10 1 map 10000 8000 3 p 0 0\n1 0 10 1 map 40000 4000 7 p 2 0\n\
        1 0 10 1 map 60000 4000 3 s 3 0\n1 0 10 1 fault 10010 6\n1 1 11 1 fault 11018 6\n2 1 11 1 fault 40000 4\n\
        2 0 10 1 fault 40008 7\n2 0 10 1 fault 60008 6\n3 0 10 1 fork 2\n4 1 12 2 fault 10010 7\n\
        4 0 10 1 fault 10018 7\n4 1 12 2 fault 60008 4\n5 0 10 1 protect 10000 4000 1\n5 0 10 1 fault 11000 7\n\
        5 1 12 2 remap 10000 8000 90000 10000\n6 1 12 2 fault 90010 4\n6 0 10 1 madv 10000 2000 DONTNEED\n\
        6 0 10 1 unmap 40000 1000\n6 0 10 1 unmap 40000 1000\n6 0 10 1 fault 40000 4\n7 1 12 2 exec 3\n\
        8 0 10 1 exit\n8 1 12 2 exit\n";
    let count = |op: &str| events.lines().filter(|l| l.split(' ').nth(4) == Some(op)).count();
    let totals: Vec<String> = ["map", "unmap", "protect", "fault", "madv", "remap", "fork", "exec", "exit"]
        .iter()
        .map(|op| format!("{op}={}", count(op)))
        .collect();
    format!(
        "# vmtrace format 1\n# workload tiny: everything once\n# cpus 2\n# lost_records 0\n\
         # totals events={} {}\n# obj 2 254:0:7 16384 program\n# obj 3 0:1:5 16384 zero_(deleted)\n{events}",
        events.lines().count(),
        totals.join(" ")
    )
}

fn gz(text: &str) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), Compression::fast());
    out.write_all(text.as_bytes()).unwrap();
    out.finish().unwrap()
}
