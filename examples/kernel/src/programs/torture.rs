//! The torture: user processes on all CPUs map, unmap, protect, copy themselves, and store through mappings that others take away, while
//! memory is so short that the page daemon never rests. Whatever reaches a page that it should not reach any more is seen: by
//! the page's owner, who has stamped it, or by the kernel, which has poisoned the frame.

use alloc::format;
use alloc::vec::Vec;

use super::arguments::Arguments;
use super::report::Report;
use super::workload::{Daemon, USER, Workload, set_mutation};
use crate::abi::Role;
use crate::arch::percpu;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use crate::machine::System;
use crate::memory::frames;
use crate::sched::{self, TICKS_PER_SECOND};
use crate::vm::{Sizes, Vm};

/// Processes that begin; they make others.
const PROCESSES: usize = 2;
/// Most threads in each.
const MOST_THREADS: usize = 8;
/// Frames for each thread: less than half of what it uses.
const FRAMES_PER_THREAD: usize = 40;
/// Pages that a thread and the copies of its process can have at once.
const PAGES_PER_THREAD: usize = 400;

/// Pages of records of address spaces that a run may need at most; the pmap never gives them back.
const MOST_RECORD_PAGES: u64 = 8;

/// Runs the torture.
pub(crate) fn run(arguments: &Arguments, info: &'static BootInfo) -> Report {
    let mut report = Report::new("torture");
    let threads = percpu::cpu_count().clamp(2, MOST_THREADS);
    let all = PROCESSES * threads;
    let sizes = Sizes {
        frames: 64 + all * FRAMES_PER_THREAD,
        swap: 512 + all * PAGES_PER_THREAD,
        low_water: 8 + all,
        poisons: true,
    };
    let free_before = frames::free_count();
    let workload = match Workload::begin(info, sizes, Daemon::Balances) {
        Ok(workload) => workload,
        Err(error) => {
            report.check("the workload begins", false, || error);
            return report;
        }
    };
    let vm = workload.vm;
    set_mutation(arguments.mutation);
    let until = sched::ticks() + arguments.seconds * TICKS_PER_SECOND;
    for process in 0..PROCESSES {
        let seed = arguments.seed.wrapping_add((process as u64) << 32);
        let started = workload.run.start(Role::Torture, [seed, threads as u64, until, 0], USER);
        report.check("a process starts", started.is_ok(), || format!("{started:?}"));
    }
    while sched::ticks() < until && vm.violations().count() == 0 {
        sched::sleep(TICKS_PER_SECOND);
        println!(
            "  {} s left, {} free frames",
            until.saturating_sub(sched::ticks()) / TICKS_PER_SECOND,
            vm.free_frames()
        );
    }
    if vm.violations().count() > 0 {
        workload.run.stop();
    }
    set_mutation(None);
    workload.report(&mut report);
    workload.end();
    report.check("nothing reached a page that it should not", vm.violations().count() == 0, || {
        format!("{} times: {}", vm.violations().count(), vm.violations().texts().join("; "))
    });
    did_its_work(&mut report, vm);
    accounts(&mut report, vm.system(), free_before);
    report
}

/// What must have happened for the torture to mean something.
fn did_its_work(report: &mut Report, vm: &Vm) {
    let counts = vm.counts();
    for (what, count) in [
        ("pages are taken", &counts.page_outs),
        ("pages are laundered", &counts.launderings),
        ("pages come back from swap", &counts.swap_ins),
        ("pages get a second chance", &counts.second_chances),
        ("pages are copied on write", &counts.copies),
        ("pages are read from the file", &counts.file_reads),
        ("processes are copied", &counts.forks),
    ] {
        report.check(what, count.get() > 0, || "never in the whole run".into());
    }
}

/// With all processes gone: the pmap's structure is in order, and all memory is free that it does not keep.
pub(super) fn accounts(report: &mut Report, system: &System, free_before: u64) {
    let mut errors = Vec::new();
    let count = system.audit(|error| {
        if errors.len() < 4 {
            errors.push(error);
        }
    });
    report.check("the audit of the pmap", count == 0, || format!("{count} errors: {errors:?}"));
    let statistics = system.statistics();
    let (entries, tables) = (statistics.pv_entries, statistics.pt_pages - statistics.kernel_pt_pages);
    report.check("no mapping is left", (entries, tables) == (0, 0), || {
        format!("{entries} PV entries, {tables} page-table pages")
    });
    // Records of address spaces stay with the pmap for the next ones.
    let missing = free_before.saturating_sub(frames::free_count());
    let kept = statistics.pv_chunks + MOST_RECORD_PAGES;
    report.check("the frames are free again", missing <= kept, || format!("{missing} are missing"));
    report.figure("frames_kept", missing);
    report.figure("shootdowns", statistics.shootdowns);
    report.figure("shootdown_ipis", statistics.shootdown_ipis);
    report.figure("reversals", statistics.reversals);
}
