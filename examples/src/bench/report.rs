//! What came out: a table for people, one line of JSON for programs.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Bench, Mix};

/// The medians of one contender under one load.
#[derive(Clone, Debug)]
pub struct Row {
    /// The contender.
    pub name: &'static str,
    /// Threads that worked at once.
    pub threads: usize,
    /// How often they waited.
    pub mix: Mix,
    /// Time, multiplied by the cores that ran, divided by the operations of all threads; in nanoseconds.
    pub ns_per_op: f64,
    /// How often an operation had to start again; 0 where it never has to.
    pub restarts_per_op: f64,
}

/// The result of a bench.
#[derive(Clone, Debug)]
pub struct Report {
    /// What was measured.
    pub bench: Bench,
    /// Cores of this machine that the program may use.
    pub cores: usize,
    /// Runs of each row.
    pub runs: usize,
    /// All rows.
    pub rows: Vec<Row>,
}

/// A number in three digits or so.
fn digits(value: f64) -> String {
    match value {
        v if v < 10.0 => format!("{v:.2}"),
        v if v < 100.0 => format!("{v:.1}"),
        v => format!("{v:.0}"),
    }
}

/// What two appear in, once each.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut found, value| {
        if !found.contains(&value) {
            found.push(value);
        }
        found
    })
}

impl Report {
    fn row(&self, name: &str, threads: usize, mix: Mix) -> Option<&Row> {
        self.rows.iter().find(|row| row.name == name && row.threads == threads && row.mix == mix)
    }

    /// The better of the two published forms, which the others are compared with.
    fn published(&self, threads: usize, mix: Mix) -> Option<f64> {
        let forms = ["published", "published-yield"].map(|name| self.row(name, threads, mix));
        forms.into_iter().flatten().map(|row| row.ns_per_op).reduce(f64::min)
    }

    /// A table of Markdown for each mix, a column for each number of threads.
    #[must_use]
    pub fn text(&self) -> String {
        let threads = distinct(self.rows.iter().map(|row| row.threads));
        let names = distinct(self.rows.iter().map(|row| row.name));
        let mut out = format!(
            "bench {} on {} cores: ns per operation (time x running cores / operations), median of {} interleaved runs",
            self.bench.name(),
            self.cores,
            self.runs
        );
        if self.published(threads.first().copied().unwrap_or(1), Mix::Pairs).is_some() {
            out += ";\nin brackets, how many times as fast as the better published form";
        }
        for mix in distinct(self.rows.iter().map(|row| row.mix)) {
            let heads: String =
                threads.iter().map(|n| format!(" {:>16} |", format!("{n} threads"))).collect();
            let rules: String = threads.iter().map(|_| format!("{:->17}:|", "")).collect();
            let _ = write!(out, "\n\n| {:<17} |{heads}\n|{:-<19}|{rules}", mix.to_string(), "");
            for &name in
                names.iter().filter(|name| self.rows.iter().any(|r| r.name == **name && r.mix == mix))
            {
                let _ = write!(out, "\n| {name:<17} |");
                for &threads in &threads {
                    let cell = self.row(name, threads, mix).map_or(String::new(), |row| {
                        let ratio = self.published(threads, mix).map(|best| best / row.ns_per_op);
                        let ratio = ratio.map_or(String::new(), |ratio| format!(" ({:>5})", digits(ratio)));
                        format!("{}{ratio}", digits(row.ns_per_op))
                    });
                    let _ = write!(out, " {cell:>16} |");
                }
            }
        }
        out + "\n"
    }

    /// The same as a JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        // Three digits behind the point are more than the measurement has.
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let rows: Vec<_> = (self.rows.iter())
            .map(|row| {
                json!({
                    "impl": row.name,
                    "threads": row.threads,
                    "mix": row.mix.to_string(),
                    "ns_per_op": round(row.ns_per_op),
                    "restarts_per_op": round(row.restarts_per_op),
                })
            })
            .collect();
        json!({ "bench": self.bench.name(), "rows": rows })
    }
}
