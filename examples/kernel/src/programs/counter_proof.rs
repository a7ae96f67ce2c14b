//! The counter-proofs: with a safety mechanism switched off the checks of the torture must see corruption, or they prove nothing.
//!
//! The workload aims at the moment that the mechanism guards. One thread unmaps an arena in long batches while others store to it without
//! pause; the frames go to pages with stamps. Without shootdowns the stores go on on other CPUs after the unmap. Without
//! the wait for delayed invalidations the page daemon, more urgent than the unmapping thread and so able to stop it between
//! the PV list and the flush, finds the pages unmapped and gives their frames away while the arena's translations are still in use.

use alloc::format;
use alloc::string::String;

use pmap::mutation::Mutation;

use super::arguments::Arguments;
use super::report::Report;
use super::torture::accounts;
use super::workload::{Daemon, USER, Workload, set_mutation};
use crate::abi::Role;
use crate::arch::percpu;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use crate::machine;
use crate::memory::frames;
use crate::sched::{self, TICKS_PER_SECOND};
use crate::vm::Sizes;

/// A mechanism that is switched off, and how the workload is aimed at it.
struct Case {
    mutation: Mutation,
    /// Pages of the arena.
    pages: usize,
    /// Pages that are unmapped at once.
    batch: u64,
    figure: &'static str,
}

/// A run with a mutation ends with the first corruption; on a slow host that may take a while.
const PATIENCE: u64 = 4;

const CASES: [Case; 2] = [
    // Few, so that there are many shootdowns: one in sixteen is forgotten.
    Case {
        mutation: Mutation::ForgetShootdown,
        pages: 64,
        batch: 8,
        figure: "ticks_until_seen_without_shootdown",
    },
    // So many that the unmapping lasts about a tick, at which the page daemon comes in between.
    Case { mutation: Mutation::NoDiWait, pages: 4096, batch: 4096, figure: "ticks_until_seen_without_wait" },
];

/// Runs the counter-proofs, each after the same workload with everything on.
pub(crate) fn run(arguments: &Arguments, info: &'static BootInfo) -> Report {
    let mut report = Report::new("counter_proof");
    report.check("this kernel has the switches", pmap::mutation::available(), || {
        "build it with the feature `mutations`".into()
    });
    if !report.is_ok() {
        return report;
    }
    let asked = |case: &&Case| arguments.mutation.is_none_or(|mutation| mutation == case.mutation);
    for case in CASES.iter().filter(asked) {
        let mutation = case.mutation;
        if mutation == Mutation::ForgetShootdown && percpu::cpu_count() == 1 {
            println!("  one CPU sends no shootdowns: {mutation} is left out");
            continue;
        }
        let free_before = frames::free_count();
        let control = corruptions(info, case, arguments.seconds, None);
        report.check("nothing is seen with everything on", control == Ok(None), || format!("{control:?}"));
        if let Some(system) = machine::system() {
            accounts(&mut report, system, free_before);
        }
        let seen = corruptions(info, case, PATIENCE * arguments.seconds, Some(mutation));
        let found = matches!(seen, Ok(Some(_)));
        report.check(&format!("corruption is seen with {mutation}"), found, || format!("{seen:?}"));
        if let Ok(Some(ticks)) = seen {
            report.figure(case.figure, ticks);
        }
    }
    report
}

/// Runs the workload for so many seconds, or until corruption is seen; says after how many ticks that was.
fn corruptions(
    info: &'static BootInfo,
    case: &Case,
    seconds: u64,
    mutation: Option<Mutation>,
) -> Result<Option<u64>, String> {
    // Everything fits, so that it is not lack of memory that takes pages.
    let sizes = Sizes { frames: case.pages + 512, swap: case.pages + 512, low_water: 32, poisons: true };
    let workload = Workload::begin(info, sizes, Daemon::Pounces)?;
    set_mutation(mutation);
    let vm = workload.vm;
    let begun = sched::ticks();
    let until = begun + seconds * TICKS_PER_SECOND;
    // As many as CPUs: more urgent than the thread that unmaps, they stop it at every tick, wherever it is.
    let writers = percpu::cpu_count() as u64;
    let arguments = [case.pages as u64, writers, until, case.batch];
    let started = workload.run.start(Role::Unmapper, arguments, USER);
    let mut seen = None;
    while started.is_ok() && sched::ticks() < until && seen.is_none() {
        sched::sleep(1);
        seen = (vm.violations().count() > 0).then(|| sched::ticks() - begun);
    }
    set_mutation(None);
    workload.run.stop();
    workload.end();
    if let Some(first) = vm.violations().texts().first() {
        println!("  {first}");
        seen = seen.or(Some(sched::ticks() - begun));
    }
    started.map(|_| seen).map_err(|error| format!("{error}"))
}
