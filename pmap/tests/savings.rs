//! What flushing once for an operation saves, and what knowing who runs an address space saves: interrupts, counted with either switched off.

mod support;

use pmap::sim::{Config, Mode};
use pmap::{Access, EnterFlags, Options, PAGE_SIZE, Protection, Statistics, System, VirtAddr, VirtRange};
use support::{READ_WRITE, assert_clean, cpu, system_with};

const CPUS: usize = 4;
const PAGES: u64 = 5;
const AT: VirtAddr = VirtAddr(0x4000_0000);

/// Interrupts for `change` of five pages that were used, in an address space that two of four CPUs run; and how many were saved by batching.
fn interrupts(
    options: Options,
    change: impl Fn(&pmap::Pmap<'_, pmap::sim::SimMachine>, VirtRange),
) -> [u64; 2] {
    let system =
        system_with(Config { cpus: CPUS, frames: 128, mode: Mode::Parallel, ..Config::default() }, options);
    let machine = system.machine();
    let space = machine.run_cpu(cpu(0), || {
        system.start_cpu();
        system.create().unwrap()
    });
    (1..CPUS).for_each(|id| machine.run_cpu(cpu(id), || system.start_cpu()));
    (0..2).for_each(|id| machine.run_cpu(cpu(id), || space.activate()));
    let counted = |s: Statistics| [s.shootdown_ipis, s.ipis_saved_batching];
    let done = machine.run_cpu(cpu(0), || {
        // One more stays, and with it the table.
        let frames: Vec<_> = (0..=PAGES).map(|_| machine.allocate_data_frame(true).unwrap()).collect();
        for (page, frame) in (0..).zip(&frames) {
            let va = AT.wrapping_add(page * PAGE_SIZE);
            space.enter(va, *frame, READ_WRITE, Access::Write, EnterFlags::empty()).unwrap();
        }
        let before = counted(system.statistics());
        change(&space, VirtRange::new(AT, AT.wrapping_add(PAGES * PAGE_SIZE)).unwrap());
        let after = counted(system.statistics());
        system.activate_kernel();
        (frames, [0, 1].map(|i| after[i] - before[i]))
    });
    machine.run_cpu(cpu(1), || system.activate_kernel());
    machine.run_cpu(cpu(0), || {
        space.destroy().unwrap();
        done.0.into_iter().for_each(|frame| machine.free_data_frame(frame));
        assert_clean(&system);
    });
    (0..CPUS).for_each(|id| machine.run_cpu(cpu(id), || System::stop_cpu(&system)));
    done.1
}

#[test]
fn interrupts_are_counted_with_either_switched_off() {
    let others = CPUS as u64 - 1;
    for (batching, lazy_targets, expected) in [
        (true, true, [1, PAGES - 1]),
        (false, true, [PAGES, 0]),
        (true, false, [others, others * (PAGES - 1)]),
        (false, false, [others * PAGES, 0]),
    ] {
        let options = Options { batching, lazy_targets, ..Options::default() };
        let removed = interrupts(options, |space, range| space.remove(range));
        let protected = interrupts(options, |space, range| space.protect(range, Protection::READ));
        let together = interrupts(options, |space, range| space.protect_ranges([range], Protection::READ));
        assert_eq!([removed, protected, together], [expected; 3], "{options:?}");
    }
}

/// An address space that only the initiator runs concerns nobody else, unless nobody is spared.
#[test]
fn cpus_that_run_something_else_are_spared() {
    for lazy_targets in [true, false] {
        let options = Options { lazy_targets, ..Options::default() };
        let [interrupts, _] = interrupts(options, |space, range| {
            let system = space.system();
            system.activate_kernel();
            space.remove(range);
        });
        assert_eq!(interrupts, if lazy_targets { 1 } else { CPUS as u64 - 1 });
    }
}
