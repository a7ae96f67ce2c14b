//! The conformance tests of the crates' traits, on this kernel's implementations: its scheduler's, and its machine's on every CPU.
//!
//! A rule of the scheduler that is broken ends in a panic that says which, and so in a report that is not well.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::cell::Cell;

use pmap::conformance::{Rule, Suite};
use pmap::{CpuId, VirtAddr};
use turnstile::Priority;
use turnstile::conformance as rules;

use super::arguments::Arguments;
use super::report::Report;
use crate::arch::percpu;
use crate::boot::BootInfo;
use crate::machine;
use crate::memory::frames;
use crate::sched::{Handle, KernelScheduler, Mutex, spawn, spawn_on};

/// How often a CPU waits for another one, up to a tick each time, before it gives it up.
const PATIENCE: u64 = 3000;
/// Ticks that are a short time.
const MOMENT: u64 = 3;

/// Runs the programme.
pub(crate) fn run(_: &Arguments, _: &'static BootInfo) -> Report {
    let mut report = Report::new("conformance");
    suite(&mut report, "turnstile: the scheduler", 10, |run| rules::scheduler(KernelScheduler, run));
    suite(&mut report, "turnstile: its loans", 1, |run| rules::lending(KernelScheduler, run));
    suite(&mut report, "turnstile: its clock", 1, |run| rules::timed(KernelScheduler, || MOMENT, run));
    machine_rules(&mut report);
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

/// The rules of [`pmap::Machine`], on every CPU at once.
fn machine_rules(report: &mut Report) {
    let suite = machine::system().ok_or("there is no pmap".to_string()).and_then(|system| {
        let frame = || frames::allocate().ok_or("there is no frame".to_string());
        let suite = Suite::new(system, [frame()?, frame()?]).map_err(|error| error.to_string())?;
        Ok(suite.with_patience(PATIENCE))
    });
    let suite = match suite {
        Ok(suite) => Arc::new(suite),
        Err(error) => return report.check("pmap: the machine", false, || error),
    };
    let (broken, ran) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(Vec::new())));
    let threads = (0..percpu::cpu_count()).filter_map(CpuId::new).map(|cpu| {
        let (suite, broken, ran) = (suite.clone(), broken.clone(), ran.clone());
        let body = move || match suite.run(read) {
            Ok(outcome) => ran.lock().push(outcome),
            Err(rule) => drop(broken.lock().replace(rule)),
        };
        spawn_on(cpu, "conformance", Priority::NORMAL, body).expect("memory for a thread on every CPU")
    });
    threads.collect::<Vec<_>>().into_iter().for_each(Handle::join);
    let broken = *broken.lock();
    report.check("pmap: the machine", broken.is_none(), || {
        broken.map_or_else(String::new, |rule| rule.to_string())
    });
    let outcomes = ran.lock();
    let all = percpu::cpu_count();
    report.check("pmap: on every CPU", outcomes.len() == all, || format!("on {} of {all}", outcomes.len()));
    let Some(outcome) = outcomes.first() else { return };
    report.figure("translation_checks", outcome.checks);
    let unobserved = outcome.unobserved.iter().map(|rule| format!("{rule:?}"));
    report.figure("unobserved", unobserved.collect::<Vec<_>>());
    // An MMU that keeps nothing would pass whatever the machine does.
    let keeps = !outcome.unobserved.contains(Rule::InvalidatePage);
    report.check("pmap: this MMU keeps old translations", keeps, || "nothing was shown by the checks".into());
}

/// Reads 8 bytes as the kernel.
fn read(va: VirtAddr) -> u64 {
    // SAFETY: the suite has mapped the address, for the kernel; nothing of Rust's lies there.
    unsafe { core::ptr::with_exposed_provenance::<u64>(va.0 as usize).read_volatile() }
}
