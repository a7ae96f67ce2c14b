//! Edges of the interface: errors, exhaustion, kernel mappings, activation.

mod support;

use pmap::sim::{Config, SimMachine};
use pmap::{
    Access, EnterError, EnterFlags, Frame, FrameError, KernelMapError, Machine, Options, PAGE_SIZE,
    Protection, PvLocking, Shortage, StillMapped, System, SystemError, VirtAddr, VirtRange,
};

use support::{READ_WRITE, assert_clean, cpu, on_cpu, on_cpu_with, small, system};

#[test]
fn bad_requests_are_refused() {
    on_cpu(small(), |system| {
        let space = system.create().unwrap();
        let frame = system.machine().allocate_data_frame(true).unwrap();
        let enter = |va, prot, access| space.enter(VirtAddr(va), frame, prot, access, EnterFlags::empty());
        assert_eq!(
            enter(0x8000_0000_0000, READ_WRITE, Access::Read),
            Err(EnterError::NotUser(VirtAddr(0x8000_0000_0000)))
        );
        assert_eq!(enter(0x1000, Protection::READ, Access::Write), Err(EnterError::AccessNotPermitted));
        assert_eq!(enter(0x1000, Protection::WRITE, Access::Write), Err(EnterError::AccessNotPermitted));
        let far =
            space.enter(VirtAddr(0x1000), Frame(1 << 41), READ_WRITE, Access::Read, EnterFlags::empty());
        assert_eq!(far, Err(EnterError::Frame(FrameError::TooLarge)));
        let wrapped = Frame((1 << 52) | frame.0);
        assert!(!space.enter_quick(VirtAddr(0x1000), wrapped, READ_WRITE));
        let window = system.machine().kernel_window().start();
        assert_eq!(system.qenter(window, &[wrapped]), Err(KernelMapError::Frame(FrameError::TooLarge)));
        let own = space.enter(VirtAddr(0x1000), space.root(), READ_WRITE, Access::Read, EnterFlags::empty());
        assert_eq!(own, Err(EnterError::Frame(FrameError::PmapsOwn)));
        assert!(!space.enter_quick(VirtAddr(0x1000), space.root(), READ_WRITE));
        let own = system.kenter(window, space.root(), READ_WRITE);
        assert_eq!(own, Err(KernelMapError::Frame(FrameError::PmapsOwn)));
        assert_eq!(space.resident_count(), 1);
        assert!(space.extract(VirtAddr(0xffff_8000_0000_0000)).is_none());
        assert!(!system.unhold(system.page(frame).unwrap()), "nothing was held");
        system.machine().free_data_frame(frame);
    });
}

#[test]
fn an_address_space_in_use_cannot_be_destroyed() {
    on_cpu(small(), |system| {
        let space = system.create().unwrap();
        space.activate();
        let space = space.destroy().expect_err("current on this CPU").pmap;
        system.activate_kernel();
        space.destroy().expect("current nowhere");
    });
}

/// Whatever allocation fails, `enter` either succeeds or changes nothing.
#[test]
fn every_shortage_leaves_things_as_they_were() {
    for spare in 0..8 {
        on_cpu(small(), |system| {
            let machine = system.machine();
            let space = system.create().unwrap();
            let frame = machine.allocate_data_frame(true).unwrap();
            let mut hoard = Vec::new();
            while machine.free_frames() > spare {
                hoard.push(machine.allocate_data_frame(false).unwrap());
            }
            let before = (space.resident_count(), machine.free_frames(), system.statistics().pv_entries);
            let va = VirtAddr(0x1234_5678_9000);
            let result = space.enter(va, frame, READ_WRITE, Access::Write, EnterFlags::empty());
            // A chunk of PV entries and three tables.
            assert_eq!(result.is_ok(), spare >= 4, "{spare} frames to spare");
            if result.is_err() {
                assert_eq!(result, Err(EnterError::Shortage));
                let after = (space.resident_count(), machine.free_frames(), system.statistics().pv_entries);
                assert_eq!(after, before);
                assert!(space.extract(va).is_none());
                assert!(!space.enter_quick(va, frame, Protection::READ));
            }
            assert_clean(system);
            if spare == 0 {
                assert_eq!(system.create().err(), Some(Shortage));
            }
            space.destroy().unwrap();
            hoard.into_iter().chain([frame]).for_each(|f| machine.free_data_frame(f));
            assert_eq!(system.statistics().pv_chunks, 0, "no chunk is left behind");
        });
    }
}

#[test]
fn unmanaged_pages_have_no_reverse_map() {
    on_cpu(small(), |system| {
        let space = system.create().unwrap();
        let frame = system.machine().allocate_data_frame(true).unwrap();
        let page = system.page(frame).unwrap();
        system.set_unmanaged(page, true).unwrap();
        space.enter(VirtAddr(0x1000), frame, READ_WRITE, Access::Read, EnterFlags::empty()).unwrap();
        assert!(!system.page_is_mapped(page));
        assert_eq!(
            space.extract_and_hold(VirtAddr(0x1000), Protection::READ),
            Some(frame),
            "it has a record"
        );
        assert!(system.unhold(page));
        space.activate();
        space.remove_pages().unwrap();
        assert!(space.extract(VirtAddr(0x1000)).is_some(), "remove_pages goes by PV entries");
        space.remove(VirtRange::user());
        system.set_unmanaged(page, false).unwrap();
        system.machine().free_data_frame(frame);
        system.activate_kernel();
        space.destroy().unwrap();
    });
}

#[test]
fn kernel_mappings_are_seen_and_vanish_everywhere() {
    on_cpu(small(), |system| {
        let machine = system.machine();
        let window = machine.kernel_window();
        let frames: Vec<_> = (0..3).map(|_| machine.allocate_data_frame(true).unwrap()).collect();
        let va = |i: u64| window.start().wrapping_add(i * PAGE_SIZE);
        system.qenter(va(0), &frames).unwrap();
        for (i, frame) in frames.iter().enumerate() {
            machine.supervisor_write(va(i as u64), 7 + i as u64).unwrap();
            let word = &machine.frame_words(*frame)[0];
            assert_eq!(word.load(std::sync::atomic::Ordering::Relaxed), 7 + i as u64);
            assert!(machine.read(va(i as u64)).is_err(), "user mode has no access");
        }
        // Other frames at the same addresses: the old translations are global and must go.
        let swapped = [frames[1], frames[0]];
        system.qenter(va(0), &swapped).unwrap();
        assert_eq!(machine.supervisor_read(va(0)), Ok(8));
        system.qremove(va(0), 3).unwrap();
        assert!((0..3).all(|i| machine.supervisor_read(va(i)).is_err()));
        system.kenter(va(5), frames[2], Protection::READ).unwrap();
        assert_eq!(machine.supervisor_read(va(5)), Ok(9));
        system.kremove(va(5)).unwrap();
        machine.invalidate_page(va(5));
        assert!(machine.supervisor_read(va(5)).is_err());
        let outside = window.end();
        assert_eq!(system.qenter(outside, &frames), Err(KernelMapError::OutsideWindow(outside)));
        assert_eq!(system.qremove(va(0), usize::MAX), Err(KernelMapError::OutsideWindow(va(0))));
        frames.into_iter().for_each(|f| machine.free_data_frame(f));
    });
}

/// A page cannot change sides while it is mapped, and a mapping stays on the side on which it was made.
#[test]
fn management_does_not_change_under_a_mapping() {
    on_cpu(small(), |system| {
        let space = system.create().unwrap();
        let frame = system.machine().allocate_data_frame(true).unwrap();
        let page = system.page(frame).unwrap();
        let enter = |prot| space.enter(VirtAddr(0x1000), frame, prot, Access::Read, EnterFlags::empty());
        enter(READ_WRITE).unwrap();
        assert_eq!(system.set_unmanaged(page, true), Err(StillMapped));
        space.remove(VirtRange::user());
        system.set_unmanaged(page, true).unwrap();
        enter(READ_WRITE).unwrap();
        system.set_unmanaged(page, false).unwrap();
        enter(Protection::READ).unwrap();
        assert!(!system.page_is_mapped(page));
        assert_clean(system);
        space.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
}

#[test]
fn a_page_of_another_system_is_refused() {
    let (one, two) = (system(small()), system(small()));
    let foreign = two.page(Frame(5)).unwrap();
    let refused = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| one.page_is_mapped(foreign)));
    assert!(refused.is_err());
}

#[test]
fn kernel_mappings_vanish_on_other_cpus_too() {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let system = system(small());
    let machine = system.machine();
    let va = machine.kernel_window().start();
    let stage = AtomicUsize::new(0);
    let reach = |n: usize| {
        stage.store(n, Ordering::Release);
        machine.wake_all();
    };
    let wait = |n: usize| machine.wait_until(|| stage.load(Ordering::Acquire) >= n);
    machine
        .run_cpus(|id| {
            system.start_cpu();
            if id == cpu(0) {
                let frames = [(); 2].map(|()| machine.allocate_data_frame(true).unwrap());
                system.qenter(va, &frames[..1]).unwrap();
                machine.supervisor_write(va, 1).unwrap();
                reach(1);
                wait(2);
                // The other CPU has cached the page.
                system.qenter(va, &frames[1..]).unwrap();
                machine.supervisor_write(va, 2).unwrap();
                reach(3);
                wait(4);
                // The other CPU is out of service, and still has the translation in its TLB.
                system.qremove(va, 1).unwrap();
                reach(5);
                wait(6);
                frames.into_iter().for_each(|f| machine.free_data_frame(f));
            } else {
                wait(1);
                assert_eq!(machine.supervisor_read(va), Ok(1));
                reach(2);
                wait(3);
                assert_eq!(machine.supervisor_read(va), Ok(2));
                system.stop_cpu();
                reach(4);
                wait(5);
                system.start_cpu();
                assert!(machine.supervisor_read(va).is_err(), "coming into service empties the TLB");
                reach(6);
            }
            system.stop_cpu();
        })
        .unwrap();
}

/// The address space is active on one CPU only: no interrupt is sent.
#[test]
fn a_cpu_that_does_not_run_the_address_space_is_left_alone() {
    let system = system(small());
    let machine = system.machine();
    let ready = std::sync::atomic::AtomicUsize::new(0);
    machine
        .run_cpus(|id| {
            use std::sync::atomic::Ordering;
            system.start_cpu();
            ready.fetch_add(1, Ordering::AcqRel);
            machine.wake_all();
            machine.wait_until(|| ready.load(Ordering::Acquire) >= 2);
            if id == cpu(0) {
                let space = system.create().unwrap();
                space.activate();
                let frame = machine.allocate_data_frame(true).unwrap();
                for _ in 0..10 {
                    space
                        .enter(VirtAddr(0x1000), frame, READ_WRITE, Access::Write, EnterFlags::empty())
                        .unwrap();
                    machine.write(VirtAddr(0x1000), 1).unwrap();
                    space.remove(VirtRange::user());
                }
                machine.free_data_frame(frame);
                system.activate_kernel();
                space.destroy().unwrap();
                ready.fetch_add(1, Ordering::AcqRel);
                machine.wake_all();
            }
            machine.wait_until(|| ready.load(Ordering::Acquire) == 3);
            system.stop_cpu();
        })
        .unwrap();
    assert_eq!(system.statistics().shootdown_ipis, 0);
    assert!(system.statistics().shootdowns_local_only >= 10);
}

#[test]
fn a_system_needs_a_sensible_machine() {
    let tiny = || SimMachine::new(Config { frames: pmap::sim::MIN_FRAMES, ..Config::default() }).unwrap();
    let machine = tiny();
    let mut hoard = Vec::new();
    while machine.free_frames() > 3 {
        hoard.extend(machine.allocate_data_frame(false));
    }
    assert_eq!(System::new(machine).err(), Some(SystemError::Shortage));

    let mut small = [0u64; 64];
    let storage = std::ptr::NonNull::slice_from_raw_parts(
        std::ptr::NonNull::from(&mut small).cast::<u8>(),
        std::mem::size_of_val(&small),
    );
    // SAFETY: the storage is ours and outlives the call, which refuses it.
    let refused = unsafe { System::with_storage(tiny(), Options::default(), storage) };
    assert_eq!(refused.err(), Some(SystemError::BadStorage));
}

/// H-72: device memory beyond the last page record has neither a reverse map nor a lock for one, whichever way pages
/// share locks.
#[test]
fn frames_beyond_all_records_are_mapped_unmanaged() {
    for pv_locking in PvLocking::ALL {
        // Memory ends inside a 2 MiB run.
        let options = Options { pv_locking, ..Options::default() };
        on_cpu_with(Config { frames: 700, ..small() }, options, |system| {
            let memory = *system.machine().memory().last().unwrap();
            let end = memory.start.0 + memory.count;
            let space = system.create().unwrap();
            let device = [end, end + 1000, (1 << 40) - 1].map(Frame);
            for (i, frame) in (0..).zip(device) {
                assert!(system.page(frame).is_none());
                let va = VirtAddr(0x1000 * (i + 1));
                space.enter(va, frame, READ_WRITE, Access::Read, EnterFlags::WIRED).unwrap();
                assert!(space.extract_and_hold(va, Protection::READ).is_none());
            }
            // The last page that has a record has a lock, too.
            let last = system.page(Frame(end - 1)).unwrap();
            system.remove_all(last);
            assert!(!system.page_is_mapped(last) && !system.is_referenced(last));
            assert_eq!(system.ts_referenced(last), 0);
            let other = system.create().unwrap();
            assert_eq!(other.copy_from(&space, VirtRange::user()), 0, "nothing managed to copy");
            assert_eq!(system.statistics().pv_entries, 0);
            space.remove(VirtRange::user());
            assert_eq!((space.resident_count(), space.wired_count()), (1, 0));
            space.destroy().unwrap();
            other.destroy().unwrap();
        });
    }
}

/// `kenter` flushes nothing; `invalidate_kernel` makes all CPUs see it, for a page, a few of them, or so many that
/// everything is flushed.
#[test]
fn a_replaced_kernel_page_is_seen_everywhere_after_invalidate_kernel() {
    for pages in [1, 5, 512] {
        let system = system(small());
        let machine = system.machine();
        let va = machine.kernel_window().start();
        let range = VirtRange::new(va, va.wrapping_add(pages * PAGE_SIZE)).unwrap();
        let frames = machine.run_cpu(cpu(0), || {
            system.start_cpu();
            [7, 8].map(|value| {
                let frame = machine.allocate_data_frame(true).unwrap();
                machine.frame_words(frame)[0].store(value, std::sync::atomic::Ordering::Relaxed);
                frame
            })
        });
        for (frame, value) in frames.into_iter().zip([7, 8]) {
            machine.run_cpu(cpu(0), || {
                system.kenter(va, frame, Protection::READ).unwrap();
                system.invalidate_kernel(range);
                assert_eq!(machine.supervisor_read(va), Ok(value));
            });
            machine.run_cpu(cpu(1), || {
                system.start_cpu();
                assert_eq!(machine.supervisor_read(va), Ok(value), "{pages} pages");
            });
        }
        machine.run_cpu(cpu(0), || {
            system.qremove(va, 1).unwrap();
            frames.into_iter().for_each(|frame| machine.free_data_frame(frame));
        });
        assert_clean(&system);
    }
}
