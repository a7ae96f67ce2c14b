//! Replaying a recorded trace: every simulated CPU works through its queue of the plan, waits where the plan
//! says so, and goes back to earlier addresses in between.

mod event;
mod ledger;
mod progress;
mod skipped;

use pmap::sim::{Adversary, MAX_FRAMES};

use crate::error::Error;
use crate::plan::{Action, Peak, Placement, Plan, peak, plan};
use crate::report::Report;
pub use crate::run::Choices;
use crate::run::Run;
use crate::trace::{SwitchRecord, Trace};
use crate::vm::{Cpu, Settings, Vm, VmError};

use event::Replayer;
use ledger::Ledger;
pub use progress::Display;
pub use skipped::{Reason, Skipped};

/// How much physical memory the machine gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Enough for everything.
    Ample,
    /// This many frames.
    Frames(u64),
    /// This many percent of what the trace needs at most.
    Percent(u32),
}

/// What to do with a trace.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// CPUs; `None` is as many as the trace was recorded on, with its events on the CPUs recorded.
    pub cpus: Option<usize>,
    /// Physical memory.
    pub memory: Memory,
    /// The rest; its `cpus` and `frames` are filled in here.
    pub choices: Choices,
}

/// A CPU goes back to an earlier address after this many events on average.
const REVISIT_ONE_IN: u64 = 2;
/// … and makes another full access there after this many.
const RETOUCH_ONE_IN: u64 = 8;

/// Replays `trace`.
///
/// # Errors
/// If the options make no sense, or memory is too small. What the checks found is in the report.
pub fn replay(
    trace: &Trace,
    switches: Option<&[SwitchRecord]>,
    options: &Options,
    display: Display,
) -> Result<Report, Error> {
    let peak = peak(trace);
    let cpus = options.cpus.unwrap_or(trace.header.cpus);
    let as_recorded = options.cpus.is_none_or(|n| n == trace.header.cpus);
    let placement =
        if as_recorded { Placement::Recorded(switches.unwrap_or(&[])) } else { Placement::ByThread };
    let frames = frames(options.memory, peak);
    let choices = Choices { cpus, frames, ..options.choices };
    let plan = plan(trace, cpus, placement);
    let mut report = Report::new(&trace.name, &choices);
    report.peak_frames = peak.frames;
    let scarce = options.memory != Memory::Ample;
    let run = Run {
        choices,
        // Passing the baton of the deterministic mode costs far more than a point does.
        adversary: Adversary { switch_one_in: 32, ..Adversary::default() },
        settings: Settings {
            prefault_one_in: 3,
            wire_one_in: 64,
            low_water: if scarce { (frames / 64).clamp(16, 512) } else { 0 },
            wild_stores: false,
        },
        objects: trace.header.objects.clone(),
    };
    let ledger = Ledger::new(&plan);
    let skipped = Skipped::default();
    run.execute(
        &mut report,
        |vm, cpu| work(trace, &plan, &ledger, &skipped, vm, cpu),
        |is_over| progress::show(display, &ledger, trace.totals.events, is_over),
    )?;
    report.events = ledger.events();
    report.take_skipped(&skipped, trace);
    report.conclude();
    Ok(report)
}

/// Frames for the machine. "Ample" leaves room for CPUs that run far ahead of each other.
fn frames(memory: Memory, peak: Peak) -> u64 {
    match memory {
        Memory::Ample => (3 * peak.frames + 16 * peak.spaces + 2048).min(MAX_FRAMES),
        Memory::Frames(frames) => frames,
        Memory::Percent(percent) => peak.frames.saturating_mul(u64::from(percent)) / 100,
    }
}

/// One CPU's work.
fn work<'s>(
    trace: &Trace,
    plan: &Plan,
    ledger: &Ledger,
    skipped: &Skipped,
    vm: &Vm<'s>,
    cpu: &mut Cpu<'s>,
) -> Result<(), VmError> {
    let me = cpu.index();
    let Some(queue) = plan.queues.get(me) else { return Ok(()) };
    let replayer = Replayer { vm, trace, skipped };
    for (action, waits) in queue.steps() {
        for point in waits {
            ledger.wait(vm, cpu, *point)?;
        }
        vm.poll(cpu);
        match action {
            Action::Activate(0) => vm.deactivate(cpu),
            Action::Activate(number) => match vm.space(number) {
                Some(space) => vm.activate(cpu, &space),
                // It has ended in the meantime: nothing orders a switch before the end.
                None => vm.deactivate(cpu),
            },
            Action::Event(index) => {
                replayer.event(cpu, index as usize)?;
                if cpu.dice.one_in(REVISIT_ONE_IN) {
                    vm.revisit(cpu);
                }
                if cpu.dice.one_in(RETOUCH_ONE_IN) {
                    replayer.retouch(cpu)?;
                }
            }
        }
        vm.balance(cpu);
        vm.look_at_gauges(cpu);
        ledger.done(vm, me, matches!(action, Action::Event(_)));
    }
    // Nobody may wait for this CPU to leave a space.
    vm.deactivate(cpu);
    Ok(())
}
