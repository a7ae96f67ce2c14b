//! The store on real systems: against a plain map, in every format, under the audit, and when address spaces go.

use std::collections::BTreeMap;
use std::mem::ManuallyDrop;
use std::vec::Vec;

use proptest::prelude::*;
use rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;
use crate::audit::AuditError;
use crate::entry::{ACCESSED, DIRTY, Entry, Ept, EptEmulated, LARGE, PRESENT, PROMOTED, Rvi, USER, WRITABLE};
use crate::mutation::Mutation;
use crate::protection::{Access, EnterFlags, Protection};
use crate::sim::{Adversary, Config, SimMachine};
use crate::{CpuId, Pmap, SUPERPAGE_SIZE, VirtRange};

type Sys = System<SimMachine>;

const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// Runs `f` on the only CPU of a system with that many frames; the caller judges.
fn on_system<R>(frames: u64, f: impl FnOnce(&Sys) -> R) -> R {
    let config = Config { cpus: 1, frames, adversary: Adversary::tame(), ..Config::default() };
    let system = System::new(SimMachine::new(config).unwrap()).unwrap();
    system.machine().run_cpu(CpuId::new(0).unwrap(), || {
        system.start_cpu();
        f(&system)
    })
}

fn complaints(system: &Sys) -> Vec<AuditError> {
    let mut errors = Vec::new();
    system.audit(|error| errors.push(error));
    errors
}

fn is_clean(system: &Sys) -> bool {
    let report = system.machine().report();
    complaints(system).is_empty() && (report.forbidden_entries, report.stale_accesses) == (0, 0)
}

fn address(directory: u64, index: u64) -> VirtAddr {
    VirtAddr((directory << 30) | (index << 21))
}

fn directory_of(system: &Sys, space: &Pmap<'_, SimMachine>, va: VirtAddr) -> Frame {
    let above = system.slot(space.root(), va.index(4)).load().frame();
    system.slot(above, va.index(3)).load().frame()
}

/// Index that no test uses otherwise: an ordinary mapping there keeps the directory in use.
const KEEPER: u64 = 511;

/// An address space with directories in use, of which only the last region is mapped.
fn space_with(system: &Sys, directories: u64) -> Pmap<'_, SimMachine> {
    let space = system.create().unwrap();
    let page = system.machine().allocate_data_frame(true).unwrap();
    for directory in 0..directories {
        let va = address(directory, KEEPER);
        space.enter(va, page, READ_WRITE, Access::Read, EnterFlags::empty()).unwrap();
    }
    space
}

/// A leaf table of the region of `va` that has been displaced: no entry names it.
fn displaced<F: Format>(
    system: &Sys,
    space: &Pmap<'_, SimMachine>,
    va: VirtAddr,
    contents: Contents,
) -> Saved {
    let table = system.ensure_leaf_table(space.core(), va).unwrap();
    let directory = directory_of(system, space, va);
    assert_eq!(system.slot(directory, va.index(2)).take().frame(), table);
    system.page(directory).unwrap().drop_table_entry();
    let leaf = |i: u64| {
        let leaf = Entry::<F>::leaf(Frame((va.0 >> 12) + i), READ_WRITE).with(DIRTY | ACCESSED);
        if contents == Contents::Uniform && i == va.0 >> 21 & 511 { leaf.without(ACCESSED) } else { leaf }
    };
    if contents != Contents::Empty {
        (0..512).for_each(|i| system.slot_of::<F>(table, i as usize).create(leaf(i)));
    }
    Saved { table, contents }
}

/// The directory's hold on a table ends: it goes through a gather of its own.
fn free(system: &Sys, space: &Pmap<'_, SimMachine>, va: VirtAddr, table: Frame) {
    space.core().add_resident(-1);
    let mut gather = Gather::new(system, space.core());
    gather.add_table(table, va);
    gather.flush().give_back(system);
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Save(u64, u64, Contents),
    Take(u64, u64),
    Restate(u64, u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let contents = prop::sample::select(&[Contents::Empty, Contents::Uniform, Contents::Accessed]);
    // Few indices with long common prefixes, and all of them.
    let index = || prop_oneof![0..8u64, 252..260u64, 0..KEEPER];
    let step = prop_oneof![
        4 => (0..3u64, index(), contents).prop_map(|(d, i, c)| Step::Save(d, i, c)),
        3 => (0..3u64, index()).prop_map(|(d, i)| Step::Take(d, i)),
        1 => (0..3u64, index()).prop_map(|(d, i)| Step::Restate(d, i)),
    ];
    prop::collection::vec(step, 1..160)
}

/// Plays the steps on a system and on a map; the audit, which reads tables as x86, looks at the end if that is the format.
fn agrees_with_a_map<F: Format>(steps: &[Step]) {
    on_system(256, |system| {
        let before = (system.statistics().pt_pages, system.machine().free_frames());
        let space = space_with(system, 3);
        let core = space.core();
        let mut map: BTreeMap<VirtAddr, Saved> = BTreeMap::new();
        for step in steps {
            let mut state = core.lock();
            let (Step::Save(d, i, _) | Step::Take(d, i) | Step::Restate(d, i)) = *step;
            let va = address(d, i);
            let store = SavedTables::<_, F>::new(system, directory_of(system, &space, va));
            assert_eq!(store.peek(&state, va), map.get(&va).copied());
            match *step {
                Step::Save(_, _, contents) => {
                    if !map.contains_key(&va) {
                        let saved = displaced::<F>(system, &space, va, contents);
                        store.save(&mut state, va, saved);
                        map.insert(va, saved);
                    }
                }
                Step::Take(..) => {
                    let taken = store.take(&mut state, va);
                    assert_eq!(taken, map.remove(&va));
                    if let Some(Saved { table, contents }) = taken {
                        assert_eq!(system.page(table).unwrap().place(), (0, contents.entries()));
                        assert!(store.contents(table).unwrap().bears_out(contents));
                        free(system, &space, va, table);
                    }
                }
                Step::Restate(..) => {
                    // The only change of a claim that leaves it true.
                    let claim = map.get_mut(&va).filter(|saved| saved.contents == Contents::Accessed);
                    if let Some(saved) = claim {
                        saved.contents = Contents::Uniform;
                        assert!(store.restate(&mut state, va, Contents::Uniform));
                    } else if !map.contains_key(&va) {
                        assert!(!store.restate(&mut state, va, Contents::Uniform));
                    }
                }
            }
            assert_eq!(state.saved, map.len() as u64);
        }
        let state = core.lock();
        let mut met = BTreeMap::new();
        for d in 0..3 {
            let base = address(d, 0);
            SavedTables::<_, F>::new(system, directory_of(system, &space, base))
                .for_each(&state, |index, saved| assert!(met.insert(region(base, index), saved).is_none()));
        }
        assert_eq!(met, map);
        drop(state);
        if F::NAME == X86::NAME {
            assert_eq!(complaints(system), []);
        }
        space.destroy().unwrap();
        // All but the page that the keepers mapped.
        let after = (system.statistics().pt_pages, system.machine().free_frames() + 1);
        assert_eq!(after, before);
        assert!(is_clean(system));
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..Default::default() })]

    #[test]
    fn the_store_agrees_with_a_map(steps in steps()) {
        agrees_with_a_map::<X86>(&steps);
        agrees_with_a_map::<Rvi>(&steps);
        agrees_with_a_map::<Ept>(&steps);
        agrees_with_a_map::<EptEmulated>(&steps);
    }
}

fn shuffle(indices: &mut [u64], rng: &mut Xoshiro256PlusPlus) {
    use rand_core::Rng;
    for i in (1..indices.len()).rev() {
        indices.swap(i, (rng.next_u64() % (i as u64 + 1)) as usize);
    }
}

/// All 512 tables of one directory: in order, against it, and at random. That `for_each`, which goes down 10 nodes and no further,
/// meets all shows that no path is longer.
#[test]
fn a_directory_saves_all_its_tables_in_any_order() {
    for order in 0..6u64 {
        on_system(640, |system| {
            let before = system.statistics().pt_pages;
            let space = space_with(system, 1);
            let core = space.core();
            let directory = directory_of(system, &space, VirtAddr(0));
            let mut state = core.lock();
            let store = SavedTables::<_, X86>::new(system, directory);
            // The last region is wanted, too: the directory is held by a count instead of a mapping.
            system.add_table_entry(directory);
            drop(state);
            space.remove(VirtRange::user());
            state = core.lock();
            let mut rng = Xoshiro256PlusPlus::seed_from_u64(order);
            let mut indices: Vec<u64> = (0..512).collect();
            match order {
                0 => {}
                1 => indices.reverse(),
                _ => shuffle(&mut indices, &mut rng),
            }
            let mut map = BTreeMap::new();
            for index in indices.iter().copied() {
                let va = address(0, index);
                let saved = displaced::<X86>(system, &space, va, Contents::Empty);
                store.save(&mut state, va, saved);
                map.insert(index as usize, saved);
            }
            let mut met = BTreeMap::new();
            store.for_each(&state, |index, saved| assert!(met.insert(index, saved).is_none()));
            assert_eq!((met.len(), state.saved), (512, 512));
            assert_eq!(met, map);
            if order > 0 {
                shuffle(&mut indices, &mut rng);
            }
            for index in indices {
                let va = address(0, index);
                let taken = store.take(&mut state, va);
                assert_eq!(taken, map.remove(&(index as usize)));
                free(system, &space, va, taken.unwrap().table);
            }
            assert!(store.peek(&state, VirtAddr(0)).is_none());
            system.page(directory).unwrap().drop_table_entry();
            drop(state);
            // The held directory and the one above it are all that is left; a mapping that comes and goes takes them along.
            let page = system.machine().allocate_data_frame(true).unwrap();
            assert!(space.enter_quick(VirtAddr(0), page, Protection::READ));
            space.destroy().unwrap();
            assert_eq!(system.statistics().pt_pages, before);
            assert!(is_clean(system));
        });
    }
}

/// One saved table of each kind in each of two directories.
fn with_six_saved(f: impl FnOnce(&Sys, &Pmap<'_, SimMachine>)) {
    on_system(128, |system| {
        // Taking it down after a panic would panic again.
        let space = ManuallyDrop::new(space_with(system, 2));
        for va in [(0, 3), (0, 4), (0, 302), (1, 0), (1, 1), (1, 2)].map(|(d, i)| address(d, i)) {
            let contents = match va.index(2) % 3 {
                0 => Contents::Accessed,
                1 => Contents::Uniform,
                _ => Contents::Empty,
            };
            let saved = displaced::<X86>(system, &space, va, contents);
            let mut state = space.core().lock();
            SavedTables::<_, X86>::new(system, directory_of(system, &space, va)).save(&mut state, va, saved);
        }
        assert_eq!(complaints(system), []);
        f(system, &space);
        ManuallyDrop::into_inner(space).destroy().unwrap();
    });
}

fn saved_at(system: &Sys, space: &Pmap<'_, SimMachine>, va: VirtAddr) -> Saved {
    let state = space.core().lock();
    SavedTables::<_, X86>::new(system, directory_of(system, space, va)).peek(&state, va).unwrap()
}

#[test]
fn the_audit_finds_a_claim_that_is_not_true() {
    with_six_saved(|system, space| {
        let (va, table) = (address(0, 3), saved_at(system, space, address(0, 3)).table);
        let claimed = Contents::Accessed;
        let slot = system.slot(table, 77);
        let good = slot.clear(ACCESSED);
        let found = Some(Contents::Uniform);
        assert_eq!(complaints(system), [AuditError::SavedContents { va, table, claimed, found }]);
        let _ = slot.take();
        assert_eq!(complaints(system), [AuditError::SavedContents { va, table, claimed, found: None }]);
        slot.create(good);
        assert_eq!(complaints(system), []);
        // The other way round hardware may do it.
        let table = saved_at(system, space, address(0, 4)).table;
        for index in 0..512 {
            system.slot(table, index).update(|entry| Some(entry.with(ACCESSED)));
        }
        assert_eq!(complaints(system), []);
        let va = address(1, 2);
        let mut state = space.core().lock();
        let store = SavedTables::<_, X86>::new(system, directory_of(system, space, va));
        assert!(store.restate(&mut state, va, Contents::Uniform));
        drop(state);
        let (table, claimed) = (saved_at(system, space, va).table, Contents::Uniform);
        let found = Some(Contents::Empty);
        assert_eq!(complaints(system), [AuditError::SavedContents { va, table, claimed, found }]);
    });
}

#[test]
fn the_audit_finds_a_lost_table_and_a_wrong_count() {
    with_six_saved(|system, space| {
        let core = space.core();
        core.lock().saved += 1;
        let wrong = AuditError::SavedCount { root: core.root(), recorded: 7, counted: 6 };
        assert_eq!(complaints(system), [wrong]);
        core.lock().saved -= 1;
        // The root of the second directory's tree, and so all that hangs below it.
        let record = system.page(directory_of(system, space, address(1, 0))).unwrap();
        let root = record.chain();
        record.set_chain(None);
        let errors = complaints(system);
        let (tables, resident) = (system.statistics().pt_pages, core.resident());
        assert!(errors.contains(&AuditError::SavedCount { root: core.root(), recorded: 6, counted: 3 }));
        assert!(errors.contains(&AuditError::TableTotal { recorded: tables, counted: tables - 3 }));
        let wrong =
            AuditError::ResidentCount { root: core.root(), recorded: resident, counted: resident - 3 };
        assert!(errors.contains(&wrong));
        assert_eq!(errors.len(), 3);
        record.set_chain(root);
        assert_eq!(complaints(system), []);
    });
}

#[test]
fn the_audit_finds_a_table_in_the_wrong_place() {
    with_six_saved(|system, space| {
        let va = address(0, 302);
        let table = saved_at(system, space, va).table;
        let record = system.page(table).unwrap();
        let good = record.place();
        let node = Node::unpack(good).unwrap();
        record.set_place(Node { index: 5, ..node }.pack());
        assert_eq!(complaints(system), [AuditError::SavedMisplaced { va: address(0, 5), table }]);
        record.set_place(good);
        let page = system.machine().allocate_data_frame(true).unwrap();
        space.enter(va, page, READ_WRITE, Access::Read, EnterFlags::empty()).unwrap();
        assert_eq!(complaints(system), [AuditError::SavedBesideTable { va, table }]);
    });
}

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
        let space = system.create().unwrap();
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
        space.destroy().unwrap();
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
        space.destroy().unwrap();
        clean
    })
}

#[test]
fn a_saved_table_is_freed_after_the_flush() {
    assert!(saved_table_in_a_structure_cache(None));
    assert!(!saved_table_in_a_structure_cache(Some(Mutation::FreeBeforeFlush)));
}

/// What becomes a chunk of PV entries must be zeroes, and a saved table is not.
#[test]
fn a_saved_table_is_cleared_for_another_use() {
    with_six_saved(|system, space| {
        for va in [address(0, 3), address(0, 302)] {
            let mut state = space.core().lock();
            let directory = directory_of(system, space, va);
            let saved = SavedTables::<_, X86>::new(system, directory).take(&mut state, va).unwrap();
            space.core().add_resident(-1);
            let mut gather = Gather::new(system, space.core());
            gather.add_table(saved.table, va);
            let mut freed = gather.flush();
            let frame = freed.take_one(system).unwrap();
            assert!(frame == saved.table && freed.is_empty());
            let is_zero = |index| system.slot(frame, index).load().word() == 0;
            assert!((0..512).all(is_zero));
            // SAFETY: allocated as a page table, flushed, and out of the gather.
            unsafe { system.free_frame(frame, crate::FrameUse::PageTable) };
        }
        assert_eq!(complaints(system), []);
    });
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "for what it is")]
fn a_table_is_not_saved_for_what_it_is_not() {
    with_six_saved(|system, space| {
        let va = address(0, 9);
        let Saved { table, .. } = displaced::<X86>(system, space, va, Contents::Uniform);
        assert!(system.slot(table, 9).load().has(PRESENT | WRITABLE));
        let mut state = space.core().lock();
        let store = SavedTables::<_, X86>::new(system, directory_of(system, space, va));
        store.save(&mut state, va, Saved { table, contents: Contents::Accessed });
    });
}
