//! The pmap itself under shuttle: the software machine's CPUs are shuttle's tasks, so its schedulers decide at every point which CPU
//! goes on, and the machine finds what a TLB should not hold. Schedules are random, by probabilistic concurrency testing
//! (PCT), and, for scenes of two CPUs, all those with few preemptions.
//!
//! `.ci/shuttle` runs it. `SHUTTLE_ITERATIONS` (default 1000) says how many schedules each scene gets of each random kind. A failure prints
//! the schedule, and `SHUTTLE_SCHEDULE=` that string, with the name of the test, plays it again.

mod support;
#[path = "support/tasks.rs"]
mod tasks;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use pmap::mutation::Mutation;
use pmap::sim::{Adversary, Config, SimMachine};
use pmap::{Access, EnterError, EnterFlags, Frame, Options, PageRecord, Pmap, System, VirtAddr, VirtRange};
use shuttle::scheduler::{PctScheduler, RandomScheduler, ReplayScheduler, Scheduler};
use shuttle::{Config as ShuttleConfig, FailurePersistence, MaxSteps, Runner};
use support::{READ_WRITE, assert_clean, cpu};
use tasks::{FewPreemptions, Tasks};

type Space<'s> = Pmap<'s, SimMachine>;
/// What one CPU does.
type Role<'a> = Box<dyn FnOnce() + Send + 'a>;
/// Plays once, in the order that shuttle gives, with a mutation in force.
type Scene = fn(Option<Mutation>);

const VA: VirtAddr = VirtAddr(0x40_0000);

/// A machine that does nothing unasked, so that only the schedule counts.
fn stage(cpus: usize, options: Options, mutation: Option<Mutation>) -> (Tasks, System<SimMachine>) {
    let tasks = Tasks::default();
    let adversary = Adversary { tlb_sets: 4, tlb_ways: 4, ..Adversary::tame() };
    let config = Config { cpus, frames: 64, adversary, ..Config::default() };
    let machine = SimMachine::with_executor(config, tasks.clone()).expect("a machine");
    let system = System::with_options(machine, options).expect("a system");
    system.set_mutation(mutation);
    (tasks, system)
}

/// A new page.
fn page(system: &System<SimMachine>) -> &PageRecord {
    let frame = system.machine().allocate_data_frame(true).expect("memory");
    system.page(frame).expect("managed memory")
}

fn enter(space: &Space<'_>, va: VirtAddr, frame: Frame) -> Result<(), EnterError> {
    space.enter(va, frame, READ_WRITE, Access::Write, EnterFlags::empty())
}

/// On CPU `index`, alone: the address space becomes current, and the pages at these addresses are stored to.
fn use_pages(system: &System<SimMachine>, index: usize, space: &Space<'_>, pages: &[VirtAddr]) {
    let machine = system.machine();
    machine.run_cpu(cpu(index), || {
        system.start_cpu();
        space.activate();
        pages.iter().for_each(|va| machine.write(*va, 1).expect("mapped"));
    });
}

/// An address space, current on the first CPU, with one page at [`VA`] that has been stored to.
fn one_mapping(system: &System<SimMachine>) -> (Space<'_>, &PageRecord) {
    let machine = system.machine();
    let space = machine.run_cpu(cpu(0), || system.create()).expect("memory");
    let page = page(system);
    machine.run_cpu(cpu(0), || enter(&space, VA, page.frame())).expect("memory");
    use_pages(system, 0, &space, &[VA]);
    (space, page)
}

/// One role on each CPU, from the first on, all at once.
fn at_once<'a>(tasks: &Tasks, system: &'a System<SimMachine>, roles: impl IntoIterator<Item = Role<'a>>) {
    tasks.switch_on();
    shuttle::thread::scope(|scope| {
        for (index, role) in roles.into_iter().enumerate() {
            scope.spawn(move || system.machine().run_cpu(cpu(index), role));
        }
    });
    tasks.switch_off();
}

/// Everything goes, and must be as it should.
fn finish<'s>(system: &'s System<SimMachine>, cpus: usize, spaces: impl IntoIterator<Item = Space<'s>>) {
    let machine = system.machine();
    (0..cpus).for_each(|index| machine.run_cpu(cpu(index), || system.activate_kernel()));
    machine.run_cpu(cpu(0), || {
        assert_clean(system);
        spaces.into_iter().for_each(|space| space.destroy().expect("active nowhere"));
        assert_clean(system);
    });
    let statistics = system.statistics();
    assert_eq!((statistics.pv_entries, statistics.pv_chunks), (0, 0));
}

/// A page is taken away from all address spaces, and reused, while its only mapping is being removed.
fn remove_all_and_remove(mutation: Option<Mutation>) {
    let (tasks, system) = stage(2, Options::default(), mutation);
    let (space, page) = one_mapping(&system);
    let remover = || space.remove(VirtRange::page_of(VA));
    let thief = || {
        system.start_cpu();
        system.remove_all(page);
        assert!(page.is_dirty(), "the store is not forgotten");
        system.machine().free_data_frame(page.frame());
    };
    at_once(&tasks, &system, [Box::new(remover) as Role<'_>, Box::new(thief)]);
    finish(&system, 2, [space]);
}

/// A page is write-protected while its only mapping is being removed: the wait is all that there is to do.
fn wait_and_remove(mutation: Option<Mutation>) {
    let (tasks, system) = stage(2, Options::default(), mutation);
    let (space, page) = one_mapping(&system);
    let remover = || space.remove(VirtRange::page_of(VA));
    let cleaner = || {
        system.start_cpu();
        system.remove_write(page);
        assert!(page.is_dirty() && !page.is_writeable());
    };
    at_once(&tasks, &system, [Box::new(remover) as Role<'_>, Box::new(cleaner)]);
    finish(&system, 2, [space]);
}

/// Two are short of PV entries, of which one address space has all; a third takes the page away for which they were.
fn two_reclaimers(mutation: Option<Mutation>) {
    let options = Options { pv_chunk_limit: Some(1), ..Options::default() };
    let (tasks, system) = stage(3, options, mutation);
    let machine = system.machine();
    let [rich, poor, other] = [(); 3].map(|()| machine.run_cpu(cpu(0), || system.create()).expect("memory"));
    let (page, wanted) = (page(&system), page(&system));
    machine.run_cpu(cpu(2), || enter(&rich, VA, page.frame())).expect("memory");
    use_pages(&system, 2, &rich, &[VA]);
    let reclaimer = |space: &Space<'_>| {
        system.start_cpu();
        // Refused if who has the only chunk holds his lock.
        let entered = enter(space, VA, wanted.frame());
        assert!(matches!(entered, Ok(()) | Err(EnterError::Shortage)), "{entered:?}");
    };
    let thief = || {
        system.remove_all(page);
        machine.free_data_frame(page.frame());
    };
    let roles: [Role<'_>; 3] =
        [Box::new(|| reclaimer(&poor)), Box::new(|| reclaimer(&other)), Box::new(thief)];
    at_once(&tasks, &system, roles);
    finish(&system, 3, [rich, poor, other]);
}

/// Three CPUs run an address space, and each removes a page that all have used, and reuses it.
fn parallel_initiators(mutation: Option<Mutation>) {
    const CPUS: usize = 3;
    let (tasks, system) = stage(CPUS, Options::default(), mutation);
    let machine = system.machine();
    let space = machine.run_cpu(cpu(0), || system.create()).expect("memory");
    let at: [VirtAddr; CPUS] = std::array::from_fn(|index| VA.wrapping_add(0x1000 * index as u64));
    let pages = at.map(|va| {
        let page = page(&system);
        machine.run_cpu(cpu(0), || enter(&space, va, page.frame())).expect("memory");
        page
    });
    (0..CPUS).for_each(|index| use_pages(&system, index, &space, &at));
    let initiator = |index: usize| {
        space.remove(VirtRange::page_of(at[index]));
        machine.free_data_frame(pages[index].frame());
    };
    let initiator = &initiator;
    at_once(&tasks, &system, (0..CPUS).map(|index| Box::new(move || initiator(index)) as Role<'_>));
    finish(&system, CPUS, [space]);
}

/// Who goes from a page to its mapping finds the address space locked. Behind the dropped lock of the list the mapping's PV entry
/// moves to another list under the same lock, as it does in a promotion: here because another page is entered in the place of
/// this one.
fn reversal_and_moved_entry(mutation: Option<Mutation>) {
    let (tasks, system) = stage(2, Options::default(), mutation);
    let machine = system.machine();
    let space = machine.run_cpu(cpu(0), || system.create()).expect("memory");
    let (page, other) = (page(&system), page(&system));
    machine.run_cpu(cpu(0), || enter(&space, VA, page.frame())).expect("memory");
    use_pages(&system, 0, &space, &[VA]);
    let mover = || enter(&space, VA, other.frame()).expect("memory");
    let daemon = || {
        system.start_cpu();
        system.ts_referenced(page);
    };
    at_once(&tasks, &system, [Box::new(mover) as Role<'_>, Box::new(daemon)]);
    assert!(!system.page_is_mapped(page) && system.page_is_mapped(other));
    finish(&system, 2, [space]);
}

fn iterations() -> usize {
    std::env::var("SHUTTLE_ITERATIONS")
        .map_or(1000, |number| number.parse().expect("SHUTTLE_ITERATIONS is a number"))
}

fn config() -> ShuttleConfig {
    let mut config = ShuttleConfig::new();
    config.stack_size = 1 << 18;
    config.max_steps = MaxSteps::FailAfter(50_000);
    config.ungraceful_shutdown_config.immediately_return_on_panic = true;
    config
}

/// Plays a scene in the orders of a scheduler; returns how many those were.
fn run(scheduler: impl Scheduler + 'static, scene: Scene, mutation: Option<Mutation>) -> usize {
    Runner::new(scheduler, config()).run(move || scene(mutation))
}

/// Says after a panic how to replay it.
struct Command;

impl Drop for Command {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let settings = vec![("SHUTTLE_SCHEDULE", "'the failing schedule'".to_string())];
            let command = support::replay::command(&settings);
            eprintln!("to replay this run:\n    {command}");
        }
    }
}

/// Plays a scene in random orders of every kind.
fn explore(scene: Scene, mutation: Option<Mutation>) {
    if let Ok(schedule) = std::env::var("SHUTTLE_SCHEDULE") {
        run(ReplayScheduler::new_from_encoded(&schedule), scene, mutation);
        return;
    }
    let _command = Command;
    run(RandomScheduler::new(iterations()), scene, mutation);
    for depth in [2, 3] {
        run(PctScheduler::new(depth, iterations()), scene, mutation);
    }
}

fn holds(scene: Scene) {
    explore(scene, None);
}

fn is_found(mutation: Mutation, scene: Scene) {
    let outcome = catch_unwind(AssertUnwindSafe(|| explore(scene, Some(mutation))));
    assert!(outcome.is_err(), "{mutation}: no schedule shows it");
}

#[test]
fn a_page_is_taken_away_while_it_is_unmapped() {
    holds(remove_all_and_remove);
}

#[test]
fn a_page_taken_away_without_a_wait_is_found() {
    is_found(Mutation::NoDiWait, remove_all_and_remove);
}

#[test]
fn a_page_that_is_not_marked_is_found() {
    is_found(Mutation::NoMark, remove_all_and_remove);
}

#[test]
fn a_page_is_write_protected_while_it_is_unmapped() {
    holds(wait_and_remove);
}

#[test]
fn a_page_write_protected_without_a_wait_is_found() {
    is_found(Mutation::NoWaitIfReadOnly, wait_and_remove);
}

#[test]
fn two_reclaimers_meet() {
    holds(two_reclaimers);
}

#[test]
fn a_reclaimer_without_a_section_is_found() {
    is_found(Mutation::ReclaimUnmarked, two_reclaimers);
}

#[test]
fn three_initiators_shoot_at_each_other() {
    holds(parallel_initiators);
}

#[test]
fn an_acknowledgement_before_the_invalidation_is_found() {
    is_found(Mutation::AcknowledgeFirst, parallel_initiators);
}

#[test]
fn an_entry_moves_behind_the_dropped_lock() {
    holds(reversal_and_moved_entry);
}

#[test]
fn a_moved_entry_that_is_not_noticed_is_found() {
    is_found(Mutation::StaleReversal, reversal_and_moved_entry);
}

/// Scenes of two CPUs, in every order that takes the turn from a CPU that could go on at most three times.
#[test]
fn all_schedules_with_few_preemptions_are_clean() {
    for scene in [remove_all_and_remove, wait_and_remove, reversal_and_moved_entry] {
        let schedules = run(FewPreemptions::new(3), scene, None);
        println!("{schedules} schedules");
        assert!(schedules > 500, "{schedules} are too few to show anything");
    }
}

/// Two preemptions are enough for these; so none of them is missed by chance.
#[test]
fn few_preemptions_are_enough_to_find_what_is_wrong() {
    for (mutation, scene) in [
        (Mutation::NoDiWait, remove_all_and_remove as Scene),
        (Mutation::NoMark, remove_all_and_remove),
        (Mutation::NoWaitIfReadOnly, wait_and_remove),
        (Mutation::StaleReversal, reversal_and_moved_entry),
    ] {
        let outcome = catch_unwind(AssertUnwindSafe(|| run(FewPreemptions::new(2), scene, Some(mutation))));
        assert!(outcome.is_err(), "{mutation}: no schedule shows it");
    }
}

/// What a failure leaves behind fails again, and says the same.
#[test]
fn a_schedule_that_failed_fails_again() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("schedules-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let scene = || remove_all_and_remove(Some(Mutation::NoMark));
    let mut keeping = config();
    keeping.failure_persistence = FailurePersistence::File(Some(folder.clone()));
    let words = |outcome: std::thread::Result<usize>| {
        let payload = outcome.expect_err("it fails");
        payload.downcast_ref::<String>().expect("a message").clone()
    };
    let first =
        catch_unwind(AssertUnwindSafe(|| Runner::new(RandomScheduler::new(100_000), keeping).run(scene)));
    let kept = std::fs::read_dir(&folder).expect("a folder").next().expect("a schedule").expect("a file");
    let replay =
        || Runner::new(ReplayScheduler::new_from_file(kept.path()).expect("a schedule"), config()).run(scene);
    assert_eq!(words(catch_unwind(AssertUnwindSafe(replay))), words(first));
    std::fs::remove_dir_all(folder).expect("the folder goes");
}
