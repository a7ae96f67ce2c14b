//! Address spaces that come and go on CPUs, their PCIDs, and shootdowns: every CPU model, and every mechanism switched off in turn.

mod support;
#[path = "support/switching.rs"]
mod switching;

use std::panic::{AssertUnwindSafe, catch_unwind};

use pmap::mutation::Mutation;
use pmap::sim::{Adversary, Config, CpuModel, Mode, Mutex, SimMachine};
use pmap::{Access, Cr3, EnterFlags, Options, Pcid, Protection, System, TlbMethod, VirtAddr, VirtRange};
use support::replay::{Settings, each, seeds};
use support::{assert_clean, cpu, deterministic, system};
use switching::{Scene, play};

const SEEDS: std::ops::Range<u64> = 0..6;

/// The scene with each of these, and each seed.
fn scenes(
    models: &[CpuModel],
    pcids: &[u16],
    steps: u64,
    early: bool,
) -> impl Iterator<Item = (Settings, Scene)> {
    let pairs = models.iter().flat_map(|model| pcids.iter().map(move |pcids| (*model, *pcids)));
    let options = Options::default();
    let scene = move |((cpu_model, pcids), seed)| Scene { cpu_model, pcids, seed, steps, early, options };
    let scenes = pairs.flat_map(|pair| SEEDS.map(move |seed| (pair, seed))).map(scene);
    scenes.map(|scene| (scene.settings(), scene)).collect::<Vec<_>>().into_iter()
}

#[test]
fn switching_address_spaces_is_clean_on_every_cpu_model() {
    each(scenes(&CpuModel::ALL, &[2, 3, 4096], 250, false), |scene| {
        let (report, statistics) = play(scene, |_| {});
        assert!(report.is_clean(), "{scene:?}: {:?}", report.first_failures);
        assert!(report.stale_before_guarantee > 0, "{scene:?}: too tame");
        let has_pcids = scene.cpu_model.features().pcids > 0;
        assert!(statistics.switches > statistics.switches_kept, "{scene:?}: {statistics:?}");
        assert_eq!(statistics.pcid_generations > 0, has_pcids && scene.pcids < 4, "{scene:?}");
        assert_eq!(statistics.switches_kept > 0, has_pcids && scene.pcids > 2, "{scene:?}: {statistics:?}");
        assert_eq!(statistics.ipis_saved_lazy > 0, has_pcids, "{scene:?}");
        assert_eq!(report.broadcasts > 0, scene.cpu_model == CpuModel::Zen3, "{scene:?}");
    });
}

/// INV-S-7.
#[test]
fn flushing_one_by_one_and_interrupting_everybody_is_clean_on_every_cpu_model() {
    let off = [(false, true), (true, false), (false, false)];
    let options =
        off.map(|(batching, lazy_targets)| Options { batching, lazy_targets, ..Options::default() });
    let scenes = scenes(&CpuModel::ALL, &[3], 250, true);
    let scenes = scenes.flat_map(|(_, scene)| options.map(|options| Scene { options, ..scene }));
    each(scenes.map(|scene| (scene.settings(), scene)), |scene| {
        let (report, statistics) = play(scene, |_| {});
        assert!(report.is_clean(), "{scene:?}: {:?}", report.first_failures);
        assert!(report.stale_before_guarantee > 0, "{scene:?}: too tame");
        let saved = statistics.ipis_saved_lazy;
        assert!(scene.options.lazy_targets || saved == 0, "{scene:?}: {saved}");
    });
}

#[test]
fn every_method_runs_on_a_processor_that_can_more() {
    for method in TlbMethod::ALL {
        let machine =
            SimMachine::new(Config { cpu_model: CpuModel::Zen3, ..deterministic(2, 128, 1) }).unwrap();
        let system =
            System::with_options(machine, Options { tlb: Some(method), ..Options::default() }).unwrap();
        assert_eq!((system.tlb_choice().method, system.tlb_choice().overridden), (method, true));
        let machine = system.machine();
        machine.run_cpu(cpu(0), || {
            system.start_cpu();
            let spaces = [system.create().unwrap(), system.create().unwrap()];
            let frame = machine.allocate_data_frame(true).unwrap();
            let at = VirtAddr(0x5000);
            for space in &spaces {
                space.activate();
                space.enter(at, frame, Protection::READ, Access::Read, EnterFlags::empty()).unwrap();
                machine.read(at).unwrap();
            }
            system.remove_all(system.page(frame).unwrap());
            for space in spaces {
                space.activate();
                assert!(machine.read(at).is_err());
                system.activate_kernel();
                space.destroy().unwrap();
            }
            machine.free_data_frame(frame);
        });
        assert_clean(&system);
    }
    let machine = SimMachine::new(Config { cpu_model: CpuModel::Core2, ..Config::default() }).unwrap();
    let refused = System::with_options(machine, Options { tlb: Some(TlbMethod::Pcid), ..Options::default() });
    assert!(refused.unwrap_err().to_string().contains("pcid"));
}

/// With every seed the machine must see that `mutation` is in force.
fn is_found(mutation: Mutation, cpu_model: CpuModel, pcids: u16, prepare: impl Fn(&System<SimMachine>)) {
    is_found_on(&[cpu_model], mutation, pcids, prepare);
}

fn is_found_on(models: &[CpuModel], mutation: Mutation, pcids: u16, prepare: impl Fn(&System<SimMachine>)) {
    let early = mutation == Mutation::EarlyWithTables;
    each(scenes(models, &[pcids], 20_000, early), |scene| {
        let (report, _) = play(scene, |system| {
            prepare(system);
            system.set_mutation(Some(mutation));
        });
        assert!(!report.is_clean(), "{mutation}: {scene:?} was not found");
    });
}

#[test]
fn a_tag_that_is_not_revoked_is_found() {
    is_found(Mutation::NoRevocation, CpuModel::Haswell, 16, |_| {});
}

#[test]
fn a_pcid_that_is_reused_without_a_flush_is_found() {
    is_found(Mutation::ReusedPcid, CpuModel::SandyBridge, 3, |_| {});
}

/// H-17.
#[test]
fn a_tag_read_before_the_active_set_is_joined_is_found() {
    is_found(Mutation::TagBeforeActive, CpuModel::Haswell, 16, |_| {});
}

/// H-17: between the load of a root and the note of it the processor walks the new tables, and until the load the old ones.
#[test]
fn a_cpu_that_joins_after_the_load_is_found() {
    is_found_on(&[CpuModel::Haswell, CpuModel::Core2], Mutation::LateJoin, 16, |_| {});
}

/// H-17.
#[test]
fn a_cpu_that_leaves_before_the_load_is_found() {
    is_found_on(&[CpuModel::Haswell, CpuModel::Core2], Mutation::EarlyLeave, 16, |_| {});
}

/// H-18.
#[test]
fn an_interrupt_in_the_middle_of_a_switch_is_found() {
    is_found(Mutation::InterruptsInSwitch, CpuModel::Haswell, 16, |_| {});
}

/// H-20.
#[test]
fn an_invlpg_that_misses_globals_is_found() {
    is_found(Mutation::TrustInvlpg, CpuModel::AlderLake, 16, |_| {});
}

/// H-23.
#[test]
fn an_acknowledgement_before_the_invalidation_is_found() {
    is_found(Mutation::AcknowledgeFirst, CpuModel::Haswell, 16, |_| {});
}

/// H-23: where they are legal, early acknowledgements do no harm.
#[test]
fn early_acknowledgements_are_clean_where_they_are_legal() {
    each(scenes(&CpuModel::ALL, &[16], 250, true), |scene| {
        let (report, _) = play(scene, |_| {});
        assert!(report.is_clean(), "{scene:?}: {:?}", report.first_failures);
    });
}

/// H-23.
#[test]
fn an_early_acknowledgement_before_tables_are_freed_is_found() {
    is_found(Mutation::EarlyWithTables, CpuModel::Haswell, 16, |_| {});
}

/// H-80.
#[test]
fn a_missing_tlbsync_is_found() {
    is_found(Mutation::NoTlbsync, CpuModel::Zen3, 16, |_| {});
}

#[test]
fn a_forgotten_shootdown_is_found_among_lazy_ones() {
    is_found(Mutation::ForgetShootdown, CpuModel::Haswell, 16, |_| {});
}

#[test]
fn a_generation_that_wraps_to_zero_is_found() {
    let almost = |system: &System<SimMachine>| system.set_pcid_generation((1 << 48) - 1);
    is_found(Mutation::GenerationZero, CpuModel::Haswell, 3, almost);
    each(scenes(&[CpuModel::Haswell], &[3], 250, false), |scene| {
        let (report, statistics) = play(scene, almost);
        assert!(
            report.is_clean() && statistics.pcid_generations > 0,
            "{scene:?}: {:?}",
            report.first_failures
        );
    });
}

#[test]
fn an_invalidation_that_could_move_to_another_cpu_is_found() {
    let options = Options::default();
    let scene = Scene { cpu_model: CpuModel::Haswell, pcids: 16, seed: 1, steps: 250, early: false, options };
    let moved = catch_unwind(AssertUnwindSafe(|| {
        play(scene, |system| system.set_mutation(Some(Mutation::Unpinned)));
    }));
    let payload = moved.unwrap_err();
    assert!(payload.downcast_ref::<&str>().is_some_and(|words| words.contains("could move")), "H-19");
}

/// H-79: a CPU out of service hears of nothing.
#[test]
fn a_cpu_that_comes_back_into_service_uses_nothing_old() {
    for mutation in [None, Some(Mutation::NoFlushOnStart)] {
        let system =
            system(Config { cpus: 2, frames: 128, adversary: Adversary::tame(), ..Config::default() });
        system.set_mutation(mutation);
        let machine = system.machine();
        let at = pmap::Machine::kernel_window(machine).start();
        let frame = machine.run_cpu(cpu(0), || {
            system.start_cpu();
            let frame = machine.allocate_data_frame(true).unwrap();
            system.qenter(at, &[frame]).unwrap();
            frame
        });
        machine.run_cpu(cpu(1), || {
            system.start_cpu();
            machine.supervisor_read(at).unwrap();
            system.stop_cpu();
        });
        machine.run_cpu(cpu(0), || {
            system.qremove(at, 1).unwrap();
            machine.free_data_frame(frame);
        });
        assert_eq!(machine.report().ipis, 0, "it is not interrupted");
        machine.run_cpu(cpu(1), || {
            system.start_cpu();
            assert_eq!(machine.supervisor_read(at).is_err(), mutation.is_none());
        });
        assert_eq!(machine.report().is_clean(), mutation.is_none());
    }
}

/// H-79: the processor may walk the tables that it came with, under the kernel's PCID, until they are replaced.
#[test]
fn a_cpu_that_comes_into_service_keeps_nothing_of_the_tables_that_it_came_with() {
    for mutation in [None, Some(Mutation::NoFlushOnStart)] {
        let cpu_model = CpuModel::Haswell;
        let system = system(Config {
            cpus: 1,
            frames: 128,
            cpu_model,
            adversary: Adversary::tame(),
            ..Config::default()
        });
        system.set_mutation(mutation);
        let machine = system.machine();
        machine.run_cpu(cpu(0), || {
            // Any tables but the kernel's will do.
            let boot = system.create().unwrap();
            let cr3 = Cr3 { root: boot.root(), pcid: Pcid::KERNEL, no_flush: false };
            // SAFETY: the software machine executes nothing through its tables.
            unsafe { pmap::Machine::load_cr3(machine, cr3) };
            system.start_cpu();
        });
        assert_eq!(machine.report().is_clean(), mutation.is_none());
    }
}

/// A panic of the caller's ranges neither ends the section before the flush nor leaves the flush delayed for good.
#[test]
fn rights_taken_before_a_panic_are_flushed() {
    let system = system(Config { cpus: 1, frames: 128, adversary: Adversary::tame(), ..Config::default() });
    let machine = system.machine();
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        let space = system.create().unwrap();
        space.activate();
        let va = VirtAddr(0x40_0000);
        let frame = machine.allocate_data_frame(true).unwrap();
        let rights = Protection::READ | Protection::WRITE;
        space.enter(va, frame, rights, Access::Write, EnterFlags::empty()).unwrap();
        machine.write(va, 1).unwrap();
        let ranges = std::iter::once(VirtRange::page_of(va))
            .chain(std::iter::once_with(|| panic!("there is no second range")));
        let caught = catch_unwind(AssertUnwindSafe(|| space.protect_ranges(ranges, Protection::READ)));
        assert!(caught.is_err());
        assert!(machine.write(va, 2).is_err(), "the right is gone");
        system.remove_write(system.page(frame).unwrap());
        let before = machine.report().invalidations;
        space.protect(VirtRange::page_of(va), Protection::READ);
        assert_eq!(machine.report().invalidations, before, "no flush is delayed any more");
        system.activate_kernel();
        space.destroy().unwrap();
    });
    assert_clean(&system);
}

/// H-22. Two CPUs with interrupts disabled shoot at each other while each waits for a lock that the other holds.
/// Returns whether the machine has no objections, and the number of interrupts.
fn shoot_at_each_other(seed: u64, mutation: Option<Mutation>) -> (bool, u64) {
    let system = system(Config { mode: Mode::Deterministic, ..deterministic(2, 128, seed) });
    system.set_mutation(mutation);
    let machine = system.machine();
    let space = machine.run_cpu(cpu(0), || {
        system.start_cpu();
        system.create().unwrap()
    });
    let locks = [Mutex::new(0_u32), Mutex::new(0)];
    let body = |id: pmap::CpuId| {
        system.start_cpu();
        space.activate();
        let me = id.index();
        let at = VirtAddr(0x10_0000 * (me as u64 + 1));
        for _ in 0..20 {
            pmap::Machine::without_interrupts(machine, || {
                {
                    let _own = locks[me].lock();
                    let frame = machine.allocate_data_frame(true).unwrap();
                    space.enter(at, frame, Protection::READ, Access::Read, EnterFlags::empty()).unwrap();
                    machine.read(at).unwrap();
                    space.remove(VirtRange::page_of(at));
                    machine.free_data_frame(frame);
                }
                *locks[1 - me].lock() += 1;
            });
        }
        system.activate_kernel();
    };
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| machine.run_cpus(body))) {
        std::mem::forget(space);
        std::panic::resume_unwind(panic);
    }
    machine.run_cpu(cpu(0), || drop(space));
    assert_eq!(locks.map(Mutex::into_inner), [20, 20]);
    let report = machine.report();
    (report.is_clean(), report.ipis)
}

#[test]
fn who_waits_with_interrupts_disabled_serves_requests() {
    each(seeds(SEEDS), |seed| {
        let (clean, ipis) = shoot_at_each_other(seed, None);
        assert!(clean && ipis > 20, "seed {seed}: {ipis}");
        let stuck = catch_unwind(AssertUnwindSafe(|| shoot_at_each_other(seed, Some(Mutation::DeafWaiter))));
        let payload = stuck.expect_err("it hangs");
        let words = payload.downcast_ref::<String>().expect("a report");
        assert!(words.contains("livelock") || words.contains("deadlock"), "seed {seed}: {words}");
    });
}
