//! User mode: a program looks at its surroundings, and prints what is wrong with them.

use alloc::format;

use crate::abi::Role;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use crate::programs::report::Report;
use crate::programs::workload::{Daemon, USER, Workload};
use crate::vm::Sizes;

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
    workload.end();
    let violations = vm.violations();
    report.check("user memory", violations.count() == 0, || violations.texts().join("; "));
}
