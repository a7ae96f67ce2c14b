//! PV entries when there is no memory for more of them: from whom they are taken, and when that ends.

mod support;

use pmap::mutation::Mutation;
use pmap::sim::{Adversary, Config, SimMachine};
use pmap::{
    Access, EnterError, EnterFlags, Frame, Options, PageRecord, Pmap, Protection, Shortage, System, VirtAddr,
    VirtRange,
};

use support::replay::{each, seeds};
use support::{READ_WRITE, assert_clean, cpu, deterministic, on_cpu_with, system_with};

/// PV entries in a chunk.
const CHUNK: u64 = 168;
const BASE: u64 = 0x10_0000;

fn limit(chunks: u64) -> Options {
    Options { pv_chunk_limit: Some(chunks), ..Options::default() }
}

fn config() -> Config {
    Config { cpus: 1, frames: 256, adversary: Adversary::fierce(), ..Config::default() }
}

fn va(page: u64) -> VirtAddr {
    VirtAddr(BASE + page * 0x1000)
}

fn pages(from: u64, to: u64) -> VirtRange {
    VirtRange::new(va(from), va(to)).unwrap()
}

type Space<'s> = Pmap<'s, SimMachine>;

fn enter(space: &Space<'_>, page: u64, frame: Frame, flags: EnterFlags) -> Result<(), EnterError> {
    space.enter(va(page), frame, READ_WRITE, Access::Read, flags)
}

/// Fills the pages `from..to` with mappings of one frame.
fn fill(space: &Space<'_>, from: u64, to: u64, frame: Frame, flags: EnterFlags) {
    (from..to).for_each(|page| enter(space, page, frame, flags).unwrap());
}

fn mapped(space: &Space<'_>, from: u64, to: u64) -> u64 {
    (from..to).filter(|page| space.extract(va(*page)).is_some()).count() as u64
}

fn data(system: &System<SimMachine>) -> (Frame, &PageRecord) {
    let frame = system.machine().allocate_data_frame(true).unwrap();
    (frame, system.page(frame).unwrap())
}

#[test]
fn the_oldest_mappings_make_room_and_their_bits_are_kept() {
    on_cpu_with(config(), limit(1), |system| {
        let (old, new) = (system.create().unwrap(), system.create().unwrap());
        let ((frame, page), (other, _)) = (data(system), data(system));
        fill(&old, 0, CHUNK, frame, EnterFlags::empty());
        old.activate();
        system.machine().write(va(7), 1).unwrap();
        assert!(!page.is_dirty());
        enter(&new, 0, other, EnterFlags::empty()).unwrap();
        assert_eq!((mapped(&old, 0, CHUNK), mapped(&new, 0, 1)), (0, 1));
        assert!(page.is_dirty() && page.is_referenced_flag() && !page.is_writeable());
        assert!(system.machine().read(va(7)).is_err(), "the translation is gone");
        let s = system.statistics();
        assert_eq!((s.pv_chunks, s.pv_entries, s.pv_reclaimed, s.pv_reclaims), (1, 1, CHUNK, 1));
        system.activate_kernel();
        old.destroy().unwrap();
        new.destroy().unwrap();
        assert_eq!(system.statistics().pv_chunks, 0);
        [frame, other].into_iter().for_each(|f| system.machine().free_data_frame(f));
    });
}

/// The address space that asks may be the only one that has anything.
#[test]
fn an_address_space_may_take_from_itself() {
    on_cpu_with(config(), limit(1), |system| {
        let space = system.create().unwrap();
        let (frame, _) = data(system);
        enter(&space, 0, frame, EnterFlags::WIRED).unwrap();
        fill(&space, 1, 1 + 5 * CHUNK, frame, EnterFlags::empty());
        assert!(space.extract(va(5 * CHUNK)).is_some(), "the one that was asked for");
        assert!(space.extract(va(0)).is_some(), "wired");
        assert_eq!(system.statistics().pv_chunks, 1);
        assert_clean(system);
        space.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
}

/// Two address spaces, one full of wired mappings, and a wish of the other one; whether all wired ones survive.
fn wired_mappings_survive(mutation: Option<Mutation>) -> bool {
    let mut survived = false;
    on_cpu_with(config(), limit(1), |system| {
        system.set_mutation(mutation);
        let (wired, other) = (system.create().unwrap(), system.create().unwrap());
        let (frame, _) = data(system);
        fill(&wired, 0, CHUNK, frame, EnterFlags::WIRED);
        // Nothing can be taken: an answer, and not a search without end (H-51).
        let refused = enter(&other, 0, frame, EnterFlags::empty()) == Err(EnterError::Shortage);
        let again = enter(&wired, CHUNK, frame, EnterFlags::empty()) == Err(EnterError::Shortage);
        survived = refused && again && mapped(&wired, 0, CHUNK) == CHUNK;
        if survived {
            assert_eq!(system.statistics().pv_reclaims_in_vain, 2);
            assert_eq!(other.resident_count(), 1, "nothing is left behind");
            // One that is not wired is enough for its owner, and too little for the other one.
            wired.unwire(pages(3, 4)).unwrap();
            enter(&wired, CHUNK, frame, EnterFlags::WIRED).unwrap();
            assert!(wired.extract(va(3)).is_none());
        }
        wired.destroy().unwrap();
        other.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
    survived
}

#[test]
fn wired_mappings_are_never_taken_and_the_search_ends() {
    assert!(wired_mappings_survive(None));
}

#[test]
fn taking_wired_mappings_is_noticed() {
    assert!(!wired_mappings_survive(Some(Mutation::ReclaimWired)));
}

/// H-44: a page-table page that becomes empty serves as a chunk, and is counted as one.
#[test]
fn an_empty_page_table_page_becomes_a_chunk() {
    on_cpu_with(config(), Options::default(), |system| {
        let machine = system.machine();
        let ((frame, _), (plain, record)) = (data(system), data(system));
        system.set_unmanaged(record, true).unwrap();
        let (old, new) = (system.create().unwrap(), system.create().unwrap());
        let before = system.statistics();
        let far = VirtAddr(0x40_0000_0000);
        // A wired mapping keeps the chunk in use; the other one has a page table of its own, and one above.
        enter(&old, 0, frame, EnterFlags::WIRED).unwrap();
        old.enter(far, frame, READ_WRITE, Access::Write, EnterFlags::empty()).unwrap();
        // The tables are there, but not a PV entry.
        enter(&new, 1, plain, EnterFlags::empty()).unwrap();
        let mut hoard: Vec<_> = std::iter::from_fn(|| machine.allocate_data_frame(false)).collect();
        old.activate();
        machine.write(far, 1).unwrap();
        enter(&new, 0, frame, EnterFlags::empty()).unwrap();
        assert!(old.extract(far).is_none() && machine.read(far).is_err());
        let s = system.statistics();
        assert_eq!((s.pt_pages_recycled, s.pv_chunks, machine.free_frames()), (1, 2, 1));
        assert_clean(system);
        system.activate_kernel();
        old.destroy().unwrap();
        new.destroy().unwrap();
        let after = system.statistics();
        assert_eq!((after.pv_chunks, after.pv_entries, after.pt_pages + 2), (0, 0, before.pt_pages));
        let [_, tables, chunks, _] = machine.report().frames_in_use;
        assert_eq!((chunks, tables), (0, after.pt_pages), "the machine counts the same");
        hoard.extend([frame, plain]);
        hoard.into_iter().for_each(|f| machine.free_data_frame(f));
    });
}

#[test]
fn speculative_mappings_take_from_nobody() {
    on_cpu_with(config(), limit(1), |system| {
        let (old, new) = (system.create().unwrap(), system.create().unwrap());
        let (frame, _) = data(system);
        fill(&old, 0, CHUNK, frame, EnterFlags::empty());
        assert!(!new.enter_quick(va(0), frame, Protection::READ));
        assert_eq!(new.enter_object(pages(0, 4), Protection::READ, |_| Some(frame)), 0);
        assert_eq!(new.copy_from(&old, pages(0, 4)), 0);
        assert_eq!((system.statistics().pv_reclaims, new.resident_count()), (0, 1));
        old.destroy().unwrap();
        new.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
}

/// H-4: a reservation that is not complete must not lose to its own reclaiming what it has got already.
fn a_reservation_keeps_what_it_has(mutation: Option<Mutation>) -> bool {
    let mut kept = false;
    on_cpu_with(config(), limit(2), |system| {
        system.set_mutation(mutation);
        let (space, other) = (system.create().unwrap(), system.create().unwrap());
        let (frame, _) = data(system);
        // The reserved chunk is the oldest one.
        space.reserve(100).unwrap();
        fill(&other, 0, 50, frame, EnterFlags::empty());
        kept = space.reserve(300).is_ok();
        if kept {
            assert_eq!(mapped(&other, 0, 50), 0);
            let before = system.statistics().pv_reclaims;
            fill(&space, 0, 300, frame, EnterFlags::empty());
            assert_eq!(system.statistics().pv_reclaims, before, "all entries were there");
        }
        space.destroy().unwrap();
        other.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
    kept
}

#[test]
fn a_reservation_does_not_reclaim_its_own_chunks() {
    assert!(a_reservation_keeps_what_it_has(None));
}

#[test]
fn reclaiming_the_own_reservation_is_noticed() {
    assert!(!a_reservation_keeps_what_it_has(Some(Mutation::ReclaimOwnReserve)));
}

/// H-5: entries that were counted may lie in a chunk that reclaiming has taken.
fn a_reservation_is_complete(mutation: Option<Mutation>) -> bool {
    let mut complete = false;
    on_cpu_with(config(), limit(2), |system| {
        system.set_mutation(mutation);
        let space = system.create().unwrap();
        let (frame, _) = data(system);
        fill(&space, 0, 2 * CHUNK, frame, EnterFlags::empty());
        // Free entries in the oldest chunk, which is the first one that reclaiming finds.
        space.remove(pages(0, 68));
        space.reserve(200).unwrap();
        let before = system.statistics().pv_reclaims;
        fill(&space, 400, 600, frame, EnterFlags::empty());
        complete = system.statistics().pv_reclaims == before;
        space.destroy().unwrap();
        system.machine().free_data_frame(frame);
    });
    complete
}

#[test]
fn a_reservation_counts_again_after_reclaiming() {
    assert!(a_reservation_is_complete(None));
}

#[test]
fn a_reservation_that_does_not_count_again_is_noticed() {
    assert!(!a_reservation_is_complete(Some(Mutation::NoRecount)));
}

#[test]
fn a_reservation_that_cannot_be_had_says_so_and_goes_back() {
    on_cpu_with(config(), limit(3), |system| {
        let (space, other) = (system.create().unwrap(), system.create().unwrap());
        let (frame, _) = data(system);
        fill(&other, 0, 1, frame, EnterFlags::WIRED);
        assert_eq!(space.reserve(3 * CHUNK as usize), Err(Shortage));
        assert_eq!(system.statistics().pv_chunks, 3);
        // Who needs entries finds those that are reserved and unused.
        fill(&other, 1, 1 + 2 * CHUNK, frame, EnterFlags::WIRED);
        assert_eq!(system.statistics().pv_chunks, 3);
        space.destroy().unwrap();
        other.destroy().unwrap();
        assert_eq!(system.statistics().pv_chunks, 0);
        system.machine().free_data_frame(frame);
    });
}

/// H-68 and H-69: several CPUs, each with an address space of its own, all short of entries at the same time. They walk
/// the same list, skip each other's markers, and want each other's locks. It ends, and nothing is lost.
#[test]
fn reclaimers_meet_and_all_go_on() {
    each(seeds(0..18), |seed| {
        let cpus = 2 + seed as usize % 3;
        let system = system_with(deterministic(cpus, 512, seed), limit(2));
        let machine = system.machine();
        machine
            .run_cpus(|id| {
                system.start_cpu();
                let space = system.create().unwrap();
                let (frame, _) = data(&system);
                space.activate();
                for page in 0..300 {
                    // There is always something that can be taken from somebody.
                    let entered = enter(&space, page, frame, EnterFlags::empty());
                    assert_eq!(entered, Ok(()), "seed {seed}, {id:?}, page {page}");
                    let _ = machine.write(va(page), page);
                }
                system.activate_kernel();
                space.destroy().unwrap();
                machine.free_data_frame(frame);
                system.stop_cpu();
            })
            .unwrap();
        let statistics = system.statistics();
        assert!(statistics.pv_reclaims > 0, "seed {seed}: nobody was short of entries");
        assert_eq!((statistics.pv_entries, statistics.pv_chunks), (0, 0));
        machine.run_cpu(cpu(0), || assert_clean(&system));
    });
}

/// Chunks stand on the list of their own memory domain, and who is short looks in the nearest one first.
#[test]
fn the_nearest_memory_domain_is_searched_first() {
    let system = system_with(Config { cpus: 4, domains: 2, ..config() }, limit(2));
    let machine = system.machine();
    let on = |index, f: &dyn Fn()| {
        machine.run_cpu(cpu(index), || {
            system.start_cpu();
            f();
            system.stop_cpu();
        });
    };
    // CPUs 0 and 1 are near to the first domain, 2 and 3 to the second.
    let spaces = [0, 3, 2].map(|index| machine.run_cpu(cpu(index), || system.create().unwrap()));
    let frames = [0, 3].map(|index| machine.run_cpu(cpu(index), || data(&system).0));
    let [near, far, asking] = &spaces;
    on(0, &|| fill(near, 0, CHUNK, frames[0], EnterFlags::empty()));
    on(3, &|| fill(far, 0, CHUNK, frames[1], EnterFlags::empty()));
    // The older mappings are in the other domain.
    on(2, &|| enter(asking, 0, frames[1], EnterFlags::empty()).unwrap());
    assert_eq!((mapped(near, 0, CHUNK), mapped(far, 0, CHUNK)), (CHUNK, 0));
    // If there is nothing in the nearest one, the other one has to do.
    on(2, &|| {
        asking.remove(pages(0, 1));
        fill(asking, 0, CHUNK, frames[1], EnterFlags::WIRED);
        enter(asking, CHUNK, frames[1], EnterFlags::empty()).unwrap();
    });
    assert_eq!((mapped(near, 0, CHUNK), mapped(asking, 0, CHUNK + 1)), (0, CHUNK + 1));
    on(0, &|| assert_clean(&system));
    machine.run_cpu(cpu(0), || {
        spaces.into_iter().for_each(|space| space.destroy().unwrap());
        frames.into_iter().for_each(|frame| machine.free_data_frame(frame));
        assert_eq!(system.statistics().pv_chunks, 0);
    });
}
