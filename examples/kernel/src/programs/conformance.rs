//! The conformance tests of the crates' traits, on this kernel's implementations: its scheduler's, and its machine's on every CPU.
//!
//! A rule that is broken ends in a panic that says which, and so in a report that is not well.

use alloc::format;
use alloc::vec::Vec;
use core::cell::Cell;

use turnstile::Priority;
use turnstile::conformance as rules;

use super::arguments::Arguments;
use super::report::Report;
use crate::boot::BootInfo;
use crate::sched::{Handle, KernelScheduler, spawn};

/// Ticks that are a short time.
const MOMENT: u64 = 3;

/// Runs the programme.
pub(crate) fn run(_: &Arguments, _: &'static BootInfo) -> Report {
    let mut report = Report::new("conformance");
    suite(&mut report, "turnstile: the scheduler", 10, |run| rules::scheduler(KernelScheduler, run));
    suite(&mut report, "turnstile: its loans", 1, |run| rules::lending(KernelScheduler, run));
    suite(&mut report, "turnstile: its clock", 1, |run| rules::timed(KernelScheduler, || MOMENT, run));
    report
}

/// Runs a suite, and checks that it had at least `threads` threads do something: that it did not pass by doing nothing.
fn suite(report: &mut Report, name: &str, threads: usize, rules: impl FnOnce(&dyn Fn(Vec<rules::Body>))) {
    let count = Cell::new(0);
    rules(&|bodies| {
        count.set(count.get() + bodies.len());
        together(bodies);
    });
    report.check(name, count.get() >= threads, || format!("only {} threads of {threads}", count.get()));
}

/// Runs each body as a thread, all at the same time.
fn together(bodies: Vec<rules::Body>) {
    let start = |body| spawn("conformance", Priority::NORMAL, body).expect("memory for a few threads");
    let threads: Vec<_> = bodies.into_iter().map(start).collect();
    threads.into_iter().for_each(Handle::join);
}
