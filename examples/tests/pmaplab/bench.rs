//! The benchmarks work and their report keeps its form. What they measure says nothing here: the runs are far too short.

use crate::common::pmaplab;

/// Runs `bench` for a moment and returns the rows as (impl, threads, mix).
fn rows(bench: &str) -> Vec<(String, u64, String)> {
    let out = pmaplab(&["bench", bench, "--threads", "1,3", "--runs", "1", "--seconds", "1", "--json"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let report = out.json();
    assert_eq!(report.as_object().expect("an object").len(), 2, "{report}");
    assert_eq!(report["bench"], bench);
    let rows = report["rows"].as_array().expect("rows");
    rows.iter()
        .map(|row| {
            assert_eq!(row.as_object().expect("an object").len(), 5, "{row}");
            assert!(row["ns_per_op"].as_f64().expect("a number") > 0.0, "{row}");
            assert!(row["restarts_per_op"].as_f64().expect("a number") >= 0.0, "{row}");
            let text = |key: &str| row[key].as_str().expect("text").to_owned();
            (text("impl"), row["threads"].as_u64().expect("a number"), text("mix"))
        })
        .collect()
}

/// A row for each implementation, number of threads and mix, in a stable order.
fn expected(waiting: &[&str], others: &[&str], mixes: &[&str]) -> Vec<(String, u64, String)> {
    let mut rows = Vec::new();
    for &mix in mixes {
        for threads in [1, 3] {
            let others = if mix == "pairs" { others } else { &[] };
            for name in waiting.iter().chain(others) {
                rows.push(((*name).to_owned(), threads, mix.to_owned()));
            }
        }
    }
    rows
}

#[test]
fn generation_counting_has_all_rows() {
    let waiting =
        ["published", "published-yield", "locked", "lockfree", "sharded", "mutex-std", "mutex-parking_lot"];
    let mixes = ["pairs", "wait-1", "wait-10", "wait-100"];
    assert_eq!(rows("di"), expected(&waiting, &["crossbeam-epoch"], &mixes));
}

#[test]
fn the_queue_has_all_rows() {
    let names = ["published", "published-yield", "lockfree", "mutex-std", "mutex-parking_lot"];
    assert_eq!(rows("queue"), expected(&[], &names, &["pairs"]));
}

#[test]
#[cfg(target_os = "linux")]
fn mutexes_have_all_rows() {
    assert_eq!(
        rows("turnstile"),
        expected(&[], &["pi-mutex", "parking_lot", "std", "pthread-pi"], &["pairs"])
    );
}

#[test]
fn people_get_a_table() {
    let out = pmaplab(&[
        "bench",
        "di",
        "--threads",
        "2",
        "--runs",
        "1",
        "--seconds",
        "1",
        "--mix",
        "pairs",
        "--impl",
        "published,lockfree",
    ]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let line = out.stdout.lines().find(|line| line.starts_with("| lockfree")).expect("a row");
    assert!(line.contains('('), "compared with the published algorithm: {line}");
    assert!(!out.stdout.contains("sharded"), "{}", out.stdout);
}

/// Every operation of the pmap beside its peer, with the address space active and inactive.
#[test]
fn the_pmap_has_a_row_for_each_operation_and_case() {
    let out = pmaplab(&["bench", "pmap", "--runs", "1", "--seconds", "1", "--json"]);
    assert_eq!(out.code, Some(0), "{}", out.stderr);
    let report = out.json();
    assert_eq!((&report["bench"], &report["pages"]), (&"pmap".into(), &8192.into()));
    assert!(
        report["interrupts_per_run"].as_f64().expect("a number") >= 3.0,
        "the other CPU was asked: {report}"
    );
    let rows = report["rows"].as_array().expect("rows");
    let cases: Vec<_> = rows.iter().map(|row| (row["operation"].as_str(), row["active"].as_bool())).collect();
    let operations = ["enter_object", "enter", "protect", "remove"];
    let all = |active: bool| operations.map(|operation| (Some(operation), Some(active)));
    assert_eq!(cases, [all(true), all(false)].concat());
    for row in rows {
        let number = |key: &str| row[key].as_f64().expect("a number");
        assert!(number("working_ns_per_page") > 0.0 && number("peer_ns_per_page") > 0.0, "{row}");
        assert!(number("ns_per_page") >= number("working_ns_per_page"), "{row}");
        let ratio = number("ns_per_page") / number("peer_ns_per_page");
        assert!((ratio - number("ratio")).abs() < 0.01 * ratio + 0.01, "{row}");
    }
}
