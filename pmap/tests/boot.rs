//! The kernel half of the tables that a machine booted with.

mod support;

use pmap::entry::{ACCESSED, DIRTY, Entry, GLOBAL, LARGE, X86};
use pmap::sim::{Config, SimMachine};
use pmap::{
    Access, EnterFlags, Frame, FrameUse, KernelMapError, Machine, Protection, System, SystemError, VirtAddr,
    VirtRange,
};
use std::sync::atomic::Ordering::SeqCst;
use support::{READ_WRITE, assert_clean, cpu, small};

/// Where the boot tables map memory from frame 0 on by a page of 1 GiB, a page of 2 MiB, and one of 4 KiB.
const GIB: VirtAddr = VirtAddr(0xffff_8000_0000_0000);
const TWO_MIB: VirtAddr = VirtAddr(0xffff_ffff_8020_0000);
const PAGE: VirtAddr = VirtAddr(0xffff_ffff_8040_3000);
/// In the same 512 GiB as the software machine's kernel window.
const IN_THE_WINDOWS_SLOT: VirtAddr = VirtAddr(0xffff_ff10_0000_0000);

fn entry(word: u64) -> Entry {
    Entry::from_word(word)
}

/// Puts `new` at `level` for `va` into the tables below `root`.
fn put(machine: &SimMachine, root: Frame, va: VirtAddr, level: u32, new: Entry) {
    let mut table = root;
    for at in (level + 1..=4).rev() {
        let word = &machine.frame_words(table)[va.index(at)];
        if !entry(word.load(SeqCst)).is_present() {
            let below = machine.allocate_frame(FrameUse::PageTable).expect("a frame");
            word.store(Entry::<X86>::table(below).word(), SeqCst);
        }
        table = entry(word.load(SeqCst)).frame();
    }
    machine.frame_words(table)[va.index(level)].store(new.word(), SeqCst);
}

/// A machine that booted with large and small mappings of the frame that is returned, and a mapping in the user half.
fn booted(extra: Option<VirtAddr>) -> (SimMachine, Frame) {
    let machine = SimMachine::new(Config { frames: 600, ..small() }).expect("a machine");
    let root = machine.allocate_frame(FrameUse::PageTable).expect("a frame");
    // The frames of the first 2 MiB begin at a multiple of 2 MiB, so data in them is reached by all three.
    let data = machine.allocate_data_frame(true).expect("a frame");
    assert!(data.0 < 512, "the machine's memory begins with frame 0");
    let leaf = |frame| Entry::leaf(frame, READ_WRITE).with(GLOBAL | ACCESSED | DIRTY);
    put(&machine, root, GIB, 3, leaf(Frame(0)).with(LARGE));
    put(&machine, root, TWO_MIB, 2, leaf(Frame(0)).with(LARGE));
    put(&machine, root, PAGE, 1, leaf(data));
    put(&machine, root, VirtAddr(0x1000), 1, leaf(data));
    if let Some(va) = extra {
        put(&machine, root, va, 1, leaf(data));
    }
    (machine.booted_with(root), data)
}

#[test]
fn every_address_space_has_what_the_machine_booted_with() {
    let (machine, data) = booted(None);
    let system = System::new(machine).expect("a system");
    let machine = system.machine();
    let offset = data.addr().0;
    machine.frame_words(data)[0].store(77, SeqCst);
    let reach_it_all = || {
        for va in [GIB.wrapping_add(offset), TWO_MIB.wrapping_add(offset), PAGE] {
            assert_eq!(machine.supervisor_read(va), Ok(77), "{va}");
            assert!(machine.read(va).is_err(), "not a user's");
        }
        assert!(machine.supervisor_read(VirtAddr(0x1000)).is_err(), "the user half is not adopted");
    };
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        reach_it_all();
        let space = system.create().expect("a space");
        space.activate();
        reach_it_all();
        // What is mapped in user and kernel window works beside it as ever.
        let window = machine.kernel_window().start();
        system.qenter(window, &[data]).expect("in the window");
        assert_eq!(machine.supervisor_read(window), Ok(77));
        let va = VirtAddr(0x40_0000);
        space.enter(va, data, READ_WRITE, Access::Read, EnterFlags::empty()).expect("memory");
        assert_eq!(machine.read(va), Ok(77));
        system.qremove(window, 1).expect("in the window");
        space.remove(VirtRange::user());
        reach_it_all();
        assert_clean(&system);
        system.activate_kernel();
        space.destroy().expect("active nowhere");
        reach_it_all();
        assert_clean(&system);
        system.stop_cpu();
    });
}

#[test]
fn questions_about_adopted_addresses_are_answered_as_documented() {
    let (machine, data) = booted(None);
    let system = System::new(machine).expect("a system");
    system.machine().run_cpu(cpu(0), || {
        system.start_cpu();
        let space = system.create().expect("a space");
        for (va, entries) in [(GIB, 2), (TWO_MIB, 3), (PAGE, 4)] {
            let va = va.wrapping_add(0x5000);
            assert_eq!(system.kextract(va), None, "outside of the window");
            assert_eq!(space.extract(va), None, "not a user address");
            assert_eq!(space.protection(va), None);
            assert!(!space.is_prefaultable(va));
            let walk = space.get_mapping(va);
            assert_eq!(walk.len(), entries, "{va}");
            assert!(walk[..entries - 1].iter().all(|word| word & 1 != 0));
            let refused = system.kenter(va, data, Protection::READ);
            assert_eq!(refused, Err(KernelMapError::OutsideWindow(va)));
            assert!(system.qremove(va, 1).is_err());
        }
        let page = space.get_mapping(PAGE);
        assert_eq!(entry(page[3]).frame(), data);
        space.remove(VirtRange::new(VirtAddr(0), VirtAddr(!0xfff)).expect("aligned"));
        assert_eq!(*space.get_mapping(PAGE), *page, "only the user part was removed");
        space.destroy().expect("active nowhere");
        assert_clean(&system);
        system.stop_cpu();
    });
}

#[test]
fn a_window_that_the_boot_tables_use_is_refused() {
    let (machine, _) = booted(Some(IN_THE_WINDOWS_SLOT));
    let window = machine.kernel_window().start();
    let error = System::new(machine).map(|_| ()).expect_err("the slot is taken");
    assert_eq!(error, SystemError::KernelWindowTaken(window));
    assert!(error.to_string().contains("512 GiB"), "{error}");
}

#[test]
fn entries_made_later_are_not_seen() {
    let (machine, data) = booted(None);
    let root = machine.boot_root().expect("it booted");
    let system = System::new(machine).expect("a system");
    let machine = system.machine();
    let late = VirtAddr(0xffff_c000_0000_0000);
    put(machine, root, late, 1, Entry::leaf(data, READ_WRITE).with(ACCESSED | DIRTY));
    // Below an adopted entry the tables are shared.
    let shared = PAGE.wrapping_add(0x1000);
    put(machine, root, shared, 1, Entry::leaf(data, READ_WRITE).with(ACCESSED | DIRTY));
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        assert!(machine.supervisor_read(late).is_err());
        assert_eq!(machine.supervisor_read(shared), Ok(0));
        system.stop_cpu();
    });
}
