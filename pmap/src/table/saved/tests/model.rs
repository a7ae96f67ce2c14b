//! The store against a plain map.

use std::collections::BTreeMap;

use proptest::prelude::*;
use rand_core::SeedableRng;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::*;
use crate::VirtRange;
use crate::entry::{Ept, EptEmulated, Rvi};

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
                    map.entry(va).or_insert_with(|| {
                        let saved = displaced::<F>(system, &space, va, contents);
                        store.save(&mut state, va, saved);
                        saved
                    });
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
        destroy(space);
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
            destroy(space);
            assert_eq!(system.statistics().pt_pages, before);
            assert!(is_clean(system));
        });
    }
}
