//! Small scenes on several CPUs, each about one mechanism. Deterministic: a seed gives the same history again.
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pmap::mutation::Mutation;
use pmap::sim::{Mutex, SimMachine};
use pmap::{Access, EnterFlags, Frame, PageRecord, Pmap, Protection, System, VirtAddr, VirtRange};

use crate::support::{READ_WRITE, cpu, deterministic, system};

const VA: VirtAddr = VirtAddr(0x40_0000);
const ROUNDS: u64 = 60;

/// How far a CPU has come, for others that wait for it.
#[derive(Default)]
struct Stage(AtomicU64);

impl Stage {
    fn reach(&self, machine: &SimMachine, stage: u64) {
        self.0.store(stage, Ordering::Release);
        machine.wake_all();
    }

    fn wait(&self, machine: &SimMachine, stage: u64) {
        machine.wait_until(|| self.0.load(Ordering::Acquire) >= stage);
    }
}

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
    let (begun, stored) = (Stage::default(), Stage::default());
    on_cpus(2, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        for round in 1..=ROUNDS {
            if me == 1 {
                begun.wait(machine, round);
                machine.write(VA, round).expect("mapped writable");
                stored.reach(machine, round);
                continue;
            }
            enter(space, page.frame(), Access::Read, EnterFlags::WIRED);
            system.clear_modify(page);
            page.clear_dirty();
            begun.reach(machine, round);
            space.unwire(VirtRange::page_of(VA)).expect("wired");
            stored.wait(machine, round);
            if !system.is_modified(page) {
                // Let the other one end.
                begun.reach(machine, ROUNDS);
                return Err(format!("the store of round {round} left no trace"));
            }
        }
        Ok(())
    })
}

/// The flush of `protect` and a page that is write-protected at the same time: when `remove_write` returns, nobody can
/// store to the page, although `protect` had taken the right already and `remove_write` found nothing to flush.
pub(crate) fn protect_and_remove_write(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    takes_rights(
        seed,
        mutation,
        |space| space.protect(VirtRange::page_of(VA), Protection::READ),
        |_, system, page| system.remove_write(page),
    )
}

/// The same with the flush delayed past the pmap lock.
pub(crate) fn delayed_protect_and_remove_write(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    takes_rights(seed, mutation, protect_delayed, |_, system, page| system.remove_write(page))
}

/// Two that take the same right, of whom the second finds nothing to take, while the flush of the first is delayed.
pub(crate) fn delayed_protect_and_protect(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    takes_rights(seed, mutation, protect_delayed, |space, _, _| {
        space.protect(VirtRange::page_of(VA), Protection::READ);
    })
}

fn protect_delayed(space: &Pmap<'_, SimMachine>) {
    let other = VirtRange::page_of(VirtAddr(VA.0 + 0x80_0000));
    space.protect_ranges([VirtRange::page_of(VA), other], Protection::READ);
}

/// One CPU maps a page and takes the right to write to it by `first`, one stores, one takes the right by `second`.
fn takes_rights(
    seed: u64,
    mutation: Option<Mutation>,
    first: impl Fn(&Pmap<'_, SimMachine>) + Sync,
    second: impl Fn(&Pmap<'_, SimMachine>, &System<SimMachine>, &PageRecord) + Sync,
) -> Result<(), String> {
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
                    first(space);
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
                    second(space, system, page);
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

/// H-11: copy on write. Two CPUs read through an address whose page is replaced by newer copies: once one of them has
/// seen a copy, nobody sees an older one.
pub(crate) fn readers_of_a_replaced_page(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let newest = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    on_cpus(3, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        if me == 0 {
            let spare = machine.allocate_data_frame(true).expect("memory");
            let copies = [page.frame(), spare];
            for version in 1..=ROUNDS {
                // The other copy is mapped nowhere while it is written.
                let copy = copies[(version % 2) as usize];
                machine.frame_words(copy)[0].store(version, Ordering::SeqCst);
                enter(space, copy, Access::Read, EnterFlags::empty());
                let _ = machine.read(VA);
            }
            over.store(true, Ordering::Release);
            space.remove(VirtRange::user());
            machine.free_data_frame(spare);
            return Ok(());
        }
        while !over.load(Ordering::Acquire) {
            let seen_before = newest.load(Ordering::SeqCst);
            if let Ok(version) = machine.read(VA) {
                newest.fetch_max(version, Ordering::SeqCst);
                if version < seen_before {
                    return Err(format!("version {version} was read after version {seen_before}"));
                }
            }
        }
        Ok(())
    })
}

/// H-39: another CPU begins to run an address space whose pages are just being removed. Entries are taken as
/// atomically as anywhere else, and whoever is active when they are flushed is flushed, too.
pub(crate) fn activation_during_remove_pages(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let (asked, answered) = (Stage::default(), Stage::default());
    on_cpus(2, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        let mut refused = 0;
        for round in 1..=ROUNDS {
            if me == 1 {
                system.activate_kernel();
                answered.reach(machine, 2 * round - 1);
                asked.wait(machine, round);
                space.activate();
                let _ = machine.write(VA, round);
                answered.reach(machine, 2 * round);
                continue;
            }
            answered.wait(machine, 2 * round - 1);
            enter(space, page.frame(), Access::Write, EnterFlags::empty());
            asked.reach(machine, round);
            match space.remove_pages() {
                Ok(()) if space.extract(VA).is_some() => return Err("a mapping is left".to_string()),
                Ok(()) => {}
                Err(_) => refused += 1,
            }
            answered.wait(machine, 2 * round);
            space.remove(VirtRange::user());
        }
        if me == 0 && refused == ROUNDS { Err("never alone".to_string()) } else { Ok(()) }
    })
}

/// H-12: a store through a writable mapping that is being write-protected while it is clean. Nothing is flushed, and yet
/// the store either is noted as one, or faults.
pub(crate) fn store_during_a_flush_free_protect(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let (begun, stored) = (Stage::default(), Stage::default());
    on_cpus(2, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        for round in 1..=ROUNDS {
            if me == 1 {
                let _ = machine.read(VA);
                begun.wait(machine, round);
                let done = machine.write(VA, round).is_ok();
                stored.reach(machine, 2 * round + u64::from(done));
                continue;
            }
            enter(space, page.frame(), Access::Read, EnterFlags::empty());
            page.clear_dirty();
            begun.reach(machine, round);
            space.protect(VirtRange::page_of(VA), Protection::READ);
            stored.wait(machine, 2 * round);
            let done = stored.0.load(Ordering::Acquire) == 2 * round + 1;
            if done && !page.is_dirty() && !system.is_modified(page) {
                begun.reach(machine, ROUNDS);
                return Err(format!("the store of round {round} left no trace"));
            }
        }
        Ok(())
    })
}

/// H-71: a CPU stores to a page that another one maps and unmaps all the time, and asks whether the page was modified.
pub(crate) fn store_and_ask(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let over = AtomicBool::new(false);
    on_cpus(2, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        if me == 0 {
            for _ in 0..ROUNDS {
                enter(space, page.frame(), Access::Read, EnterFlags::empty());
                space.remove(VirtRange::page_of(VA));
            }
            over.store(true, Ordering::Release);
            return Ok(());
        }
        let mut stores = 0;
        while !over.load(Ordering::Acquire) {
            if machine.write(VA, 1).is_err() {
                continue;
            }
            stores += 1;
            // In this order: bits move from mappings to the page.
            if !system.is_modified(page) && !page.is_dirty() {
                return Err("a page that was stored to looks unmodified".to_string());
            }
        }
        if stores == 0 { Err("the scene is too tame".to_string()) } else { Ok(()) }
    })
}

/// H-41: frames go out of use while they are entered, where nothing was mapped and in the place of another page. Either
/// the mapping is refused, and nothing has changed, or the frame stays in use.
pub(crate) fn retire_during_enter(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    const ROUNDS: u64 = 40;
    let (begun, done) = (Stage::default(), Stage::default());
    let asked = AtomicU64::new(0);
    on_cpus(2, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        let mut bad = Vec::new();
        for round in 1..=ROUNDS {
            if me == 1 {
                begun.wait(machine, round);
                let _ = system.retire(Frame(asked.load(Ordering::Acquire)));
                done.reach(machine, round);
                continue;
            }
            let before = (round % 2 == 0).then(|| page.frame());
            if let Some(frame) = before {
                enter(space, frame, Access::Write, EnterFlags::empty());
            }
            let frame = machine.allocate_data_frame(true).expect("memory");
            asked.store(frame.0, Ordering::Release);
            begun.reach(machine, round);
            // Speculatively, too, every fourth time.
            let entered = if round % 4 == 1 {
                space.enter_quick(VA, frame, READ_WRITE)
            } else {
                space.enter(VA, frame, READ_WRITE, Access::Write, EnterFlags::empty()).is_ok()
            };
            done.wait(machine, round);
            let retired = system.page(frame).expect("managed").is_retired();
            let now = space.extract(VA).map(|pa| pa.frame());
            let expected = if entered { Some(frame) } else { before };
            space.remove(VirtRange::page_of(VA));
            if retired {
                bad.push(frame);
            } else {
                machine.free_data_frame(frame);
            }
            if now != expected || (entered && retired) {
                begun.reach(machine, ROUNDS);
                return Err(format!(
                    "round {round}: entered: {entered}, out of use: {retired}, mapped: {now:?}"
                ));
            }
        }
        bad.into_iter().for_each(|frame| machine.free_data_frame(frame));
        Ok(())
    })
}

/// A page is cleaned while another CPU write-protects it, and a third one has taken the right to write and not flushed.
/// A store that comes after the cleaning must leave a trace.
pub(crate) fn clean_during_remove_write(seed: u64, mutation: Option<Mutation>) -> Result<(), String> {
    let [begun, used, protected, read_only, cleaned, ended, over] = [(); 7].map(|()| Stage::default());
    let lost = AtomicU64::new(0);
    on_cpus(4, seed, mutation, |system, space, page, me| {
        let machine = system.machine();
        for round in 1..=ROUNDS {
            match me {
                0 => {
                    enter(space, page.frame(), Access::Write, EnterFlags::empty());
                    begun.reach(machine, round);
                    used.wait(machine, round);
                    protect_delayed(space);
                    protected.reach(machine, round);
                    over.wait(machine, round);
                }
                1 => {
                    begun.wait(machine, round);
                    machine.write(VA, round << 32).expect("mapped writable");
                    used.reach(machine, round);
                    let mut stores = round << 32;
                    while cleaned.0.load(Ordering::Acquire) < round {
                        stores += 1;
                        let _ = machine.write(VA, stores);
                    }
                    ended.reach(machine, round);
                    over.wait(machine, round);
                }
                2 => {
                    used.wait(machine, round);
                    system.remove_write(page);
                    read_only.reach(machine, round);
                    over.wait(machine, round);
                }
                _ => {
                    used.wait(machine, round);
                    page.clear_dirty();
                    system.clear_modify(page);
                    let word = &machine.frame_words(page.frame())[0];
                    let before = word.load(Ordering::Acquire);
                    protected.wait(machine, round);
                    cleaned.reach(machine, round);
                    ended.wait(machine, round);
                    if word.load(Ordering::Acquire) != before && !system.is_modified(page) && !page.is_dirty()
                    {
                        lost.store(round, Ordering::Release);
                    }
                    // Until then the page must not be entered anew.
                    read_only.wait(machine, round);
                    over.reach(machine, round);
                }
            }
            if lost.load(Ordering::Acquire) != 0 {
                return Err(format!("a store of round {round} left no trace"));
            }
        }
        Ok(())
    })
}
