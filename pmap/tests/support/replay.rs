//! Runs that can be had again. A test that makes several deterministic runs, each with settings of its own, tells by a command
//! which one failed; the command makes that one alone, because the environment says which settings are wanted.
#![allow(dead_code, reason = "each test program uses a part")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Names of environment variables, and their values for one run.
pub(crate) type Settings = Vec<(&'static str, String)>;

/// A run that failed.
pub(crate) struct Failure {
    /// What makes it again.
    pub(crate) command: String,
    /// What it panicked with.
    pub(crate) payload: Box<dyn Any + Send>,
}

/// The settings of a run that hangs on its seed only.
pub(crate) fn seed(seed: u64) -> Settings {
    vec![("PMAP_SEED", seed.to_string())]
}

/// Runs that hang on their seeds only.
pub(crate) fn seeds(seeds: impl IntoIterator<Item = u64>) -> impl Iterator<Item = (Settings, u64)> {
    seeds.into_iter().map(|number| (seed(number), number))
}

/// Makes all those of the runs that have the settings of the environment, until one fails; returns how many those were.
///
/// # Panics
///
/// With the panic of the run that failed; if no run has these settings.
pub(crate) fn each<T>(runs: impl IntoIterator<Item = (Settings, T)>, f: impl FnMut(T)) -> usize {
    match each_wanted(|name| std::env::var(name).ok(), runs, f) {
        Ok(0) => panic!("no run of this test has the settings of the environment"),
        Ok(made) => made,
        Err(failure) => {
            eprintln!("to replay this run:\n    {}", failure.command);
            resume_unwind(failure.payload)
        }
    }
}

/// As [`each`], with `wanted` for the environment.
pub(crate) fn each_wanted<T>(
    wanted: impl Fn(&str) -> Option<String>,
    runs: impl IntoIterator<Item = (Settings, T)>,
    mut f: impl FnMut(T),
) -> Result<usize, Failure> {
    let mut made = 0;
    for (settings, run) in runs {
        if settings.iter().any(|(name, value)| wanted(name).is_some_and(|wanted| wanted != *value)) {
            continue;
        }
        made += 1;
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| f(run))) {
            return Err(Failure { command: command(&settings), payload });
        }
    }
    Ok(made)
}

/// What makes the run with these settings of the calling test, and no other.
pub(crate) fn command(settings: &Settings) -> String {
    let settings: String = settings.iter().map(|(name, value)| format!("{name}={value} ")).collect();
    // This is compiled into each test program.
    let program = env!("CARGO_CRATE_NAME");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    format!("{settings}cargo test -p amd64-pmap --test {program} -- --exact {test}")
}
