//! The pmap against a plain model: random operations on several address spaces, one CPU that switches
//! between them, an adversarial TLB, the audit after every step.

mod support;

use std::collections::BTreeMap;

use gencount::Implementation;
use pmap::sim::{Adversary, Config, SimMachine};
use pmap::{Access, EnterFlags, Frame, Options, Pmap, Protection, PvLocking, System, VirtAddr, VirtRange};
use proptest::prelude::*;

use support::{assert_clean, cpu};

const SPACES: usize = 3;
const PAGES: usize = 6;

/// Addresses that share tables at every level: neighbours, other leaf tables, other upper tables.
const PLACES: [u64; 9] = [
    0x1000,
    0x2000,
    0x1f_f000,
    0x20_0000,
    0x3fff_f000,
    0x4000_0000,
    0x7f_ffff_f000,
    0x80_0000_0000,
    0x7fff_ffff_e000,
];

#[derive(Clone, Copy, Debug)]
struct Place(usize);

impl Place {
    fn va(self) -> VirtAddr {
        VirtAddr(PLACES[self.0])
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Enter {
        space: usize,
        place: Place,
        page: usize,
        prot: u8,
        write: bool,
        wired: bool,
    },
    /// Many mappings of one page, so that a space has several PV chunks.
    Fill {
        space: usize,
        page: usize,
        count: u64,
    },
    EnterQuick {
        space: usize,
        place: Place,
        page: usize,
        prot: u8,
    },
    Remove {
        space: usize,
        from: Place,
        to: Place,
    },
    Protect {
        space: usize,
        from: Place,
        to: Place,
        prot: u8,
    },
    Unwire {
        space: usize,
        place: Place,
    },
    RemovePages {
        space: usize,
    },
    Copy {
        to: usize,
        from: usize,
    },
    RemoveAll {
        page: usize,
    },
    RemoveWrite {
        page: usize,
    },
    ClearModify {
        page: usize,
    },
    Age {
        page: usize,
    },
    Touch {
        space: usize,
        place: Place,
        access: u8,
    },
    Recreate {
        space: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let space = || 0..SPACES;
    let place = || (0..PLACES.len()).prop_map(Place);
    let page = || 0..PAGES;
    let prot = || (0u8..8).prop_map(|p| p | 1);
    prop_oneof![
        6 => (space(), place(), page(), prot(), any::<bool>(), prop::bool::weighted(0.2)).prop_map(
            |(space, place, page, prot, write, wired)| Op::Enter { space, place, page, prot, write, wired }),
        1 => (space(), page(), 1..400u64).prop_map(|(space, page, count)| Op::Fill { space, page, count }),
        2 => (space(), place(), page(), prot())
            .prop_map(|(space, place, page, prot)| Op::EnterQuick { space, place, page, prot }),
        2 => (space(), place(), place()).prop_map(|(space, from, to)| Op::Remove { space, from, to }),
        2 => (space(), place(), place(), 0u8..8)
            .prop_map(|(space, from, to, prot)| Op::Protect { space, from, to, prot }),
        1 => (space(), place()).prop_map(|(space, place)| Op::Unwire { space, place }),
        1 => space().prop_map(|space| Op::RemovePages { space }),
        1 => (space(), space()).prop_map(|(to, from)| Op::Copy { to, from }),
        1 => page().prop_map(|page| Op::RemoveAll { page }),
        1 => page().prop_map(|page| Op::RemoveWrite { page }),
        1 => page().prop_map(|page| Op::ClearModify { page }),
        1 => page().prop_map(|page| Op::Age { page }),
        6 => (space(), place(), 0u8..3).prop_map(|(space, place, access)| Op::Touch { space, place, access }),
        1 => space().prop_map(|space| Op::Recreate { space }),
    ]
}

/// What a mapping is, as plainly as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Mapping {
    page: usize,
    prot: Protection,
    wired: bool,
    dirty: bool,
    /// Known to be accessed; speculation may set the bit in the entry without us.
    accessed: bool,
}

#[derive(Default)]
struct Model {
    spaces: [BTreeMap<u64, Mapping>; SPACES],
    /// The pages' own dirty marks.
    dirty: [bool; PAGES],
}

impl Model {
    fn forget(&mut self, mapping: Mapping) {
        self.dirty[mapping.page] |= mapping.dirty;
    }

    fn remove(&mut self, space: usize, range: VirtRange, keep: impl Fn(&Mapping) -> bool) {
        let gone: Vec<u64> = self.spaces[space]
            .iter()
            .filter(|(va, m)| range.contains(VirtAddr(**va)) && !keep(m))
            .map(|(va, _)| *va)
            .collect();
        for va in gone {
            let mapping = self.spaces[space].remove(&va).expect("just seen");
            self.forget(mapping);
        }
    }

    fn each(&mut self, page: usize, mut f: impl FnMut(&mut Mapping)) {
        self.spaces.iter_mut().flat_map(|s| s.values_mut()).filter(|m| m.page == page).for_each(&mut f);
    }

    fn restrict(&mut self, space: usize, range: VirtRange, prot: Protection) {
        for (va, m) in &mut self.spaces[space] {
            if range.contains(VirtAddr(*va)) {
                if !prot.contains(Protection::WRITE) {
                    self.dirty[m.page] |= m.dirty;
                    m.dirty = false;
                }
                m.prot &= prot;
            }
        }
    }
}

struct Run<'s> {
    system: &'s System<SimMachine>,
    spaces: [Option<Pmap<'s, SimMachine>>; SPACES],
    frames: [Frame; PAGES],
    model: Model,
}

fn range(from: Place, to: Place) -> VirtRange {
    let (low, high) = (from.va().min(to.va()), from.va().max(to.va()));
    VirtRange::new(low, high.wrapping_add(0x1000)).expect("page aligned and in order")
}

impl<'s> Run<'s> {
    fn space(&self, index: usize) -> &Pmap<'s, SimMachine> {
        self.spaces[index].as_ref().expect("always there")
    }

    fn record(&self, page: usize) -> &'s pmap::PageRecord {
        self.system.page(self.frames[page]).expect("managed memory")
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Enter { space, place, page, prot, write, wired } => {
                let mut prot = Protection::from_bits_truncate(prot);
                if write {
                    prot |= Protection::WRITE;
                }
                let access = if write { Access::Write } else { Access::Read };
                let flags = if wired { EnterFlags::WIRED } else { EnterFlags::empty() };
                self.space(space).enter(place.va(), self.frames[page], prot, access, flags).expect("memory");
                let mut new = Mapping { page, prot, wired, dirty: write, accessed: true };
                if let Some(old) = self.model.spaces[space].get(&place.va().0).copied() {
                    if (old.page, old.prot, old.wired) == (page, prot, wired) {
                        // Nothing but hardware's own bits would change, so nothing is stored.
                        new.dirty = old.dirty;
                        new.accessed = old.accessed;
                    } else if old.page != page || !write {
                        self.model.forget(old);
                    }
                }
                self.model.spaces[space].insert(place.va().0, new);
            }
            Op::Fill { space, page, count } => {
                let prot = Protection::READ;
                let start = VirtAddr(0x5000_0000);
                let range = VirtRange::new(start, start.wrapping_add(count << 12)).expect("aligned");
                self.space(space).enter_object(range, prot, |_| Some(self.frames[page]));
                for va in range.iter() {
                    let new = Mapping { page, prot, wired: false, dirty: false, accessed: false };
                    self.model.spaces[space].entry(va.0).or_insert(new);
                }
            }
            Op::EnterQuick { space, place, page, prot } => {
                let prot = Protection::from_bits_truncate(prot);
                let done = self.space(space).enter_quick(place.va(), self.frames[page], prot);
                let free = !self.model.spaces[space].contains_key(&place.va().0);
                assert_eq!(done, free, "a speculative mapping goes where nothing is");
                if done {
                    let prot = prot & !Protection::WRITE;
                    let new = Mapping { page, prot, wired: false, dirty: false, accessed: false };
                    self.model.spaces[space].insert(place.va().0, new);
                }
            }
            Op::Remove { space, from, to } => {
                self.space(space).remove(range(from, to));
                self.model.remove(space, range(from, to), |_| false);
            }
            Op::Protect { space, from, to, prot } => {
                let prot = Protection::from_bits_truncate(prot);
                self.space(space).protect(range(from, to), prot);
                if prot.contains(Protection::READ) {
                    self.model.restrict(space, range(from, to), prot);
                } else {
                    self.model.remove(space, range(from, to), |_| false);
                }
            }
            Op::Unwire { space, place } => {
                let result = self.space(space).unwire(VirtRange::page_of(place.va()));
                match self.model.spaces[space].get_mut(&place.va().0) {
                    Some(m) => assert_eq!(result.is_ok(), std::mem::take(&mut m.wired)),
                    None => assert!(result.is_ok(), "nothing mapped, nothing to complain about"),
                }
            }
            Op::RemovePages { space } => {
                assert!(self.space(space).is_current() || self.space(space).remove_pages().is_err());
                self.space(space).activate();
                self.space(space).remove_pages().expect("current here and nowhere else");
                self.model.remove(space, VirtRange::user(), |m| m.wired);
            }
            Op::Copy { to, from } => {
                let made = self.space(to).copy_from(self.space(from), VirtRange::user());
                let mut expected = 0;
                if to != from {
                    for (va, m) in self.model.spaces[from].clone() {
                        self.model.spaces[to].entry(va).or_insert_with(|| {
                            expected += 1;
                            Mapping { wired: false, dirty: false, accessed: false, ..m }
                        });
                    }
                }
                assert_eq!(made, expected);
            }
            Op::RemoveAll { page } => {
                self.system.remove_all(self.record(page));
                for space in 0..SPACES {
                    self.model.remove(space, VirtRange::user(), |m| m.page != page);
                }
                assert!(!self.record(page).is_writeable());
            }
            Op::RemoveWrite { page } => {
                self.system.remove_write(self.record(page));
                let mut dirty = false;
                self.model.each(page, |m| {
                    dirty |= m.dirty;
                    m.dirty = false;
                    m.prot -= Protection::WRITE;
                });
                self.model.dirty[page] |= dirty;
                assert!(!self.record(page).is_writeable());
            }
            Op::ClearModify { page } => {
                self.system.clear_modify(self.record(page));
                self.model.each(page, |m| m.dirty = false);
            }
            Op::Age { page } => {
                let found = self.system.ts_referenced(self.record(page));
                let (mut mapped, mut known, mut dirty) = (0, 0, false);
                self.model.each(page, |m| {
                    mapped += 1;
                    known += u32::from(m.accessed);
                    dirty |= m.dirty;
                    m.accessed = false;
                });
                assert!(found >= known.min(5) && found <= mapped.min(5), "{known} <= {found} <= {mapped}");
                // It looks at no more mappings than it needs to find five.
                if mapped <= 5 {
                    self.model.dirty[page] |= dirty;
                } else {
                    self.model.dirty[page] = self.record(page).is_dirty();
                }
            }
            Op::Touch { space, place, access } => self.touch(space, place, access),
            Op::Recreate { space } => {
                self.system.activate_kernel();
                let old = self.spaces[space].take().expect("always there");
                old.destroy().expect("active nowhere");
                self.model.remove(space, VirtRange::user(), |_| false);
                self.spaces[space] = Some(self.system.create().expect("memory"));
            }
        }
    }

    /// A user access through the TLB: it must fault exactly where the model says.
    fn touch(&mut self, space: usize, place: Place, access: u8) {
        self.space(space).activate();
        let machine = self.system.machine();
        let (needs, fault) = match access {
            0 => (Protection::READ, machine.read(place.va()).is_err()),
            1 => (Protection::WRITE, machine.write(place.va(), PLACES[place.0]).is_err()),
            _ => (Protection::EXECUTE, machine.fetch(place.va()).is_err()),
        };
        let mapping = self.model.spaces[space].get_mut(&place.va().0);
        let permitted = mapping.as_ref().is_some_and(|m| m.prot.contains(needs));
        assert_eq!(!fault, permitted, "{place:?} in space {space}, {needs:?}: {mapping:?}");
        if let Some(m) = mapping.filter(|_| permitted) {
            // Every cached translation had its bit set, and `ts_referenced` flushes when it clears it.
            m.accessed = true;
            m.dirty |= needs == Protection::WRITE;
        }
    }

    fn compare(&self) {
        for (index, model) in self.model.spaces.iter().enumerate() {
            for va in PLACES {
                let expected = model.get(&va);
                let at = VirtAddr(va + 0x10);
                let found = self.space(index).extract(at).map(|pa| (pa.frame(), pa.0 & 0xfff));
                assert_eq!(found, expected.map(|m| (self.frames[m.page], 0x10)));
                assert_eq!(self.space(index).protection(at), expected.map(|m| m.prot));
                let held = self.space(index).extract_and_hold(at, Protection::WRITE);
                let writable = expected.filter(|m| m.prot.contains(Protection::WRITE));
                assert_eq!(held, writable.map(|m| self.frames[m.page]));
                if let Some(m) = writable {
                    assert_eq!(self.record(m.page).wire_count(), 1);
                    assert!(self.system.unhold(self.record(m.page)));
                }
            }
            assert_eq!(self.space(index).wired_count(), model.values().filter(|m| m.wired).count() as u64);
        }
        for page in 0..PAGES {
            let of_page = || self.model.spaces.iter().flat_map(|s| s.values()).filter(|m| m.page == page);
            let record = self.record(page);
            assert_eq!(self.system.page_is_mapped(record), of_page().count() > 0);
            assert_eq!(self.system.is_modified(record), of_page().any(|m| m.dirty), "page {page}");
            assert_eq!(record.is_dirty(), self.model.dirty[page], "page {page}");
            assert!(self.system.is_referenced(record) || !of_page().any(|m| m.accessed), "page {page}");
            assert_eq!(self.system.page_wired_mappings(record), of_page().filter(|m| m.wired).count() as u64);
        }
    }
}

fn run(ops: &[Op], seed: u64, di: Implementation, options: Options) {
    let config =
        Config { cpus: 1, frames: 320, seed, di, adversary: Adversary::fierce(), ..Config::default() };
    let machine = SimMachine::new(config).expect("a machine");
    let system = System::with_options(machine, options).expect("a system");
    system.machine().run_cpu(cpu(0), || {
        system.start_cpu();
        let before = system.statistics();
        let frame = || system.machine().allocate_data_frame(true).expect("a frame");
        let mut run = Run {
            system: &system,
            spaces: std::array::from_fn(|_| Some(system.create().expect("a space"))),
            frames: std::array::from_fn(|_| frame()),
            model: Model::default(),
        };
        for op in ops {
            run.apply(*op);
            run.compare();
            assert_clean(&system);
        }
        system.activate_kernel();
        for space in run.spaces {
            space.expect("always there").destroy().expect("active nowhere");
        }
        for frame in run.frames {
            system.machine().free_data_frame(frame);
        }
        assert_clean(&system);
        let after = system.statistics();
        assert_eq!(
            (after.pv_entries, after.pv_chunks, after.pt_pages),
            (before.pv_entries, before.pv_chunks, before.pt_pages),
            "all memory came back"
        );
        system.stop_cpu();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn the_pmap_agrees_with_the_model(
        ops in prop::collection::vec(op(), 1..60),
        seed in any::<u64>(),
        per_run in any::<bool>(),
        di in prop::sample::select(&Implementation::ALL),
    ) {
        let pv_locking = if per_run { PvLocking::PerRun } else { PvLocking::Hashed };
        run(&ops, seed, di, Options { pv_locking });
    }
}
