//! Tables that are displaced, come back, or go.

use super::*;
use crate::entry::{LARGE, PROMOTED, USER};
use crate::mutation::Mutation;
use crate::{SUPERPAGE_SIZE, VirtRange};

/// Whatever takes the last mapping of a directory away takes along what is saved there, and the accounts agree.
#[test]
fn saved_tables_go_with_their_address_space() {
    for by_pages in [false, true] {
        with_six_saved(|system, space| {
            let free = system.machine().free_frames();
            if by_pages {
                space.activate();
                space.remove_pages().unwrap();
                system.activate_kernel();
            } else {
                space.remove(VirtRange::user());
            }
            // Two directories, two leaf tables of the mappings that kept them, one table above, and a chunk.
            assert_eq!(system.machine().free_frames(), free + 6 + 6);
            assert_eq!((space.resident_count(), space.core().lock().saved), (1, 0));
            assert!(is_clean(system));
        });
    }
}

#[test]
fn a_directory_that_leaves_saved_tables_behind_is_found() {
    on_system(128, |system| {
        // Its accounts are wrong afterwards, so it is never taken down.
        let space = with_saved(system);
        system.set_mutation(Some(Mutation::LoseSaved));
        space.remove(VirtRange::user());
        let lost = AuditError::SavedCount { root: space.root(), recorded: 6, counted: 0 };
        assert!(complaints(system).contains(&lost));
    });
}

/// A run of 512 frames that a large mapping may map, unmanaged.
fn run_of_frames(system: &Sys) -> Frame {
    let frames: Vec<_> = std::iter::from_fn(|| system.machine().allocate_data_frame(true))
        .take_while(|frame| frame.0 < 1024)
        .collect();
    let first = Frame(512);
    assert!((first.0..1024).all(|n| frames.contains(&Frame(n))), "memory is handed out in order");
    for n in first.0..1024 {
        system.set_unmanaged(system.page(Frame(n)).unwrap(), true).unwrap();
        system.machine().frame_words(Frame(n))[0].store(n, core::sync::atomic::Ordering::Relaxed);
    }
    first
}

/// By hand what promotion and demotion will do: real mappings become uniform, are accessed by a CPU, give way to a large
/// leaf, and come back, and no CPU notices.
#[test]
fn a_table_gives_way_to_a_large_leaf_and_comes_back() {
    on_system(1200, |system| {
        let first = run_of_frames(system);
        let space = ManuallyDrop::new(system.create().unwrap());
        let core = space.core();
        let va = address(0, 5);
        space.activate();
        let page = |i: u64| va.wrapping_add(i << PAGE_SHIFT);
        let read_all = || (0..512).for_each(|i| assert_eq!(system.machine().read(page(i)), Ok(first.0 + i)));
        for i in 0..512 {
            assert!(space.enter_quick(page(i), Frame(first.0 + i), Protection::READ));
            let table = system.leaf_table(space.root(), va).unwrap();
            let expected = (i == 511).then_some(Contents::Uniform);
            let directory = directory_of(system, &space, va);
            assert_eq!(SavedTables::<_, X86>::new(system, directory).contents(table), expected);
        }
        let store = SavedTables::<_, X86>::new(system, directory_of(system, &space, va));
        let table = system.leaf_table(space.root(), va).unwrap();
        read_all();
        assert_eq!(store.contents(table), Some(Contents::Accessed), "the CPU has been everywhere");

        let large = Entry::leaf(first, Protection::READ).with(USER | ACCESSED | LARGE | PROMOTED);
        let slot = system.slot(directory_of(system, &space, va), va.index(2));
        let mut state = core.lock();
        let displaced = slot.exchange(large).frame();
        store.save(&mut state, va, Saved { table: displaced, contents: Contents::Accessed });
        drop(state);
        read_all();
        assert_eq!(complaints(system), []);
        assert_eq!(system.statistics().pt_pages, 4 + system.statistics().kernel_pt_pages);

        let mut state = core.lock();
        let saved = store.take(&mut state, va).unwrap();
        assert_eq!(saved, Saved { table, contents: Contents::Accessed });
        let _ = slot.exchange(Entry::table(saved.table));
        drop(state);
        read_all();
        assert_eq!(store.contents(table), Some(Contents::Accessed));
        assert!(is_clean(system));
        space.remove(VirtRange::new(va, va.wrapping_add(SUPERPAGE_SIZE)).unwrap());
        assert_eq!(space.resident_count(), 1);
        system.activate_kernel();
        destroy(space);
        assert!(is_clean(system));
    });
}

/// A CPU may have a saved table in a paging-structure cache, so its frame comes out after the flush.
fn saved_table_in_a_structure_cache(mutation: Option<Mutation>) -> bool {
    on_system(1200, |system| {
        let first = run_of_frames(system);
        let space = space_with(system, 1);
        let core = space.core();
        let va = address(0, 5);
        space.activate();
        for i in 0..512 {
            let page = va.wrapping_add(i << PAGE_SHIFT);
            assert!(space.enter_quick(page, Frame(first.0 + i), Protection::READ));
        }
        system.machine().read(va).unwrap();
        let directory = directory_of(system, &space, va);
        let mut state = core.lock();
        let table = system.slot(directory, va.index(2)).take().frame();
        system.page(directory).unwrap().drop_table_entry();
        core.add_resident(-512);
        let saved = Saved { table, contents: Contents::Uniform };
        SavedTables::<_, X86>::new(system, directory).save(&mut state, va, saved);
        drop(state);
        system.set_mutation(mutation);
        space.remove(VirtRange::user());
        let clean = is_clean(system);
        system.activate_kernel();
        destroy(space);
        clean
    })
}

#[test]
fn a_saved_table_is_freed_after_the_flush() {
    assert!(saved_table_in_a_structure_cache(None));
    assert!(!saved_table_in_a_structure_cache(Some(Mutation::FreeBeforeFlush)));
}

/// Whether a saved table that becomes something else of the pmap's, as what is reclaimed for PV entries does, is all zeroes.
fn recycled_is_zero(va: VirtAddr, mutation: Option<Mutation>) -> bool {
    let mut zero = false;
    with_six_saved(|system, space| {
        system.set_mutation(mutation);
        let mut state = space.core().lock();
        let directory = directory_of(system, space, va);
        let saved = SavedTables::<_, X86>::new(system, directory).take(&mut state, va).unwrap();
        space.core().add_resident(-1);
        let mut gather = Gather::new(system, space.core());
        gather.add_table(saved.table, va);
        let mut freed = gather.flush();
        let frame = freed.take_one(system).unwrap();
        assert!(frame == saved.table && freed.is_empty());
        zero = (0..512).all(|index| system.slot(frame, index).load().word() == 0);
        // SAFETY: allocated as a page table, flushed, and out of the gather.
        unsafe { system.free_frame(frame, crate::FrameUse::PageTable) };
        drop(state);
        assert_eq!(complaints(system), []);
    });
    zero
}

#[test]
fn a_saved_table_is_cleared_for_another_use() {
    for va in [address(0, 3), address(0, 4), address(0, 302)] {
        assert!(recycled_is_zero(va, None));
    }
    assert!(!recycled_is_zero(address(0, 3), Some(Mutation::RecycleAsIs)));
}
