//! `pmaplab bench`: what the three concurrency crates cost, beside their peers.
//!
//! A [`Bench`] is a set of contenders that do the same work. [`bench()`] measures every contender with every number of
//! threads and every [`Mix`], all of them in turn and that several times, so that whatever else the machine does hits all
//! alike; a row is the median of its runs. From here: `runner` is one run and the order of all; `di`, `queue` and `locks`
//! list the contenders; `report` prints.

mod di;
mod epoch;
mod list;
mod locks;
mod marked_list;
pub mod pmap;
mod queue;
mod report;
mod runner;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

pub use report::{Report, Row};
use runner::Contender;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Bench {
    /// Generation counting: begin and finish of a section, alone and with waits.
    Di,
    /// The queue alone: append and remove, without what `gencount` adds.
    Queue,
    /// Mutexes: lock and unlock around one addition.
    Turnstile,
    /// The pmap beside the page tables of the `x86_64` crate.
    // Measured by `pmap::measure`, not by `bench`.
    Pmap,
}

impl Bench {
    /// The name on the command line and in the report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Di => "di",
            Self::Queue => "queue",
            Self::Turnstile => "turnstile",
            Self::Pmap => "pmap",
        }
    }

    /// The mixes that it has.
    const fn mixes(self) -> &'static [Mix] {
        match self {
            Self::Di => &Mix::ALL,
            Self::Queue | Self::Turnstile => &[Mix::Pairs],
            Self::Pmap => &[],
        }
    }

    fn contenders(self) -> Vec<Contender> {
        match self {
            Self::Di => di::contenders(),
            Self::Queue => queue::contenders(),
            Self::Turnstile => locks::contenders(),
            Self::Pmap => Vec::new(),
        }
    }
}

/// How often a thread waits. Contenders that cannot wait have rows for [`Mix::Pairs`] alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mix {
    /// Never.
    Pairs,
    /// One wait per so many pairs, for the section that was finished last.
    Wait(u32),
}

impl Mix {
    /// All that are measured.
    pub const ALL: [Self; 4] = [Self::Pairs, Self::Wait(1), Self::Wait(10), Self::Wait(100)];
}

impl fmt::Display for Mix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pairs => f.write_str("pairs"),
            Self::Wait(pairs) => write!(f, "wait-{pairs}"),
        }
    }
}

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Self::ALL.into_iter().find(|mix| mix.to_string() == text);
        known.ok_or_else(|| format!("\"{text}\" is none of pairs, wait-1, wait-10 and wait-100"))
    }
}

/// What the user chose.
#[derive(Clone, Debug)]
pub struct Options {
    /// Numbers of threads, each a column of the table.
    pub threads: Vec<usize>,
    /// The mixes.
    pub mixes: Vec<Mix>,
    /// Names of contenders; empty for all.
    pub impls: Vec<String>,
    /// Runs of each row, of which the median counts.
    pub runs: usize,
    /// About how long all of it takes.
    pub time: Duration,
}

/// Measures.
///
/// # Errors
/// A sentence, if a name in `options.impls` is none of this bench's contenders, or none of them can do the mixes.
pub fn bench(bench: Bench, options: &Options) -> Result<Report, String> {
    let mut contenders = bench.contenders();
    if let Some(unknown) = options.impls.iter().find(|&name| contenders.iter().all(|c| c.name != name)) {
        let names: Vec<_> = contenders.iter().map(|c| c.name).collect();
        return Err(format!("bench {} has no \"{unknown}\": it has {}", bench.name(), names.join(", ")));
    }
    contenders.retain(|c| options.impls.is_empty() || options.impls.iter().any(|name| name == c.name));
    let mut options = options.clone();
    options.mixes.retain(|mix| bench.mixes().contains(mix));
    let rows = runner::rows(&contenders, &options);
    if rows.is_empty() {
        return Err(format!("nothing to measure: of these, bench {} has pairs only", bench.name()));
    }
    Ok(Report { bench, cores: runner::cores(), runs: options.runs, rows })
}
