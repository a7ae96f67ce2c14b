//! What the pmap's operations cost, in instructions and interrupts: for emulators whose clock counts instructions. Elsewhere the figures are times, and
//! differ from run to run.
//!
//! Nothing else runs meanwhile, on no CPU, and no timer ticks.

mod copies;
mod mappings;
mod meter;
mod processes;
mod stage;
mod switching;

use alloc::string::String;
use alloc::sync::Arc;

use turnstile::Priority;

use super::arguments::Arguments;
use super::report::Report;
use crate::arch::apic::timer;
use crate::arch::percpu;
use crate::boot::BootInfo;
use crate::machine::{self, System};
use crate::sched::{BOOT_CPU, Handle, Mutex, spawn_on};
use meter::Meter;

/// What the pmap was told to do.
#[derive(Clone, Copy)]
struct Choices {
    batching: bool,
    lazy_targets: bool,
}

/// Runs the programme.
pub(crate) fn run(arguments: &Arguments, info: &'static BootInfo) -> Report {
    let choices = Choices { batching: arguments.batching, lazy_targets: arguments.lazy };
    let result = Arc::new(Mutex::new(Report::new("figures")));
    let shared = result.clone();
    let body = move || {
        let report = &mut *shared.lock();
        let measured = machine::system().ok_or_else(|| "the pmap is not set up".into());
        let measured = measured.and_then(|system| measure(report, system, choices, info));
        report.check("all is measured", measured.is_ok(), || measured.err().unwrap_or_default());
    };
    // On one CPU, so that the others are the others.
    spawn_on(BOOT_CPU, "figures", Priority::NORMAL, body).expect("memory for a thread").join();
    Arc::into_inner(result).expect("the thread has ended").into_inner()
}

fn measure(
    report: &mut Report,
    system: &'static System,
    choices: Choices,
    info: &'static BootInfo,
) -> Result<(), String> {
    on_each_cpu(timer::stop);
    let mut meter = Meter::calibrate(system);
    let measured = mappings::measure(&mut meter, report, system, choices)
        .and_then(|()| switching::measure(&mut meter, system))
        .and_then(|()| copies::measure(&mut meter, report, system))
        .and_then(|()| processes::measure(&mut meter, report, system, info));
    on_each_cpu(timer::start);
    report.figure("batching", choices.batching);
    report.figure("lazy_targets", choices.lazy_targets);
    report.figure("ticks_per_1000_instructions", meter.per_thousand);
    report.figure("counts_instructions", meter.counts_instructions);
    report.figure("rows", serde_json::to_value(&meter.rows).map_err(|_| "a row is no JSON")?);
    measured
}

/// Has every CPU do something.
fn on_each_cpu(f: fn()) {
    for cpu in percpu::cpus() {
        spawn_on(cpu.id(), "figures", Priority::HIGHEST, f).map(Handle::join).expect("memory for a thread");
    }
}
