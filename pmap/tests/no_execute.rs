//! Processors without the no-execute bit: bit 63 of an entry is reserved there, so whatever can be read can be executed.

mod support;

use pmap::mutation::Mutation;
use pmap::sim::{Config, CpuModel, SimMachine};
use pmap::{Access, EnterFlags, Machine, Pmap, Protection, System, VirtAddr, VirtRange};
use support::{READ_WRITE, cpu, on_cpu, small, system};

const VA: VirtAddr = VirtAddr(0x40_0000);
const NO_EXECUTE: u64 = 1 << 63;

fn nocona() -> Config {
    Config { cpu_model: CpuModel::Nocona, ..small() }
}

/// The leaf's word at `va`.
fn leaf(space: &Pmap<'_, SimMachine>, va: VirtAddr) -> u64 {
    *space.get_mapping(va).last().expect("a root at least")
}

#[test]
fn no_entry_has_the_bit_however_it_is_made() {
    on_cpu(nocona(), |system| {
        let machine = system.machine();
        let frame = machine.allocate_data_frame(true).expect("a frame");
        let (space, child) = (system.create().expect("a space"), system.create().expect("a space"));
        space.activate();
        let at = |page: u64| VA.wrapping_add(page << 12);
        space.enter(at(0), frame, Protection::READ, Access::Read, EnterFlags::empty()).expect("memory");
        space.enter(at(1), frame, READ_WRITE, Access::Write, EnterFlags::empty()).expect("memory");
        assert!(space.enter_quick(at(2), frame, Protection::READ));
        assert_eq!(child.copy_from(&space, VirtRange::user()), 3);
        for page in 0..3 {
            for space in [&space, &child] {
                assert_eq!(leaf(space, at(page)) & NO_EXECUTE, 0);
                assert!(space.protection(at(page)).expect("mapped").contains(Protection::EXECUTE));
            }
            assert!(machine.fetch(at(page)).is_ok());
        }
        let window = machine.kernel_window().start();
        system.kenter(window, frame, Protection::READ).expect("in the window");
        assert_eq!(machine.supervisor_read(window), Ok(0), "a reserved bit would fault");
        system.qenter(window, &[frame]).expect("in the window");
        assert_eq!(machine.supervisor_write(window, 5), Ok(()));
        system.qremove(window, 1).expect("in the window");
        system.activate_kernel();
        drop((space, child));
        machine.free_data_frame(frame);
    });
}

#[test]
fn a_protect_that_takes_only_execute_does_nothing() {
    on_cpu(nocona(), |system| {
        let machine = system.machine();
        let frame = machine.allocate_data_frame(true).expect("a frame");
        let space = system.create().expect("a space");
        space.activate();
        space.enter(VA, frame, Protection::all(), Access::Write, EnterFlags::empty()).expect("memory");
        machine.write(VA, 3).expect("writable");
        let (before, flushes) = (leaf(&space, VA), system.statistics().shootdowns_local_only);
        space.protect(VirtRange::page_of(VA), READ_WRITE);
        space.protect_ranges([VirtRange::page_of(VA)], READ_WRITE);
        assert_eq!((leaf(&space, VA), system.statistics().shootdowns_local_only), (before, flushes));
        assert_eq!(machine.fetch(VA), Ok(3));
        // The right to write goes as ever, and takes the dirty bit to the page.
        space.protect(VirtRange::page_of(VA), Protection::READ);
        assert!(machine.write(VA, 4).is_err() && machine.fetch(VA) == Ok(3));
        assert_eq!(leaf(&space, VA) & NO_EXECUTE, 0);
        assert!(system.page(frame).expect("a record").is_dirty());
        system.activate_kernel();
        drop(space);
        machine.free_data_frame(frame);
    });
}

#[test]
fn an_entry_with_the_bit_is_found() {
    let system: System<SimMachine> = system(nocona());
    let machine = system.machine();
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        system.set_mutation(Some(Mutation::NoExecuteAnyway));
        let frame = machine.allocate_data_frame(true).expect("a frame");
        let space = system.create().expect("a space");
        space.activate();
        space.enter(VA, frame, READ_WRITE, Access::Write, EnterFlags::empty()).expect("memory");
        assert!(machine.read(VA).is_err_and(|fault| fault.present));
        assert!(machine.report().forbidden_entries > 0);
        system.activate_kernel();
        drop(space);
        system.stop_cpu();
    });
}
