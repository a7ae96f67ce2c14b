//! Known ways to get it wrong, each with the defence in place. What happens without the defence is shown in
//! `mutations.rs`.

#[path = "support/scenes.rs"]
mod scenes;
mod support;
#[path = "support/unmap_race.rs"]
mod unmap_race;

use pmap::mutation::Mutation;
use pmap::sim::{Adversary, Config};
use pmap::{
    Access, Advice, EnterError, EnterFlags, Frame, FrameError, Machine, Protection, RetireError, VirtAddr,
    VirtRange,
};
use support::replay::{each, seeds};
use support::{READ_WRITE, on_cpu, small};
use unmap_race::{Rival, races};

const VA: VirtAddr = VirtAddr(0x40_0000);

/// Plays a scene from many seeds.
fn holds(scene: fn(u64, Option<Mutation>) -> Result<(), String>) {
    each(seeds(0..16), |seed| assert_eq!(scene(seed, None), Ok(()), "seed {seed}"));
}

/// H-11.
#[test]
fn nobody_reads_an_older_copy_after_a_newer_one() {
    holds(scenes::readers_of_a_replaced_page);
}

/// H-12, one half: what is flushed is enough.
#[test]
fn a_store_during_a_flush_free_protect_is_noted_or_faults() {
    holds(scenes::store_during_a_flush_free_protect);
}

/// H-12, the other half: a mapping of every kind is entered anew in every way; a flush happens exactly where it is needed.
#[test]
fn a_change_of_rights_flushes_exactly_where_it_must() {
    let kinds = [Protection::READ, READ_WRITE, Protection::READ | Protection::EXECUTE, Protection::all()];
    on_cpu(Config { adversary: Adversary::tame(), ..small() }, |system| {
        let machine = system.machine();
        let space = system.create().unwrap();
        space.activate();
        let frame = machine.allocate_data_frame(true).unwrap();
        let flushes = || {
            let s = system.statistics();
            s.shootdowns + s.shootdowns_local_only
        };
        for (old, new) in kinds.into_iter().flat_map(|old| kinds.map(|new| (old, new))) {
            for (accessed, written, stores) in
                [(false, false, false), (true, false, false), (true, true, false), (true, true, true)]
            {
                if (written && !old.contains(Protection::WRITE))
                    || (stores && !new.contains(Protection::WRITE))
                {
                    continue;
                }
                let access = if written { Access::Write } else { Access::Read };
                space.enter(VA, frame, old, access, EnterFlags::empty()).unwrap();
                if !accessed {
                    space.advise(VirtRange::page_of(VA), Advice::Free);
                }
                let before = flushes();
                let access = if stores { Access::Write } else { Access::Read };
                space.enter(VA, frame, new, access, EnterFlags::empty()).unwrap();
                // Entering the same mapping again stores nothing, whatever the access.
                let loses_dirty = written && old != new && !stores;
                let loses_execute = old.contains(Protection::EXECUTE) && !new.contains(Protection::EXECUTE);
                let expected = u64::from(accessed && (loses_dirty || loses_execute));
                let what =
                    format!("{old:?} to {new:?}, accessed {accessed}, written {written}, stores {stores}");
                assert_eq!(flushes() - before, expected, "{what}");
                let before = flushes();
                space.remove(VirtRange::page_of(VA));
                assert_eq!(flushes() - before, 1, "tables went");
            }
        }
        system.activate_kernel();
        space.destroy().unwrap();
        machine.free_data_frame(frame);
    });
}

/// H-13.
#[test]
fn a_store_during_unwire_is_not_forgotten() {
    holds(scenes::store_during_unwire);
}

/// The flush of `protect`, and `remove_write` beside it.
#[test]
fn protect_and_remove_write_at_once_leave_nobody_a_way_to_store() {
    holds(scenes::protect_and_remove_write);
}

/// H-16: no CPU has a table in its paging-structure caches that is given back. Four CPUs, ranges that come and go.
#[test]
fn no_freed_table_is_in_a_structure_cache() {
    each(races([77]), |(seed, di)| {
        let report = unmap_race::play(seed, di, 60, Rival::Unmaps, |_| {});
        assert!(report.is_clean(), "{:?}", report.first_failures);
        assert!(report.structure_hits > 0 && report.pages_reused > 0, "tables were cached and reused");
    });
}

/// H-28: one thread has unlinked the PV entry, and not flushed. Another one's `remove_all` finds an empty list, and must not
/// return yet.
#[test]
fn remove_all_waits_although_the_list_is_empty() {
    each(races(100..104), |(seed, di)| {
        let report = unmap_race::play(seed, di, 60, Rival::Unmaps, |_| {});
        assert!(report.is_clean(), "seed {seed}: {:?}", report.first_failures);
    });
}

/// H-39.
#[test]
fn an_activation_during_remove_pages_does_no_harm() {
    holds(scenes::activation_during_remove_pages);
}

/// H-41.
#[test]
fn frames_out_of_use_turn_up_nowhere() {
    holds(scenes::retired_frames);
}

/// H-41, while the frame is being entered.
#[test]
fn a_frame_does_not_go_out_of_use_while_it_is_entered() {
    holds(scenes::retire_during_enter);
}

/// The dirty bit, with nobody to keep the page busy.
#[test]
fn a_store_after_the_cleaning_leaves_a_trace() {
    holds(scenes::clean_during_remove_write);
}

/// H-51 and H-73: with all mappings wired and no frame left, what needs memory says so, and what needs none works. Nothing
/// waits for memory, inside a section or outside.
#[test]
fn without_memory_every_call_returns() {
    on_cpu(Config { frames: 64, ..small() }, |system| {
        let machine = system.machine();
        let (space, other) = (system.create().unwrap(), system.create().unwrap());
        space.activate();
        let frame = machine.allocate_data_frame(true).unwrap();
        let page = system.page(frame).unwrap();
        let pages = VirtRange::new(VA, VA.wrapping_add(168 << 12)).unwrap();
        for va in pages.iter() {
            space.enter(va, frame, READ_WRITE, Access::Write, EnterFlags::WIRED).unwrap();
        }
        let hoard: Vec<Frame> = std::iter::from_fn(|| machine.allocate_data_frame(false)).collect();
        let beside = pages.end();
        for _ in 0..3 {
            let refused = space.enter(beside, frame, READ_WRITE, Access::Read, EnterFlags::empty());
            assert_eq!(refused, Err(EnterError::Shortage));
            assert!(!space.enter_quick(beside, frame, READ_WRITE));
            assert_eq!(other.copy_from(&space, VirtRange::user()), 0);
            assert!(system.create().is_err());
        }
        space.advise(pages, Advice::DontNeed);
        assert!(page.is_dirty());
        space.protect(pages, Protection::READ);
        system.remove_write(page);
        system.clear_modify(page);
        system.ts_referenced(page);
        space.remove(VirtRange::page_of(VA));
        space.unwire(pages).unwrap();
        space.remove_pages().unwrap();
        system.remove_all(page);
        assert!(!system.page_is_mapped(page));
        hoard.into_iter().for_each(|frame| machine.free_data_frame(frame));
        system.activate_kernel();
        [space, other].into_iter().for_each(|space| space.destroy().unwrap());
        machine.free_data_frame(frame);
    });
}

/// H-65: absent upper levels are skipped whole. A walk over all of the user half that visited leaves one by one would take
/// years.
#[test]
fn a_walk_over_everything_visits_what_exists() {
    on_cpu(small(), |system| {
        let space = system.create().unwrap();
        space.activate();
        let frame = system.machine().allocate_data_frame(true).unwrap();
        let ends = [VirtAddr(0), VirtAddr(0x7fff_ffff_f000)];
        for va in ends {
            space.enter(va, frame, READ_WRITE, Access::Write, EnterFlags::WIRED).unwrap();
        }
        space.protect(VirtRange::user(), Protection::READ);
        space.advise(VirtRange::user(), Advice::DontNeed);
        space.unwire(VirtRange::user()).unwrap();
        assert!(ends.iter().all(|va| space.protection(*va) == Some(Protection::READ)));
        space.remove(VirtRange::user());
        assert_eq!(space.resident_count(), 1);
        system.activate_kernel();
        space.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
}

/// H-71: the mark is there before anybody can store through the mapping, and stays until what was stored is noted: a page
/// that was stored to never looks unmodified, which the mark alone would say.
#[test]
fn a_page_that_was_stored_to_never_looks_unmodified() {
    holds(scenes::store_and_ask);
}

/// H-72: a frame that the machine's memory does not have has no record: it is mapped, unmanaged, and nothing that goes by
/// records knows it.
#[test]
fn frames_without_a_record_are_unmanaged() {
    on_cpu(Config { adversary: Adversary::tame(), ..small() }, |system| {
        let space = system.create().unwrap();
        let device = Frame(0xfee00);
        assert!(system.page(device).is_none());
        space.enter(VA, device, READ_WRITE, Access::Write, EnterFlags::WIRED).unwrap();
        assert_eq!(space.extract(VA).map(|pa| pa.frame()), Some(device));
        assert!(space.extract_and_hold(VA, Protection::READ).is_none());
        assert_eq!(space.mincore(VA).and_then(|m| m.ask_others), None);
        space.advise(VirtRange::page_of(VA), Advice::DontNeed);
        space.protect(VirtRange::page_of(VA), Protection::READ);
        space.unwire(VirtRange::page_of(VA)).unwrap();
        let other = system.create().unwrap();
        assert_eq!(other.copy_from(&space, VirtRange::user()), 0, "only managed mappings are copied");
        assert_eq!(system.retire(device), Err(RetireError::Frame(FrameError::NotMemory)));
        assert_eq!(system.zero_page(device), Err(FrameError::NotMemory));
        assert_eq!(system.statistics().pv_entries, 0);
        let window = system.machine().kernel_window().start();
        system.kenter(window, device, READ_WRITE).unwrap();
        assert_eq!(system.kextract(window).map(|pa| pa.frame()), Some(device));
        system.kremove(window).unwrap();
        system.invalidate_kernel(VirtRange::page_of(window));
        other.destroy().unwrap();
        space.destroy().unwrap();
    });
}
