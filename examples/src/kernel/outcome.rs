//! What became of a run: the guest's report, its exit code, and whether they agree.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::options::{Accel, Emulator, Options};
use super::run::{End, Ran};
use crate::error::Error;

/// QEMU's exit codes for the values that the guest writes to the exit port (2 × value + 1).
mod code {
    /// 0x10: every check held.
    pub(super) const HELD: i32 = 33;
    /// 0x11: a check failed.
    pub(super) const FAILED: i32 = 35;
    /// 0x12: the command line makes no sense to the guest.
    pub(super) const USAGE: i32 = 37;
    /// 0x13: the guest panicked.
    pub(super) const PANIC: i32 = 39;
}

/// How a run ended, judged.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Whether every check held.
    pub ok: bool,
    /// What the guest reported, and what was found wrong with that.
    report: Map<String, Value>,
    wall: Duration,
}

impl Outcome {
    /// Says one more thing about how the guest was run.
    pub(super) fn add_to_host(&mut self, key: &str, value: Value) {
        if let Some(Value::Object(host)) = self.report.get_mut("host") {
            host.insert(key.to_owned(), value);
        }
    }

    /// Compares the figures with those of another run that must be the same.
    pub(super) fn compare(&mut self, again: &Self) {
        let figures = |of: &Self| of.report.get("figures").and_then(Value::as_object).cloned();
        let (first, second) = (figures(self).unwrap_or_default(), figures(again).unwrap_or_default());
        let names: BTreeSet<&String> = first.keys().chain(second.keys()).collect();
        let errors = names
            .into_iter()
            .filter(|name| first.get(*name) != second.get(*name))
            .map(|name| format!("two runs of the same do not agree on the figure `{name}`"))
            .chain(again.errors().map(|error| format!("the second run: {error}")))
            .collect::<Vec<_>>();
        self.ok &= again.ok && errors.is_empty();
        self.wall += again.wall;
        self.report.insert("ok".into(), self.ok.into());
        if let Some(Value::Array(all)) = self.report.get_mut("errors") {
            all.extend(errors.into_iter().map(Value::from));
        }
    }

    fn errors(&self) -> impl Iterator<Item = String> {
        let errors = self.report.get("errors").and_then(Value::as_array);
        errors.into_iter().flatten().map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned))
    }

    /// One line of JSON: the guest's report, and `host`, which says how it was run.
    #[must_use]
    pub fn json(&self) -> String {
        Value::Object(self.report.clone()).to_string()
    }

    /// A few lines for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        for error in self.errors() {
            // Writing to a string does not fail.
            let _ = writeln!(text, "FAILED: {error}");
        }
        if self.ok {
            let checks = self.report.get("checks").and_then(Value::as_u64).unwrap_or(0);
            let _ = writeln!(text, "OK: every check held ({checks}, {:.1} s).", self.wall.as_secs_f64());
        }
        text
    }
}

/// Judges a run.
///
/// # Errors
/// If the emulator or the guest could not make sense of the options: that is no outcome.
pub(super) fn judge(options: &Options, ran: &Ran) -> Result<Outcome, Error> {
    let mut report = Map::new();
    let mut wrong = Vec::new();
    match ran.report.as_deref().map(serde_json::from_str) {
        Some(Ok(object)) => report = object,
        Some(Err(e)) => wrong.push(format!("the guest's report is no JSON object ({e})")),
        None => wrong.push("the guest ended without a report".to_owned()),
    }
    if let Some(why) = report.get("usage") {
        let why = why.as_str().unwrap_or("it does not say why");
        return Err(Error::Option(format!("the kernel refuses its command line: {why}")));
    }
    let panic = report.get("panic").and_then(Value::as_str).map(|what| format!("the guest panicked: {what}"));
    wrong.extend(panic);
    let said_ok = report.get("ok").and_then(Value::as_bool);
    if ran.report.is_some() && said_ok.is_none() && wrong.is_empty() {
        wrong.push("the guest's report does not say whether all is well".to_owned());
    }
    if said_ok == Some(true) && report.get("program").and_then(Value::as_str) != Some(&options.program) {
        wrong.push("the guest's report is about another program".to_owned());
    }
    if said_ok == Some(true) && report.get("cpus").and_then(Value::as_u64) != Some(options.smp.into()) {
        wrong.push(format!("the guest did not run on all {} CPUs", options.smp));
    }
    let limit = options.time_limit().as_secs();
    match (ran.end, options.emulator) {
        (End::TimedOut, emulator) => {
            // That there is no report follows from this.
            wrong.clear();
            wrong.push(format!("it did not end within {limit} s, so {} was stopped", emulator.name()));
        }
        (End::Exited(code), Emulator::Qemu) => judge_qemu(code, said_ok, ran, &mut wrong)?,
        (End::Exited(_), Emulator::Bochs) => judge_bochs(said_ok, ran, &mut wrong)?,
    }
    conclude(options, ran, report, wrong)
}

/// QEMU's exit code is the guest's; it must agree with the report.
fn judge_qemu(
    code: Option<i32>,
    said_ok: Option<bool>,
    ran: &Ran,
    wrong: &mut Vec<String>,
) -> Result<(), Error> {
    match code {
        Some(code::HELD) if said_ok != Some(false) => {}
        Some(code::FAILED) if said_ok != Some(true) => {}
        Some(code::HELD | code::FAILED) => {
            wrong.push("the guest's exit code contradicts its report".to_owned())
        }
        Some(code::USAGE) => wrong.push("the guest refuses its command line and does not say why".to_owned()),
        Some(code::PANIC) if wrong.is_empty() => wrong.push("the guest panicked".to_owned()),
        Some(code::PANIC) => {}
        Some(0) => wrong.push("the guest reset or switched itself off, as after a triple fault".to_owned()),
        Some(1) if !ran.spoke => {
            let why = ran.emulator_said.lines().next().unwrap_or("it does not say why");
            return Err(Error::Setup(format!("QEMU does not start: {why}")));
        }
        Some(code) => wrong.push(format!("QEMU ended with exit code {code}")),
        None => wrong.push("QEMU was killed".to_owned()),
    }
    Ok(())
}

/// Bochs hands no exit code through: the report must do, and its log says that it was the guest who ended it.
fn judge_bochs(said_ok: Option<bool>, ran: &Ran, wrong: &mut Vec<String>) -> Result<(), Error> {
    let log = ran.emulator_said.lines();
    if ran.emulator_said.contains("shutdown requested") {
        return Ok(());
    }
    let why = log.rev().find_map(|line| line.split_once(">>PANIC<< "));
    let why = why.map_or("its log does not say why", |(_, why)| why);
    if !ran.spoke {
        return Err(Error::Setup(format!("Bochs does not get as far as the kernel: {why}")));
    }
    if said_ok != Some(false) {
        wrong.push(format!("Bochs ended, but not because the guest asked for it: {why}"));
    }
    Ok(())
}

/// Adds what was found wrong, and how the guest was run, to its report.
fn conclude(
    options: &Options,
    ran: &Ran,
    mut report: Map<String, Value>,
    wrong: Vec<String>,
) -> Result<Outcome, Error> {
    let said_ok = report.get("ok").and_then(Value::as_bool) == Some(true);
    let mut errors = match report.remove("errors") {
        Some(Value::Array(errors)) => errors,
        _ => Vec::new(),
    };
    errors.extend(wrong.into_iter().map(Value::from));
    if !said_ok && errors.is_empty() {
        errors.push("a check failed in the guest".into());
    }
    let ok = said_ok && errors.is_empty();
    report.insert("ok".into(), ok.into());
    report.entry("program").or_insert_with(|| options.program.clone().into());
    report.insert("errors".into(), errors.into());
    let accel = (options.emulator == Emulator::Qemu).then(|| match options.accel() {
        Accel::Parallel => "parallel",
        Accel::Single => "single",
        Accel::Deterministic => "deterministic",
    });
    let wall = (ran.wall.as_secs_f64() * 100.0).round() / 100.0;
    report.insert(
        "host".into(),
        json!({
            "emulator": options.emulator.name().to_lowercase(),
            "cpu_model": options.cpu(),
            "smp": options.smp,
            "accel": accel,
            "memory_mib": options.memory,
            "wall_seconds": wall,
        }),
    );
    Ok(Outcome { ok, report, wall: ran.wall })
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    const GOOD: &str = r#"{"program":"selftest","ok":true,"cpus":4,"checks":7,"errors":[]}"#;
    const BAD: &str = r#"{"program":"selftest","ok":false,"errors":["a stale read"]}"#;

    fn judged(emulator: &str, end: End, report: Option<&str>, said: &str) -> Result<Outcome, Error> {
        let options = Line::parse_from(["kernel", "--emulator", emulator]).options;
        let ran = Ran {
            end,
            report: report.map(str::to_owned),
            spoke: report.is_some(),
            emulator_said: said.to_owned(),
            wall: Duration::from_millis(1500),
        };
        judge(&options, &ran)
    }

    fn qemu(code: i32, report: Option<&str>) -> Outcome {
        judged("qemu", End::Exited(Some(code)), report, "").unwrap()
    }

    /// What is wrong, as one text.
    fn wrong(outcome: &Outcome) -> String {
        assert!(!outcome.ok);
        let json: Value = serde_json::from_str(&outcome.json()).unwrap();
        assert_eq!(json["ok"], false);
        outcome.text()
    }

    #[test]
    fn all_is_well_only_if_everything_says_so() {
        let outcome = qemu(code::HELD, Some(GOOD));
        assert!(outcome.ok);
        assert_eq!(outcome.text(), "OK: every check held (7, 1.5 s).\n");
        let json: Value = serde_json::from_str(&outcome.json()).unwrap();
        assert_eq!((&json["cpus"], &json["host"]["accel"]), (&4.into(), &"parallel".into()));

        assert!(wrong(&qemu(code::HELD, None)).contains("without a report"));
        assert!(wrong(&qemu(code::HELD, Some(BAD))).contains("contradicts"));
        assert!(wrong(&qemu(code::FAILED, Some(GOOD))).contains("contradicts"));
        assert!(wrong(&qemu(code::PANIC, Some(GOOD))).contains("panicked"));
        assert!(wrong(&qemu(0, Some(GOOD))).contains("triple fault"));
        assert!(wrong(&qemu(5, Some(GOOD))).contains("exit code 5"));
        assert!(wrong(&qemu(code::HELD, Some("{oops"))).contains("no JSON object"));
        assert!(wrong(&qemu(code::HELD, Some("{}"))).contains("does not say"));
        let other = GOOD.replace("selftest", "torture");
        assert!(wrong(&qemu(code::HELD, Some(&other))).contains("another program"));
        let fewer = GOOD.replace("\"cpus\":4", "\"cpus\":3");
        assert!(wrong(&qemu(code::HELD, Some(&fewer))).contains("all 4 CPUs"));
        let timed_out = judged("qemu", End::TimedOut, None, "").unwrap();
        assert!(wrong(&timed_out).starts_with("FAILED: it did not end within 140 s"));
        assert!(wrong(&judged("qemu", End::Exited(None), Some(GOOD), "").unwrap()).contains("killed"));
    }

    #[test]
    fn two_runs_must_have_the_same_figures() {
        let with =
            |figures: &str| qemu(code::HELD, Some(&GOOD.replace("[]", &format!("[],\"figures\":{figures}"))));
        let compared = |first, second: &Outcome| {
            let mut outcome: Outcome = with(first);
            outcome.compare(second);
            outcome
        };
        assert!(compared(r#"{"enter":650}"#, &with(r#"{"enter":650}"#)).ok);
        for other in [r#"{"enter":651}"#, "{}", r#"{"enter":650,"remove":1}"#] {
            assert!(
                wrong(&compared(r#"{"enter":650}"#, &with(other))).contains("do not agree on the figure")
            );
        }
        let failed = qemu(code::FAILED, Some(BAD));
        assert!(wrong(&compared("{}", &failed)).contains("the second run: a stale read"));
    }

    #[test]
    fn failures_of_the_guest_are_passed_on() {
        assert_eq!(wrong(&qemu(code::FAILED, Some(BAD))), "FAILED: a stale read\n");
        let silent = r#"{"program":"selftest","ok":false}"#;
        let panicked = r#"{"ok":false,"panic":"at line 7"}"#;
        assert_eq!(wrong(&qemu(code::PANIC, Some(panicked))), "FAILED: the guest panicked: at line 7\n");
        assert!(wrong(&qemu(code::FAILED, Some(silent))).contains("a check failed in the guest"));
    }

    #[test]
    fn wrong_usage_is_no_outcome() {
        let refused = r#"{"ok":false,"usage":"there is no program `dance`"}"#;
        for (emulator, code) in [("qemu", code::USAGE), ("bochs", 1)] {
            let error = judged(emulator, End::Exited(Some(code)), Some(refused), "").unwrap_err();
            assert_eq!((error.exit_code(), error.to_string().contains("no program `dance`")), (2, true));
        }
        let said = "qemu: unable to find CPU model 'z80'\n";
        let error = judged("qemu", End::Exited(Some(1)), None, said).unwrap_err();
        assert_eq!((error.exit_code(), error.to_string().contains("z80")), (2, true));
    }

    #[test]
    fn bochs_must_have_been_ended_by_the_guest() {
        let shutdown = "00412p[UNMAP ] >>PANIC<< Shutdown port: shutdown requested\n";
        let ended = |report, log| judged("bochs", End::Exited(Some(1)), report, log);
        assert!(ended(Some(GOOD), shutdown).unwrap().ok);
        assert!(wrong(&ended(Some(BAD), shutdown).unwrap()).contains("stale read"));
        let crashed = "00412p[CPU0 ] >>PANIC<< exception(): 3rd (13) exception\n";
        assert!(wrong(&ended(Some(GOOD), crashed).unwrap()).contains("3rd (13) exception"));
        let error = ended(None, "00412p[BIOS ] >>PANIC<< No bootable device.\n").unwrap_err();
        assert!(error.to_string().contains("No bootable device"));
    }
}
