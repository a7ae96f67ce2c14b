//! User mode: a program looks at its surroundings, and prints what is wrong with them.

use alloc::format;

use crate::abi::Role;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use crate::programs::report::Report;
use crate::programs::workload::{Daemon, USER, Workload};
use crate::sched;
use crate::vm::Sizes;

/// Ticks within which something surely happens that takes no time to speak of.
const SOON: u64 = 500;

/// Runs the program `init` in a role in which it checks user mode, if there is a boot module with it.
pub(super) fn run(report: &mut Report, info: &'static BootInfo) {
    if info.module.is_none() {
        return println!("  there is no boot module: user mode is left out");
    }
    let sizes = Sizes { frames: 256, swap: 64, low_water: 8, poisons: true };
    let workload = match Workload::begin(info, sizes, Daemon::Balances) {
        Ok(workload) => workload,
        Err(error) => return report.check("user mode", false, || error),
    };
    let vm = workload.vm;
    let started = workload.run.start(Role::Check, [0; 4], USER);
    let status = started.ok().and_then(|process| workload.run.wait(process));
    report.check("user mode", status == Some(0), || format!("{started:?}, {status:?} checks fail in it"));
    ends_those_at_rest(report, &workload);
    workload.end();
    let violations = vm.violations();
    report.check("user memory", violations.count() == 0, || violations.texts().join("; "));
}

/// Processes that sleep or wait, for ever if nobody ends them, can be ended; and one that is started afterwards ends as well.
fn ends_those_at_rest(report: &mut Report, workload: &Workload) {
    let run = &workload.run;
    let until = |condition: &dyn Fn() -> bool| {
        let end = sched::ticks() + SOON;
        while !condition() && sched::ticks() < end {
            sched::sleep(1);
        }
        condition()
    };
    let forks = workload.vm.counts().forks.get();
    let Ok(first) = run.start(Role::Rest, [0; 4], USER) else {
        return report.check("a process to be ended starts", false, || "it does not".into());
    };
    let has_copy = until(&|| workload.vm.counts().forks.get() > forks);
    // Both of them have come to rest by then, in all likelihood.
    sched::sleep(5);
    let rests = !run.has_ended(first);
    report.check("a process rests", has_copy && rests, || format!("copy: {has_copy}, rests: {rests}"));
    run.stop();
    // The copy has the next number.
    let all_end = until(&|| run.has_ended(first) && run.has_ended(first + 1));
    report.check("processes at rest can be ended", all_end, || "one of them goes on".into());
    let late = run.start(Role::Rest, [0; 4], USER);
    let ends = until(&|| late.is_ok_and(|late| run.has_ended(late)));
    report.check("a process that comes too late ends", ends, || format!("{late:?} goes on"));
}
