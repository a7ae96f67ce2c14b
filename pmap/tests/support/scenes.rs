//! Small scenes on several CPUs, each about one mechanism. Deterministic: a seed gives the same history again.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pmap::mutation::Mutation;
use pmap::sim::{Mutex, SimMachine};
use pmap::{Access, EnterFlags, Frame, PageRecord, Pmap, Protection, System, VirtAddr, VirtRange};

use crate::support::{READ_WRITE, cpu, deterministic, system};

const VA: VirtAddr = VirtAddr(0x40_0000);
const ROUNDS: u64 = 60;

/// One address space and one page on a machine of `cpus`; `f` is run on all of them at once.
fn on_cpus(
    cpus: usize,
    seed: u64,
    mutation: Option<Mutation>,
    f: impl Fn(&System<SimMachine>, &Pmap<'_, SimMachine>, &PageRecord, usize) -> Result<(), String> + Sync,
) -> Result<(), String> {
    let system = system(deterministic(cpus, 128, seed));
    let machine = system.machine();
    let (space, frame) = machine.run_cpu(cpu(0), || {
        system.start_cpu();
        (system.create().expect("memory"), machine.allocate_data_frame(true).expect("memory"))
    });
    let page = system.page(frame).expect("managed memory");
    system.set_mutation(mutation);
    let results = machine.run_cpus(|id| {
        system.start_cpu();
        space.activate();
        let result = f(&system, &space, page, id.index());
        system.stop_cpu();
        result
    });
    let results = results.expect("all CPUs are free").into_iter().collect::<Result<(), String>>();
    let report = machine.report();
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        space.destroy().expect("active nowhere");
    });
    results?;
    if report.is_clean() { Ok(()) } else { Err(format!("{:?}", report.first_failures)) }
}

fn enter(space: &Pmap<'_, SimMachine>, frame: Frame, access: Access, flags: EnterFlags) {
    space.enter(VA, frame, READ_WRITE, access, flags).expect("memory");
}

/// H-13: a CPU stores to a page while another one unwires it. The store must not be forgotten.
pub(crate) fn store_during_unwire(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let (begun, stored) = (AtomicU64::new(0), AtomicU64::new(0));
    on_cpus(2, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        let reach = |stage: &AtomicU64, round| {
            stage.store(round, Ordering::Release);
            machine.wake_all();
        };
        let wait = |stage: &AtomicU64, round| machine.wait_until(|| stage.load(Ordering::Acquire) >= round);
        for round in 1..=ROUNDS {
            if me == 1 {
                wait(&begun, round);
                machine.write(VA, round).expect("mapped writable");
                reach(&stored, round);
                continue;
            }
            enter(space, page.frame(), Access::Read, EnterFlags::WIRED);
            system.clear_modify(page);
            page.clear_dirty();
            reach(&begun, round);
            space.unwire(VirtRange::page_of(VA)).expect("wired");
            wait(&stored, round);
            if !system.is_modified(page) {
                // Let the other one end.
                reach(&begun, ROUNDS);
                return Err(format!("the store of round {round} left no trace"));
            }
        }
        Ok(())
    })
}

/// The flush of `protect` and a page that is write-protected at the same time: when `remove_write` returns, nobody can
/// store to the page, although `protect` had taken the right already and `remove_write` found nothing to flush.
pub(crate) fn protect_and_remove_write(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    // Whoever has it may rely on the page's not being entered.
    let busy = Mutex::new(());
    let over = AtomicBool::new(false);
    on_cpus(3, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        let is_over = || over.load(Ordering::Acquire);
        match me {
            0 => {
                for round in 0..ROUNDS {
                    {
                        let _busy = busy.lock();
                        enter(space, page.frame(), Access::Write, EnterFlags::empty());
                    }
                    let _ = machine.write(VA, round);
                    space.protect(VirtRange::page_of(VA), Protection::READ);
                }
                over.store(true, Ordering::Release);
            }
            1 => {
                while !is_over() {
                    let _ = machine.write(VA, 7);
                }
            }
            _ => {
                while !is_over() {
                    let _busy = busy.lock();
                    system.remove_write(page);
                }
            }
        }
        Ok(())
    })
}

/// H-41: frames that are out of use turn up nowhere.
pub(crate) fn retired_frames(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    on_cpus(1, seed, mutation, |system, space, page, _| {
        let machine = system.machine();
        let bad: Vec<Frame> = (0..3).map(|_| machine.allocate_data_frame(true).expect("memory")).collect();
        bad.iter().for_each(|frame| system.retire(*frame).expect("not mapped"));
        let mapped = space.enter(VA, bad[0], READ_WRITE, Access::Read, EnterFlags::empty()).is_ok();
        space.remove(VirtRange::user());
        bad.iter().for_each(|frame| machine.free_data_frame(*frame));
        enter(space, page.frame(), Access::Read, EnterFlags::empty());
        let tables = space.get_mapping(VA);
        let used =
            tables.iter().any(|word| bad.iter().any(|frame| frame.addr().0 == word & 0x000f_ffff_ffff_f000));
        space.remove(VirtRange::user());
        if mapped || used { Err(format!("mapped: {mapped}, used: {used}")) } else { Ok(()) }
    })
}
