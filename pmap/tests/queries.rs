//! What is mapped, and what it says: the questions about addresses, and holds.

mod support;

use pmap::entry::{ACCESSED, DIRTY, Entry, MANAGED, USER, X86};
use pmap::sim::{Adversary, Config, SimMachine};
use pmap::{
    Access, EnterFlags, Frame, FrameError, KernelMapError, PageRecord, Pmap, Protection, RetireError, SKZ63,
    StillHeld, StillMapped, System, VirtAddr, VirtRange,
};
use support::{READ_WRITE, on_cpu, small};

const VA: VirtAddr = VirtAddr(0x40_0000);

fn enter(space: &Pmap<'_, SimMachine>, va: VirtAddr, frame: Frame, access: Access) {
    space.enter(va, frame, READ_WRITE, access, EnterFlags::empty()).expect("memory");
}

/// An address space that is current, and a page that is not mapped yet. A tame machine: only what the test
/// does sets accessed bits.
fn scene(f: impl FnOnce(&System<SimMachine>, &Pmap<'_, SimMachine>, Frame, &PageRecord)) {
    on_cpu(Config { adversary: Adversary::tame(), ..small() }, |system| {
        let space = system.create().unwrap();
        space.activate();
        let frame = system.machine().allocate_data_frame(true).unwrap();
        f(system, &space, frame, system.page(frame).unwrap());
        system.activate_kernel();
        space.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
}

/// H-52: a table that covers the address says nothing about the address.
#[test]
fn nothing_is_extracted_from_an_invalid_entry_of_an_existing_table() {
    scene(|_, space, frame, _| {
        enter(space, VA, frame, Access::Read);
        let beside = VA.wrapping_add(0x1000);
        assert!(space.extract(beside).is_none());
        assert!(space.protection(beside).is_none());
        assert!(space.mincore(beside).is_none());
        assert!(space.extract_and_hold(beside, Protection::READ).is_none());
        assert!(space.extract(VirtAddr(VA.0 | 1 << 63)).is_none(), "nor from the kernel's half");
    });
}

#[test]
fn mincore_tells_of_this_mapping_and_whom_to_ask() {
    scene(|system, space, frame, page| {
        let seen = || space.mincore(VA.wrapping_add(0x123)).map(|m| (m.modified, m.referenced, m.ask_others));
        assert_eq!(seen(), None);
        assert!(space.enter_quick(VA, frame, READ_WRITE));
        assert_eq!(seen(), Some((false, false, Some(frame))), "a speculative mapping was not used");
        system.machine().read(VA).unwrap();
        assert_eq!(seen(), Some((false, true, Some(frame))));
        enter(space, VA, frame, Access::Write);
        assert_eq!(seen(), Some((true, true, None)), "the others have nothing to add");
        space.protect(VirtRange::page_of(VA), Protection::READ);
        assert_eq!(seen(), Some((false, true, Some(frame))), "the store is in the page's mark now");
        assert!(page.is_dirty());
        space.remove(VirtRange::page_of(VA));
        system.set_unmanaged(page, true).unwrap();
        space.enter(VA, frame, Protection::READ, Access::Read, EnterFlags::empty()).unwrap();
        assert_eq!(seen(), Some((false, true, None)), "an unmanaged page has no other mappings to ask");
        space.remove(VirtRange::page_of(VA));
        system.set_unmanaged(page, false).unwrap();
    });
}

#[test]
fn prefaulting_is_for_holes_in_tables_that_exist() {
    scene(|_, space, frame, _| {
        assert!(!space.is_prefaultable(VA), "no table");
        enter(space, VA, frame, Access::Read);
        assert!(!space.is_prefaultable(VA), "mapped already");
        assert!(space.is_prefaultable(VA.wrapping_add(0x1f_f000)));
        assert!(!space.is_prefaultable(VA.wrapping_add(0x20_0000)), "beyond the table");
        assert!(!space.is_prefaultable(VirtAddr(u64::MAX)));
    });
}

#[test]
fn a_walk_ends_with_the_leaf_or_with_the_first_hole() {
    scene(|_, space, frame, _| {
        assert_eq!(*space.get_mapping(VA), [0], "the root's entry");
        enter(space, VA, frame, Access::Write);
        let walk = space.get_mapping(VA);
        assert_eq!(walk.len(), 4);
        assert!(walk.iter().all(|word| Entry::<X86>::from_word(*word).is_present()));
        let leaf = Entry::<X86>::leaf(frame, READ_WRITE).with(USER | ACCESSED | DIRTY | MANAGED).word();
        assert_eq!(walk[3], leaf);
        let beside = space.get_mapping(VA.wrapping_add(0x1000));
        assert_eq!((beside.len(), beside[3]), (4, 0));
        assert_eq!(space.get_mapping(VA.wrapping_add(0x20_0000)).len(), 3);
        assert_eq!(space.get_mapping(VA.wrapping_add(1 << 30)).len(), 2);
    });
}

#[test]
fn the_first_sixteen_mappings_are_looked_at() {
    scene(|system, space, frame, page| {
        let other = system.create().unwrap();
        assert!(!space.page_exists_quick(page));
        let far = VirtRange::new(VA, VA.wrapping_add(16 << 12)).unwrap();
        assert_eq!(other.enter_object(far, Protection::READ, |_| Some(frame)), 16);
        enter(space, VA, frame, Access::Read);
        assert!(other.page_exists_quick(page));
        assert!(!space.page_exists_quick(page), "its mapping is the seventeenth");
        other.remove(VirtRange::page_of(VA));
        assert!(space.page_exists_quick(page));
        other.destroy().unwrap();
    });
}

#[test]
fn holds_are_refused_while_a_page_is_taken_down() {
    scene(|system, space, frame, page| {
        enter(space, VA, frame, Access::Read);
        let held = space.extract_and_hold(VA, Protection::READ | Protection::WRITE);
        assert_eq!(held, Some(frame));
        assert!(space.extract_and_hold(VA, Protection::EXECUTE).is_none(), "a right that it does not give");
        assert_eq!(page.refuse_holds().err(), Some(StillHeld));
        assert!(system.unhold(page));
        {
            let _refused = page.refuse_holds().expect("nobody holds it");
            assert!(space.extract_and_hold(VA, Protection::READ).is_none());
            assert_eq!(page.refuse_holds().err(), Some(StillHeld), "one at a time");
            assert!(!system.unhold(page), "the refusal is no hold");
            assert_eq!(page.wire_count(), 0);
            assert!(space.extract(VA).is_some(), "the mapping is there still");
        }
        assert_eq!(space.extract_and_hold(VA, Protection::READ), Some(frame));
        assert!(system.unhold(page));
    });
}

#[test]
fn active_cpus_are_those_that_run_the_address_space() {
    scene(|system, space, _, _| {
        assert_eq!(space.active_cpus().iter().collect::<Vec<_>>(), [support::cpu(0)]);
        system.activate_kernel();
        assert!(space.active_cpus().is_empty());
    });
}

#[test]
fn kernel_addresses_are_extracted_without_a_lock() {
    scene(|system, _, frame, _| {
        use pmap::Machine;
        let va = system.machine().kernel_window().start();
        assert!(system.kextract(va).is_none());
        system.qenter(va, &[frame]).unwrap();
        assert_eq!(system.kextract(va.wrapping_add(0x7f8)).map(|pa| pa.0), Some(frame.addr().0 | 0x7f8));
        assert!(system.kextract(va.wrapping_add(0x1000)).is_none());
        assert!(system.kextract(VA).is_none(), "not a kernel address");
        system.qremove(va, 1).unwrap();
        assert!(system.kextract(va).is_none());
    });
}

/// H-41: a frame that must never be used is refused by everything that maps, and not used by the pmap
/// itself even if the machine hands it out.
#[test]
fn retired_frames_are_never_used() {
    scene(|system, space, frame, page| {
        use pmap::Machine;
        enter(space, VA, frame, Access::Read);
        assert_eq!(system.retire(frame), Err(RetireError::StillMapped));
        assert_eq!(system.set_unmanaged(page, true), Err(StillMapped));
        space.remove(VirtRange::user());
        assert_eq!(system.retire(space.root()), Err(RetireError::Frame(FrameError::PmapsOwn)));
        assert_eq!(system.retire(Frame(0)), Err(RetireError::Frame(FrameError::NotMemory)));

        let machine = system.machine();
        let bad: Vec<Frame> = (0..4).map(|_| machine.allocate_data_frame(true).unwrap()).collect();
        for frame in &bad {
            system.retire(*frame).unwrap();
            assert!(system.page(*frame).unwrap().is_retired());
            let refused = space.enter(VA, *frame, READ_WRITE, Access::Read, EnterFlags::empty());
            assert_eq!(refused, Err(FrameError::Retired.into()));
            assert!(!space.enter_quick(VA, *frame, READ_WRITE));
            let window = machine.kernel_window().start();
            assert_eq!(system.qenter(window, &[*frame]), Err(KernelMapError::Frame(FrameError::Retired)));
            assert_eq!(system.zero_page(*frame), Err(FrameError::Retired));
        }
        // The machine's allocator does not know, and hands out next what it was given back last.
        bad.iter().for_each(|frame| machine.free_data_frame(*frame));
        enter(space, VA, frame, Access::Read);
        let walk = space.get_mapping(VA);
        let tables = walk[..3].iter().map(|word| Frame((word & 0x000f_ffff_ffff_f000) >> 12));
        assert!(tables.chain([space.root()]).all(|table| !bad.contains(&table)));
        assert_eq!(system.statistics().retired_frames_met, 4);
        assert_eq!((SKZ63.start.addr().0, SKZ63.count << 12), (1 << 30, 4 << 20));
    });
}
