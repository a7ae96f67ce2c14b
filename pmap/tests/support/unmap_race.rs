//! The scene that delayed invalidation is about, on four CPUs: one maps and unmaps ranges of an address space,
//! one runs user code in it, one takes pages away, write-protecting some before, and reuses each at once, and
//! one unmaps what the first has mapped, or takes it away because it needs the PV entries.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gencount::Implementation;
use pmap::sim::{Config, Report, SimMachine};
use pmap::{Access, EnterFlags, Frame, Options, Protection, System, VirtAddr, VirtRange};

use crate::support::replay::Settings;
use crate::support::{cpu, deterministic, system_with};

const PAGES: usize = 6;
const BASE: u64 = 0x7000_0000;

fn va(page: usize) -> VirtAddr {
    VirtAddr(BASE + page as u64 * 0x1000)
}

/// Frames by page; 0 is none. Whoever takes a frame out of its place frees it.
struct Pages([AtomicU64; PAGES]);

impl Pages {
    fn take(&self, page: usize) -> Option<Frame> {
        let frame = self.0[page].swap(0, Ordering::AcqRel);
        (frame != 0).then_some(Frame(frame))
    }
}

/// What the fourth CPU does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rival {
    /// It unmaps the range.
    Unmaps,
    /// It maps pages in an address space of its own, with one chunk of PV entries for both.
    Reclaims,
}

/// These seeds with each implementation of delayed invalidation, and the settings that say so.
pub(crate) fn races(
    seeds: impl IntoIterator<Item = u64> + Clone,
) -> impl Iterator<Item = (Settings, (u64, Implementation))> {
    Implementation::ALL.into_iter().flat_map(move |di| {
        let settings = move |seed: u64| vec![("PMAP_DI", di.to_string()), ("PMAP_SEED", seed.to_string())];
        seeds.clone().into_iter().map(move |seed| (settings(seed), (seed, di)))
    })
}

/// Plays up to `rounds` of the scene, and no further than to the first thing that must not be; returns what the
/// machine saw. `prepare` gets the system first.
pub(crate) fn play(
    seed: u64,
    di: Implementation,
    rounds: u64,
    rival: Rival,
    prepare: impl FnOnce(&System<SimMachine>),
) -> Report {
    let pv_chunk_limit = (rival == Rival::Reclaims).then_some(1);
    let options = Options { pv_chunk_limit, ..Options::default() };
    let system = system_with(Config { di, ..deterministic(4, 256, seed) }, options);
    prepare(&system);
    let (space, other) = system.machine().run_cpu(cpu(0), || {
        system.start_cpu();
        (system.create().expect("memory"), system.create().expect("memory"))
    });
    let pages = Pages(std::array::from_fn(|_| AtomicU64::new(0)));
    let over = AtomicBool::new(false);
    let machine = system.machine();
    let range = VirtRange::new(va(0), va(PAGES)).expect("aligned");
    let read_write = Protection::READ | Protection::WRITE;

    let unmapper = || {
        space.activate();
        for _ in 0..rounds {
            if !machine.report().is_clean() {
                break;
            }
            for page in 0..PAGES {
                let Some(frame) = machine.allocate_data_frame(true) else { continue };
                if space.enter(va(page), frame, read_write, Access::Write, EnterFlags::empty()).is_err() {
                    assert_eq!(rival, Rival::Reclaims, "memory");
                    machine.free_data_frame(frame);
                    continue;
                }
                pages.0[page].store(frame.0, Ordering::Release);
            }
            for page in 0..PAGES {
                let _ = machine.write(va(page), page as u64);
            }
            space.remove(range);
            (0..PAGES).filter_map(|page| pages.take(page)).for_each(|frame| machine.free_data_frame(frame));
        }
        over.store(true, Ordering::Release);
    };
    let user = || {
        space.activate();
        while !over.load(Ordering::Acquire) {
            for page in 0..PAGES {
                let _ = machine.write(va(page), !0);
                let _ = machine.read(va(page));
            }
        }
    };
    let thief = || {
        let mut page = 0;
        while !over.load(Ordering::Acquire) {
            page = (page + 1) % PAGES;
            if let Some(frame) = pages.take(page) {
                let record = system.page(frame).expect("managed memory");
                if page % 2 == 0 {
                    system.remove_write(record);
                    assert!(!system.is_modified(record), "nobody can store any more");
                    system.clear_modify(record);
                    system.ts_referenced(record);
                }
                system.remove_all(record);
                machine.free_data_frame(frame);
            } else {
                pmap::Machine::relax(machine);
            }
        }
    };
    let unmaps = || {
        while !over.load(Ordering::Acquire) {
            space.protect(range, Protection::READ);
            space.remove(range);
            pmap::Machine::relax(machine);
        }
    };
    let reclaims = || {
        let frame = machine.allocate_data_frame(true).expect("memory");
        while !over.load(Ordering::Acquire) {
            // Refused if the other one holds its lock and the only chunk.
            let _ = other.enter(va(0), frame, read_write, Access::Read, EnterFlags::empty());
            pmap::Machine::relax(machine);
        }
        other.remove(range);
        machine.free_data_frame(frame);
    };
    let scene = |id: pmap::CpuId| {
        system.start_cpu();
        match id.index() {
            0 => unmapper(),
            1 => user(),
            2 if rival == Rival::Unmaps => unmaps(),
            2 => reclaims(),
            _ => thief(),
        }
        system.stop_cpu();
    };
    machine.run_cpus(scene).expect("all CPUs are free");
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        space.destroy().expect("active nowhere");
        other.destroy().expect("active nowhere");
        let mut errors = Vec::new();
        system.audit(|error| errors.push(error.to_string()));
        assert!(errors.is_empty(), "{errors:?}");
    });
    machine.report()
}
