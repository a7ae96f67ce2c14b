//! `COVERAGE.md` cannot drift: everything that a pmap has to do has a row, and what a row names exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The entry points of a complete pmap, one a line.
const ENTRY_POINTS: &str = include_str!("coverage/entry_points.txt");
/// The hazards are numbered from 1 to this.
const HAZARDS: u32 = 88;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Status {
    Done,
    BasePages,
    Different,
    Planned,
    LeftOut,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "done" => Self::Done,
            "4 KiB" => Self::BasePages,
            "different" => Self::Different,
            "planned" => Self::Planned,
            "left out" => Self::LeftOut,
            _ => return None,
        })
    }

    fn is_built(self) -> bool {
        matches!(self, Self::Done | Self::BasePages | Self::Different)
    }
}

struct Row {
    /// Name of the entry point, or `H-n`.
    name: String,
    status: Status,
    /// A file and a function in it, if the row names any.
    place: Vec<String>,
    tests: Vec<String>,
    note: String,
}

fn crate_root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The words between backquotes.
fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(String::from).collect()
}

fn row(line: &str) -> Result<Row, String> {
    let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
    let [what, status, place, tests, note] = cells[..] else {
        return Err(format!("not five cells: {line}"));
    };
    let name = match quoted(what).first() {
        Some(name) => name.clone(),
        None => what.split(' ').next().unwrap_or_default().to_string(),
    };
    let status = Status::parse(status).ok_or_else(|| format!("{name}: unknown status {status:?}"))?;
    Ok(Row { name, status, place: quoted(place), tests: quoted(tests), note: note.to_string() })
}

fn rows(page: &str) -> Result<Vec<Row>, String> {
    let is_row = |line: &&str| {
        line.starts_with("| ") && !line.starts_with("| entry point") && !line.starts_with("| hazard")
    };
    page.lines().filter(is_row).map(row).collect()
}

fn rust_files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// The names of all functions of the workspace's sources with the attribute `#[test]`.
fn tests_of_the_workspace() -> BTreeSet<String> {
    let top = crate_root().join("..");
    let mut files = Vec::new();
    for package in ["pmap", "gencount", "dcas-queue", "turnstile", "examples"] {
        for part in ["src", "tests"] {
            rust_files(&top.join(package).join(part), &mut files);
        }
    }
    let mut names = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).expect("a source file");
        let mut expected = false;
        for line in text.lines().map(str::trim) {
            if line == "#[test]" {
                expected = true;
            } else if let Some(rest) = line.strip_prefix("fn ").filter(|_| expected) {
                names.extend(rest.split(['(', '<']).next().map(String::from));
                expected = false;
            }
        }
    }
    names
}

/// What is wrong with the place that a row names.
fn misplaced(place: &[String]) -> Option<String> {
    let [file, functions @ ..] = place else { return Some("no place".to_string()) };
    let root = crate_root();
    let path = [root.join("src").join(file), root.join("..").join(file)].into_iter().find(|p| p.is_file());
    let Some(path) = path else { return Some(format!("no file {file}")) };
    let text = fs::read_to_string(path).expect("a source file");
    let defined = |f: &&String| ["(", "<"].iter().any(|after| text.contains(&format!("fn {f}{after}")));
    functions.iter().find(|f| !defined(f)).map(|f| format!("no function {f} in {file}"))
}

/// Everything that is wrong with the page.
fn complaints(page: &str, tests: &BTreeSet<String>) -> Vec<String> {
    let rows = match rows(page) {
        Ok(rows) => rows,
        Err(words) => return vec![words],
    };
    let mut wrong = Vec::new();
    let mut met = BTreeMap::new();
    for row in &rows {
        *met.entry(row.name.clone()).or_insert(0) += 1;
        for test in row.tests.iter().filter(|test| !tests.contains(*test)) {
            wrong.push(format!("{}: there is no test {test}", row.name));
        }
        if row.status.is_built() {
            wrong.extend(misplaced(&row.place).map(|words| format!("{}: {words}", row.name)));
            if row.tests.is_empty() {
                wrong.push(format!("{}: no test shows it", row.name));
            }
        }
        if matches!(row.status, Status::Different | Status::LeftOut) && row.note.is_empty() {
            wrong.push(format!("{}: nothing says why", row.name));
        }
    }
    let hazards = (1..=HAZARDS).map(|n| format!("H-{n}"));
    let expected: Vec<String> = ENTRY_POINTS.lines().map(String::from).chain(hazards).collect();
    for name in &expected {
        match met.remove(name) {
            Some(1) => {}
            Some(n) => wrong.push(format!("{name}: {n} rows")),
            None => wrong.push(format!("{name}: no row")),
        }
    }
    wrong.extend(met.into_keys().map(|name| format!("{name}: not on the list")));
    wrong
}

fn page() -> String {
    fs::read_to_string(crate_root().join("COVERAGE.md")).expect("COVERAGE.md beside the manifest")
}

#[test]
fn every_row_is_true() {
    let wrong = complaints(&page(), &tests_of_the_workspace());
    assert!(wrong.is_empty(), "COVERAGE.md:\n{}", wrong.join("\n"));
}

/// The check above sees what it is for: each kind of drift is reported.
#[test]
fn drift_is_reported() {
    let tests = tests_of_the_workspace();
    let good = page();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "the page has changed, and this test must: {from}");
        complaints(&good.replacen(from, to, 1), &tests)
    };
    let enter = "| `pmap_enter` | 4 KiB | `ops/enter.rs` `enter` | `the_pmap_agrees_with_the_model` |";
    for (changed, complaint) in [
        (enter.replace("the_pmap_agrees", "the_pmap_disagrees"), "pmap_enter: there is no test"),
        (enter.replace("`the_pmap_agrees_with_the_model`", ""), "pmap_enter: no test shows it"),
        (enter.replace("enter.rs", "entrance.rs"), "pmap_enter: no file"),
        (enter.replace("` `enter`", "` `entrance`"), "pmap_enter: no function"),
        (enter.replace("4 KiB", "nearly done"), "pmap_enter: unknown status"),
        (enter.replace("`pmap_enter`", "`pmap_entrance`"), "pmap_enter: no row"),
        (enter.replace("`pmap_enter`", "`pmap_enter_quick`"), "pmap_enter_quick: 2 rows"),
    ] {
        let wrong = with(enter, &changed);
        assert!(wrong.iter().any(|words| words.starts_with(complaint)), "{complaint}: {wrong:?}");
    }
    let wrong = with("| H-1 ", "| H-89 ");
    assert_eq!(wrong, ["H-1: no row", "H-89: not on the list"]);
}
