//! What came out of a run: for people, and as one line of JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use crate::model::Checker;
use crate::replay::{Reason, Skipped};
use crate::run::Choices;
use crate::trace::{OpKind, Trace};
use crate::vm::{System, Vm};

/// Failures that are described.
const DESCRIBED: usize = 12;
/// Runs with at least this many events must have met stale translations, or the machine was too tame to
/// prove anything.
const MUST_BE_NASTY: u64 = 1000;

/// The result of one run. The JSON keys are stable.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Every check held.
    pub ok: bool,
    /// Name of the trace.
    pub trace: String,
    /// Simulated CPUs.
    pub cpus: usize,
    /// Processor that they are like.
    pub cpu_model: &'static str,
    /// How the pmap manages cached translations.
    pub tlb: &'static str,
    /// Implementation of delayed invalidation.
    pub di: &'static str,
    /// Events worked through, skipped ones included.
    pub events: u64,
    /// Events that could not be applied.
    pub skipped_events: u64,
    /// … by reason.
    pub skipped: BTreeMap<&'static str, u64>,
    /// Page faults of the trace that were replayed.
    pub faults: u64,
    /// Page faults of the trace that were skipped.
    pub skipped_faults: u64,
    /// Events per second.
    pub ops_per_second: u64,
    /// Time from the start to the end of all CPUs.
    pub wall_seconds: f64,
    /// Accesses through a stale translation to a frame with a new owner.
    pub stale_accesses: u64,
    /// Translations found at guarantee points that the guarantee forbids.
    pub forbidden_entries: u64,
    /// Stale translations that were still cached before a guarantee point, as they may be.
    pub stale_before_guarantee: u64,
    /// Answers that differ from the model's.
    pub model_mismatches: u64,
    /// Answers compared.
    pub comparisons: u64,
    /// Things recorded twice that do not agree.
    pub audit_errors: u64,
    /// Physical memory, in frames.
    pub frames: u64,
    /// What the trace needs at most, in frames; 0 if unknown.
    pub peak_frames: u64,
    /// Most frames in use at once.
    pub peak_used_frames: u64,
    /// Start of all random decisions.
    pub seed: u64,
    /// Whether one CPU ran at a time.
    pub deterministic: bool,
    /// Hash over the history of a deterministic run, in hexadecimal; empty otherwise.
    pub history: String,
    /// What was done how often; `pv_entries`, `pv_chunks` and `pt_pages` are the most that were seen at once.
    pub counters: BTreeMap<&'static str, u64>,
    /// What is wrong, in words; the first few.
    pub failures: Vec<String>,
    /// The command that repeats the run, if it failed.
    pub repeat: String,
    #[serde(skip)]
    table_frames: u64,
    #[serde(skip)]
    others: u64,
}

impl Report {
    /// An empty report on a run that is to begin.
    #[must_use]
    pub fn new(trace: &str, choices: &Choices) -> Self {
        Self {
            trace: trace.to_owned(),
            cpus: choices.cpus,
            cpu_model: choices.cpu_model.name(),
            frames: choices.frames,
            seed: choices.seed,
            deterministic: choices.deterministic,
            ..Self::default()
        }
    }

    /// Adds a failure that no other field counts.
    pub fn fail(&mut self, what: String) {
        self.others += 1;
        self.describe(what);
    }

    /// Adds an audit error.
    pub fn audit_error(&mut self, what: String) {
        self.audit_errors += 1;
        self.describe(what);
    }

    fn describe(&mut self, what: String) {
        if self.failures.len() < DESCRIBED {
            self.failures.push(what);
        }
    }

    /// Notes how many page-table pages the kernel alone has.
    pub(crate) fn note_start(&mut self, system: &System) {
        self.tlb = system.tlb_choice().method.name();
        self.table_frames = system.statistics().pt_pages;
    }

    /// Checks that everything was given back.
    pub(crate) fn check_nothing_left(&mut self, system: &System) {
        let now = system.statistics();
        let [data, tables, chunks, _records] = system.machine().report().frames_in_use;
        let left = [
            (data, "data frames"),
            (now.pv_entries, "PV entries"),
            (now.pv_chunks, "PV chunks"),
            (chunks, "frames of PV chunks"),
            (now.pt_pages.abs_diff(self.table_frames), "page-table pages"),
            (tables.abs_diff(self.table_frames), "frames of page tables"),
        ];
        for (count, what) in left {
            if count != 0 {
                self.audit_error(format!(
                    "{count} {what} too many or too few after everything was given back"
                ));
            }
        }
    }

    /// Takes in what machine, pmap, virtual-memory layer and checker have counted.
    pub(crate) fn take_in(&mut self, system: &System, vm: &Vm<'_>, checker: &Checker) {
        let machine = system.machine().report();
        self.stale_accesses = machine.stale_accesses;
        self.forbidden_entries = machine.forbidden_entries;
        self.stale_before_guarantee = machine.stale_before_guarantee;
        self.peak_used_frames = machine.peak_used_frames;
        self.model_mismatches = checker.mismatches().count();
        self.comparisons = checker.compared();
        if self.deterministic {
            self.history = format!("{:016x}", machine.history);
        }
        machine.first_failures.into_iter().for_each(|what| self.describe(what));
        checker.mismatches().first().into_iter().for_each(|what| self.describe(what));
        let di = system.machine().counters();
        let pmap = system.statistics();
        self.counters.extend([
            ("invl_wait", di.invl_wait),
            ("invl_wait_slow", di.invl_wait_slow),
            ("invl_max_qlen", di.invl_max_qlen),
            ("invl_start_restart", di.invl_start_restart),
            ("invl_finish_restart", di.invl_finish_restart),
            ("di_blocks", di.di_blocks),
            ("di_wait_calls", di.di_wait_calls),
            ("remove_all_calls", pmap.remove_all_calls),
            ("remove_write_calls", pmap.remove_write_calls),
            ("remove_pages_calls", pmap.remove_pages_calls),
            ("enters", pmap.enters),
            ("enter_quicks", pmap.enter_quicks),
            ("removes", pmap.removes),
            ("protects", pmap.protects),
            ("reversals", pmap.reversals),
            ("reversal_restarts", pmap.reversal_restarts),
            ("pv_reclaims", pmap.pv_reclaims),
            ("pv_reclaims_in_vain", pmap.pv_reclaims_in_vain),
            ("pv_reclaimed", pmap.pv_reclaimed),
            ("pt_pages_recycled", pmap.pt_pages_recycled),
            ("shootdowns", pmap.shootdowns),
            ("shootdown_ipis", pmap.shootdown_ipis),
            ("shootdowns_local_only", pmap.shootdowns_local_only),
            ("shootdown_broadcasts", pmap.shootdown_broadcasts),
            ("ipis_saved_lazy", pmap.ipis_saved_lazy),
            ("ipis_saved_batching", pmap.ipis_saved_batching),
            ("switches", pmap.switches),
            ("switches_kept", pmap.switches_kept),
            ("pcid_generations", pmap.pcid_generations),
            ("pages_reused", machine.pages_reused),
            ("tlb_hits", machine.tlb_hits),
            ("tlb_misses", machine.tlb_misses),
            ("tlb_speculative_fills", machine.speculative_fills),
            ("guarantee_searches", machine.searches),
        ]);
        self.counters.extend(vm.counts().list());
        self.counters.extend(vm.gauges());
    }

    /// Takes in what was skipped.
    pub(crate) fn take_skipped(&mut self, skipped: &Skipped, trace: &Trace) {
        self.skipped_events = skipped.total();
        self.skipped_faults = skipped.faults();
        self.faults = trace.totals.of(OpKind::Fault).saturating_sub(self.skipped_faults);
        self.skipped =
            Reason::ALL.iter().map(|r| (r.name(), skipped.of(*r))).filter(|(_, n)| *n > 0).collect();
        if self.events != trace.totals.events {
            self.fail(format!("{} of {} events were worked through", self.events, trace.totals.events));
        }
    }

    /// Decides whether the run is in order.
    pub(crate) fn conclude(&mut self) {
        self.ops_per_second = (self.events as f64 / self.wall_seconds.max(1e-9)) as u64;
        if self.stale_before_guarantee == 0 && self.events >= MUST_BE_NASTY {
            self.fail(
                "no stale translation was ever met: the machine is too tame to prove anything".to_owned(),
            );
        }
        self.ok = self.bad() == 0;
    }

    fn bad(&self) -> u64 {
        self.stale_accesses + self.forbidden_entries + self.model_mismatches + self.audit_errors + self.others
    }

    /// One line of JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_else(|e| json!({ "ok": false, "error": e.to_string() }))
    }

    fn counter(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }

    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_text(&mut out);
        out
    }

    fn write_text(&self, out: &mut String) -> std::fmt::Result {
        let n = number;
        writeln!(
            out,
            "{}: {} events on {} simulated CPUs ({}, {}) in {:.2} s ({} per second), delayed invalidation {}",
            self.trace,
            n(self.events),
            self.cpus,
            self.cpu_model,
            self.tlb,
            self.wall_seconds,
            n(self.ops_per_second),
            self.di
        )?;
        if self.skipped_events > 0 {
            writeln!(out, "  {} events could not be applied:", n(self.skipped_events))?;
            for reason in Reason::ALL {
                if let Some(count) = self.skipped.get(reason.name()) {
                    writeln!(out, "    {:>9}  {reason}", n(*count))?;
                }
            }
        }
        writeln!(out, "  What happened")?;
        let c = |name| n(self.counter(name));
        for (value, what) in [
            (c("page_faults"), format!("page faults resolved, {} private copies made", c("copies"))),
            (c("removes"), format!("range removals, {} protection changes", c("protects"))),
            (
                c("shootdown_ipis"),
                format!("shootdown interrupts; {} flushes needed none", c("shootdowns_local_only")),
            ),
            (
                c("ipis_saved_batching"),
                format!(
                    "interrupts saved by flushing once for several pages, {} by lazy flushing",
                    c("ipis_saved_lazy")
                ),
            ),
            (
                c("switches"),
                format!(
                    "switches to an address space, {} of which kept its translations",
                    c("switches_kept")
                ),
            ),
            (
                c("di_blocks"),
                format!("delayed-invalidation blocks, at most {} in the queue", c("invl_max_qlen")),
            ),
            (
                c("di_wait_calls"),
                format!(
                    "waits for them: {} found an open block, {} slept",
                    c("invl_wait"),
                    c("invl_wait_slow")
                ),
            ),
            (
                c("remove_all_calls"),
                format!("pages taken by the page daemon, {} came back from swap", c("swap_ins")),
            ),
            (
                c("pv_reclaimed"),
                format!(
                    "mappings taken away for their PV entries, in {} attempts of which {} found nothing",
                    c("pv_reclaims"),
                    c("pv_reclaims_in_vain")
                ),
            ),
            (n(self.peak_used_frames), format!("frames in use at most, of {}", n(self.frames))),
            (c("pv_entries"), format!("PV entries at most, and {} page-table pages", c("pt_pages"))),
        ] {
            writeln!(out, "    {value:>11}  {what}")?;
        }
        writeln!(out, "  What was checked")?;
        for (value, what) in [
            (n(self.comparisons), "answers of the pmap compared with the model".to_owned()),
            (c("guarantee_searches"), "searches of every TLB at guarantee points".to_owned()),
            (
                n(self.stale_before_guarantee),
                "stale translations met before guarantee points, as is permitted".to_owned(),
            ),
        ] {
            writeln!(out, "    {value:>11}  {what}")?;
        }
        writeln!(out, "  What was wrong")?;
        for (value, what) in [
            (self.stale_accesses, "accesses to a frame with a new owner"),
            (self.forbidden_entries, "translations found that a guarantee forbids"),
            (self.model_mismatches, "answers that differ from the model"),
            (self.audit_errors, "audit errors"),
        ] {
            writeln!(out, "    {:>11}  {what}", n(value))?;
        }
        for failure in &self.failures {
            writeln!(out, "    - {failure}")?;
        }
        if !self.repeat.is_empty() {
            writeln!(out, "  To repeat it: {}", self.repeat)?;
        }
        writeln!(out, "{}", if self.ok { "OK: every check held." } else { "FAILED." })
    }
}

/// Several reports as one JSON object with the same keys: sums, and the single reports under `runs`.
#[must_use]
pub fn combined(reports: &[Report]) -> Value {
    if let [only] = reports {
        return only.json();
    }
    let sum = |field: fn(&Report) -> u64| reports.iter().map(field).sum::<u64>();
    let mut counters: BTreeMap<&str, u64> = BTreeMap::new();
    for (name, value) in reports.iter().flat_map(|r| &r.counters) {
        let total = counters.entry(name).or_default();
        *total = if *name == "invl_max_qlen" { (*total).max(*value) } else { *total + value };
    }
    let wall: f64 = reports.iter().map(|r| r.wall_seconds).sum();
    let events = sum(|r| r.events);
    let first = reports.first();
    json!({
        "ok": reports.iter().all(|r| r.ok),
        "trace": reports.iter().map(|r| r.trace.as_str()).collect::<Vec<_>>().join(","),
        "cpus": first.map_or(0, |r| r.cpus),
        "cpu_model": first.map_or("", |r| r.cpu_model),
        "tlb": first.map_or("", |r| r.tlb),
        "di": first.map_or("", |r| r.di),
        "events": events,
        "skipped_events": sum(|r| r.skipped_events),
        "faults": sum(|r| r.faults),
        "skipped_faults": sum(|r| r.skipped_faults),
        "ops_per_second": (events as f64 / wall.max(1e-9)) as u64,
        "wall_seconds": wall,
        "stale_accesses": sum(|r| r.stale_accesses),
        "forbidden_entries": sum(|r| r.forbidden_entries),
        "stale_before_guarantee": sum(|r| r.stale_before_guarantee),
        "model_mismatches": sum(|r| r.model_mismatches),
        "audit_errors": sum(|r| r.audit_errors),
        "counters": counters,
        "runs": reports.iter().map(Report::json).collect::<Vec<_>>(),
    })
}

/// A number with thousands separated.
fn number(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!([0, 999, 1000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn several_reports_add_up() {
        let one =
            Report { ok: true, events: 3, counters: [("invl_max_qlen", 4)].into(), ..Report::default() };
        let two =
            Report { ok: false, events: 4, counters: [("invl_max_qlen", 2)].into(), ..Report::default() };
        let both = combined(&[one, two]);
        assert_eq!((both["ok"].as_bool(), both["events"].as_u64()), (Some(false), Some(7)));
        assert_eq!(both["counters"]["invl_max_qlen"], 4);
    }
}
