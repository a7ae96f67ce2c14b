//! Everything that may fail, failing: each allocation of a frame and each attempt to lock, the first, the second, and so
//! on until a scene does not reach the next one; alone, and with all after it. The structure is right afterwards, no TLB
//! holds what it should not, and nothing is lost.

mod support;
#[path = "support/unmap_race.rs"]
mod unmap_race;

use gencount::Implementation;
use pmap::sim::{Config, Fallible, SimMachine};
use pmap::{
    Access, Advice, EnterError, EnterFlags, Frame, Options, PageRecord, Pmap, Protection, Shortage, System,
    SystemError, VirtAddr, VirtRange,
};
use support::{READ_WRITE, assert_clean, cpu, small, system_with};
use unmap_race::Rival;

type Space<'s> = Pmap<'s, SimMachine>;

const VA: VirtAddr = VirtAddr(0x40_0000);
/// A page in tables of its own on every level.
const FAR: VirtAddr = VirtAddr(0x7fff_0000_0000);
const CHUNK: u64 = 168;

fn run(from: VirtAddr, pages: u64) -> VirtRange {
    VirtRange::new(from, from.wrapping_add(pages << 12)).expect("aligned")
}

/// What a scene finds: three address spaces, the first one current, in which two managed pages are mapped; and a page
/// that is not managed.
struct Stage<'a> {
    system: &'a System<SimMachine>,
    spaces: [&'a Space<'a>; 3],
    page: &'a PageRecord,
    plain: Frame,
}

impl Stage<'_> {
    fn enter(&self, space: usize, va: VirtAddr, frame: Frame) -> bool {
        self.enter_with(space, va, frame, EnterFlags::empty())
    }

    fn enter_with(&self, space: usize, va: VirtAddr, frame: Frame, flags: EnterFlags) -> bool {
        let before = self.spaces[space].extract(va);
        match self.spaces[space].enter(va, frame, READ_WRITE, Access::Write, flags) {
            Ok(()) => true,
            Err(EnterError::Shortage) => {
                assert_eq!(self.spaces[space].extract(va), before, "a refusal changes nothing");
                false
            }
            Err(other) => panic!("{other}"),
        }
    }
}

/// More wired mappings than fit a chunk: PV entries must come from elsewhere.
fn enter_many(s: &Stage<'_>, space: usize) {
    for va in run(VirtAddr(0x3ff0_0000), CHUNK + 9).iter() {
        let done = s.enter_with(space, va, s.page.frame(), EnterFlags::WIRED);
        assert_eq!(s.spaces[space].extract(va).is_some(), done);
    }
}

/// A name, and what is played.
type Scene = (&'static str, fn(&Stage<'_>));

const SCENES: &[Scene] = &[
    ("create", |s| {
        if let Ok(space) = s.system.create() {
            let _ = space.enter(FAR, s.page.frame(), READ_WRITE, Access::Read, EnterFlags::WIRED);
            space.destroy().expect("active nowhere");
        }
    }),
    ("enter where nothing is", |s| {
        let done = s.enter(0, FAR, s.page.frame());
        assert_eq!(s.system.machine().write(FAR, 1).is_ok(), done);
    }),
    ("enter over an unmanaged page", |s| {
        if s.enter(1, FAR, s.plain) {
            let done = s.enter(1, FAR, s.page.frame());
            assert!(s.spaces[1].extract(FAR).is_some_and(|pa| (pa.frame() == s.plain) != done));
        }
    }),
    ("enter over a managed page", |s| {
        assert!(s.enter(0, VA, s.plain), "needs nothing");
        s.enter(0, VA, s.page.frame());
    }),
    ("enter_object over several tables and chunks", |s| {
        let range = run(VirtAddr(0x3ff0_0000), 600);
        let made = s.spaces[2].enter_object(range, Protection::READ, |_| Some(s.page.frame()));
        let found = range.iter().filter(|va| s.spaces[2].extract(*va).is_some()).count();
        assert_eq!(found as u64, made);
    }),
    ("enter of so many that PV entries are reclaimed, by the last space", |s| enter_many(s, 2)),
    // Its lock comes last in lock order: those of whom it takes PV entries can only be tried.
    ("enter of so many, by the first space", |s| enter_many(s, 0)),
    ("copy_from", |s| {
        s.spaces[2].copy_from(s.spaces[0], VirtRange::user());
    }),
    ("reserve", |s| {
        let result = s.spaces[1].reserve(2 * CHUNK as usize);
        assert!(matches!(result, Ok(()) | Err(Shortage)));
    }),
    ("remove_all", |s| {
        s.system.remove_all(s.page);
        assert!(!s.system.page_is_mapped(s.page) && s.page.is_dirty());
    }),
    ("remove_write", |s| {
        s.system.remove_write(s.page);
        assert!(!s.system.is_modified(s.page) && s.page.is_dirty());
        assert!(s.system.machine().write(VA, 3).is_err());
    }),
    ("aging", |s| {
        assert!(s.system.is_modified(s.page) && s.system.is_referenced(s.page));
        assert_eq!(s.system.page_wired_mappings(s.page), 1);
        assert!(s.system.ts_referenced(s.page) > 0);
        s.system.clear_modify(s.page);
        assert!(!s.system.is_modified(s.page));
    }),
    ("what needs nothing", |s| {
        s.spaces[0].advise(VirtRange::user(), Advice::DontNeed);
        s.spaces[0].protect(VirtRange::user(), Protection::READ);
        s.spaces[0].remove_pages().expect("current here only");
        s.spaces[1].remove(VirtRange::user());
        assert!(s.spaces[1].extract(VA).is_none());
    }),
];

/// Plays a scene once, with the `nth` attempt failing; returns how many have failed.
fn play(scene: &Scene, chunks: Option<u64>, what: Fallible, nth: u64, stays: bool) -> u64 {
    let name = format!("{}, {what:?} {nth} fails, stays: {stays}, chunks: {chunks:?}", scene.0);
    let options = Options { pv_chunk_limit: chunks, ..Options::default() };
    let system = system_with(Config { cpus: 1, frames: 200, ..small() }, options);
    let machine = system.machine();
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        let before = system.statistics();
        let spaces = [(); 3].map(|()| system.create().expect("memory"));
        let [frame, other, plain] = [(); 3].map(|()| machine.allocate_data_frame(true).expect("memory"));
        system.set_unmanaged(system.page(plain).expect("a record"), true).expect("not mapped");
        let page = system.page(frame).expect("a record");
        let stage = Stage { system: &system, spaces: spaces.each_ref(), page, plain };
        spaces[0].activate();
        for (space, index) in spaces.iter().zip(0..) {
            assert!(stage.enter(index, VA, frame) && stage.enter(index, VA.wrapping_add(0x1000), other));
            let flags = if index == 2 { EnterFlags::WIRED } else { EnterFlags::empty() };
            space.enter(VA.wrapping_add(0x5000), frame, READ_WRITE, Access::Read, flags).expect("memory");
        }
        assert!(stage.enter(0, VirtAddr(0x1234_0000_0000), other), "what copy_from needs tables for");
        machine.write(VA, 1).expect("mapped");
        machine.fail(what, nth, stays);
        scene.1(&stage);
        let failed = machine.fail(what, 0, false);
        let mut errors = Vec::new();
        system.audit(|error| errors.push(error.to_string()));
        assert!(errors.is_empty(), "{name}: {errors:?}");
        system.activate_kernel();
        for space in spaces {
            space.destroy().unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        [frame, other, plain].into_iter().for_each(|frame| machine.free_data_frame(frame));
        assert_clean(&system);
        let after = system.statistics();
        let held = |s: &pmap::Statistics| (s.pv_entries, s.pv_chunks, s.pt_pages);
        assert_eq!(held(&after), held(&before), "{name}: all memory came back");
        system.stop_cpu();
        failed
    })
}

/// How many attempts of this kind can fail in the scene.
fn enumerate(scene: &Scene, chunks: Option<u64>, what: Fallible, stays: bool) -> u64 {
    (1..).find(|nth| play(scene, chunks, what, *nth, stays) == 0).unwrap_or(u64::MAX) - 1
}

#[test]
fn every_single_failure_is_survived_in_every_scene() {
    for what in Fallible::ALL {
        let mut total = 0;
        for scene in SCENES {
            // With as many chunks as there may be, and with no more than there are.
            for chunks in [None, Some(3)] {
                let alone = enumerate(scene, chunks, what, false);
                let with_all_after = enumerate(scene, chunks, what, true);
                println!(
                    "{what:?}, {}, chunks {chunks:?}: {alone} alone, {with_all_after} with all after",
                    scene.0
                );
                total += alone + with_all_after;
            }
        }
        assert!(total >= 40, "{what:?}: {total} failures are too few to show anything");
    }
}

/// A system that cannot be set up leaves the machine as it was: the next attempt succeeds.
#[test]
fn a_system_needs_every_frame_that_it_asks_for() {
    let mut failures = 0;
    loop {
        let machine = SimMachine::new(small()).expect("a machine");
        machine.fail(Fallible::Allocation, failures + 1, false);
        match System::new(machine) {
            Ok(_) => break,
            Err(error) => assert_eq!(error, SystemError::Shortage),
        }
        failures += 1;
    }
    assert!(failures >= 5, "root, three tables of the window, records: {failures}");
}

/// Locks that are not free at the worst moment, while other CPUs are at work.
#[test]
fn failing_attempts_to_lock_do_no_harm_among_four_cpus() {
    for rival in [Rival::Unmaps, Rival::Reclaims] {
        for (nth, stays) in (1..=12).flat_map(|nth| [(nth, false), (nth, true)]) {
            let di = Implementation::ALL[(nth % 3) as usize];
            let report = unmap_race::play(nth, di, 12, rival, |system| {
                system.machine().fail(Fallible::TryLock, nth, stays);
            });
            assert!(report.is_clean(), "{nth} {stays}: {:?}", report.first_failures);
        }
    }
}
