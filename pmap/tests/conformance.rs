//! The conformance suite: the software machine passes it in every configuration, and a machine that breaks a rule does not.

#[path = "support/broken.rs"]
mod broken;
mod support;

use std::collections::BTreeSet;
use std::mem::ManuallyDrop;
use std::sync::Barrier;

use broken::{Broken, Eager, Fault, Open};
use gencount::Implementation;
use lock_api::{RawMutex, RawRwLock};
use pmap::conformance::{Outcome, Rule, SetupError, Suite};
use pmap::mutation::Mutation;
use pmap::sim::{self, Adversary, Config, CpuModel, Mode, SimMachine};
use pmap::{Access, EnterFlags, Frame, FrameUse, Machine, Protection, System, VirtAddr};
use support::{assert_clean, cpu};

/// Runs the suite on a system of the software machine, or of one around it.
fn run<M: Machine>(
    system: &System<M>,
    sim: &SimMachine,
    patience: u64,
    when_started: impl Fn() + Sync,
) -> Result<Vec<Outcome>, Rule> {
    let suite = sim.run_cpu(cpu(0), || {
        system.start_cpu();
        let frames = [0, 1].map(|_| sim.allocate_data_frame(true).expect("a frame"));
        let suite = Suite::new(system, frames).expect("frames").with_patience(patience);
        // What a broken machine leaves cannot be taken down.
        (ManuallyDrop::new(suite), frames)
    });
    let (suite, frames) = suite;
    let results = sim.run_cpus(|_| {
        system.start_cpu();
        when_started();
        suite.run(|va| sim.supervisor_read(va).expect("it is mapped"))
    });
    let outcomes: Result<Vec<_>, _> = results.expect("threads").into_iter().collect();
    if outcomes.is_ok() {
        sim.run_cpu(cpu(0), || {
            ManuallyDrop::into_inner(suite).finish();
            frames.into_iter().for_each(|frame| sim.free_data_frame(frame));
        });
    }
    outcomes.map_err(|broken| broken.rule)
}

const PATIENT: u64 = 1 << 40;

fn passes(config: Config) -> Vec<Outcome> {
    let system = System::new(SimMachine::new(config).expect("a machine")).expect("a system");
    let machine = system.machine();
    let before = machine.free_frames();
    let outcomes = run(&system, machine, PATIENT, || {}).unwrap_or_else(|rule| panic!("{config:?}: {rule}"));
    machine.run_cpu(cpu(0), || assert_clean(&system));
    assert!(machine.free_frames() + 4 >= before, "what was borrowed came back");
    outcomes
}

#[test]
fn every_cpu_model_passes_with_every_implementation_of_delayed_invalidation() {
    for cpu_model in CpuModel::ALL {
        for di in Implementation::ALL.into_iter().filter(|di| cpu_model.can_run(*di)) {
            for adversary in [Adversary::tame(), Adversary::fierce()] {
                let outcomes =
                    passes(Config { cpus: 3, frames: 256, cpu_model, di, adversary, ..Config::default() });
                assert_eq!(outcomes.iter().map(|o| o.cpu).collect::<BTreeSet<_>>().len(), 3);
                assert!(outcomes.iter().all(|o| o.checks > 20), "{outcomes:?}");
                if adversary == Adversary::tame() {
                    assert!(outcomes.iter().all(|o| o.unobserved.is_empty()), "{cpu_model}: {outcomes:?}");
                }
            }
        }
    }
}

#[test]
fn few_pcids_one_cpu_and_one_at_a_time_pass_too() {
    let config = Config { frames: 256, ..Config::default() };
    passes(Config { pcids: 2, ..config });
    passes(Config { cpus: 1, ..config });
    for seed in 0..4 {
        passes(Config { cpus: 3, mode: Mode::Deterministic, seed, adversary: Adversary::fierce(), ..config });
    }
    passes(Config { cpus: 2, domains: 2, early_acknowledgements: true, ..config });
}

fn finds<L, R>(fault: Fault, cpu_model: CpuModel) -> Option<Rule>
where
    L: RawMutex + Send + Sync,
    R: RawRwLock + Send + Sync,
{
    let config =
        Config { cpus: 2, frames: 256, cpu_model, adversary: Adversary::tame(), ..Config::default() };
    let machine = Broken::<L, R>::new(SimMachine::new(config).expect("a machine"), fault);
    let system = ManuallyDrop::new(System::new(machine).expect("a system"));
    let started = Barrier::new(2);
    let when_started = || {
        if started.wait().is_leader() {
            system.machine().arm();
        }
        started.wait();
    };
    run(&system, &system.machine().sim, 20_000, when_started).err()
}

/// Each fault, the processor on which it shows, and the rule that is to be named.
const FAULTS: &[(Fault, CpuModel, Rule)] = &[
    (Fault::GivesFrameZero, CpuModel::Haswell, Rule::FrameOutsideMemory),
    (Fault::GivesForeignFrames, CpuModel::Haswell, Rule::FrameOutsideMemory),
    (Fault::GivesFramesTwice, CpuModel::Haswell, Rule::FrameTwice),
    (Fault::GivesDirtyFrames, CpuModel::Haswell, Rule::FrameNotZeroed),
    (Fault::KeepsFrames, CpuModel::Haswell, Rule::FrameNotReturned),
    (Fault::WrongFrameAt, CpuModel::Haswell, Rule::FrameAt),
    (Fault::WanderingDirectMap, CpuModel::Haswell, Rule::DirectMapMoves),
    (Fault::OverlappingDirectMap, CpuModel::Haswell, Rule::DirectMapOverlaps),
    (Fault::ChangingWindow, CpuModel::Haswell, Rule::Changing),
    (Fault::DomainBeyond, CpuModel::Haswell, Rule::Domains),
    (Fault::OnePcid, CpuModel::Haswell, Rule::TlbFeatures),
    (Fault::TwoCpusAlike, CpuModel::Haswell, Rule::CpuTwice),
    (Fault::CpuBeyond, CpuModel::Haswell, Rule::CpuBeyond),
    (Fault::WanderingCpu, CpuModel::Haswell, Rule::CpuMoves),
    (Fault::NeverPinned, CpuModel::Haswell, Rule::NotPinned),
    (Fault::ForgetfulInvlpg, CpuModel::Haswell, Rule::InvalidatePage),
    (Fault::InvlpgOfSmallCores, CpuModel::AlderLake, Rule::InvalidatePageGlobal),
    (Fault::InvlpgOfOnePcid, CpuModel::Haswell, Rule::InvalidatePageGlobalElsewhere),
    (Fault::NoFullFlush, CpuModel::Core2, Rule::InvalidateEverything),
    (Fault::FullFlushKeepsGlobals, CpuModel::Haswell, Rule::InvalidateEverythingGlobal),
    (Fault::FullFlushOfOnePcid, CpuModel::Haswell, Rule::InvalidateEverythingPcids),
    (Fault::LoadsKeepEverything, CpuModel::Core2, Rule::LoadCr3),
    (Fault::LoadsKeepEverything, CpuModel::SandyBridge, Rule::LoadCr3),
    (Fault::OnePcidForAll, CpuModel::Haswell, Rule::PcidsApart),
    (Fault::NoInvpcid, CpuModel::Haswell, Rule::InvpcidAddress),
    (Fault::InvpcidOfCurrent, CpuModel::Haswell, Rule::InvpcidContext),
    (Fault::NoGlobalInvpcid, CpuModel::Haswell, Rule::InvpcidAllGlobal),
    (Fault::InvpcidAllOfCurrent, CpuModel::Haswell, Rule::InvpcidAll),
    (Fault::InvpcidAllButGlobalsOfCurrent, CpuModel::Haswell, Rule::InvpcidAllButGlobals),
    (Fault::InvlpgbKeepsGlobals, CpuModel::Zen3, Rule::InvlpgbHere),
    (Fault::LocalInvlpgb, CpuModel::Zen3, Rule::InvlpgbElsewhere),
    (Fault::SendsNothing, CpuModel::Haswell, Rule::ShootdownServed),
    (Fault::InterruptsAreNeverMasked, CpuModel::Haswell, Rule::InterruptsMasked),
    (Fault::OneParticipant, CpuModel::Haswell, Rule::ParticipantShared),
    (Fault::WanderingParticipant, CpuModel::Haswell, Rule::ParticipantMoves),
    (Fault::ManyDomains, CpuModel::Haswell, Rule::ParticipantDomains),
];

#[test]
fn a_broken_rule_is_found_and_named() {
    assert_eq!(finds::<sim::RawMutex, sim::RawRwLock>(Fault::None, CpuModel::Zen3), None);
    for (fault, cpu_model, rule) in FAULTS {
        assert_eq!(finds::<sim::RawMutex, sim::RawRwLock>(*fault, *cpu_model), Some(*rule), "{fault:?}");
    }
}

#[test]
fn locks_that_do_not_exclude_are_found() {
    let model = CpuModel::Haswell;
    assert_eq!(finds::<Open, sim::RawRwLock>(Fault::None, model), Some(Rule::MutexExcludes));
    assert_eq!(finds::<sim::RawMutex, Open>(Fault::None, model), Some(Rule::RwLockExcludes));
    assert_eq!(finds::<Eager<sim::RawMutex>, sim::RawRwLock>(Fault::None, model), Some(Rule::MutexTryLock));
    assert_eq!(finds::<sim::RawMutex, Eager<sim::RawRwLock>>(Fault::None, model), Some(Rule::RwLockTryLock));
}

/// A handler that trusts INVLPG on a processor where it misses global translations.
#[test]
fn a_handler_that_does_too_little_is_found() {
    let config =
        Config { cpus: 2, cpu_model: CpuModel::AlderLake, adversary: Adversary::tame(), ..Config::default() };
    let system = System::new(SimMachine::new(config).expect("a machine")).expect("a system");
    let system = ManuallyDrop::new(system);
    system.set_mutation(Some(Mutation::TrustInvlpg));
    assert_eq!(run(&system, system.machine(), PATIENT, || {}), Err(Rule::ShootdownEffect));
}

/// What is read is what neither frame holds.
#[test]
fn a_probe_that_reads_something_else_is_found() {
    let system = System::new(SimMachine::new(Config { cpus: 1, ..Config::default() }).expect("a machine"));
    let system = ManuallyDrop::new(system.expect("a system"));
    let machine = system.machine();
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        let frames = [0, 1].map(|_| machine.allocate_data_frame(true).expect("a frame"));
        let suite = ManuallyDrop::new(Suite::new(&system, frames).expect("a suite"));
        assert_eq!(suite.run(|_| 5).expect_err("it lies").rule, Rule::WrongTranslation);
    });
}

/// Every rule is found broken by some test here.
#[test]
fn no_rule_is_there_for_nothing() {
    // The software machine has no instruction that spares paging-structure caches.
    let cannot_be_broken = [Rule::InvalidatePageTables];
    let elsewhere = [
        Rule::MutexExcludes,
        Rule::MutexTryLock,
        Rule::RwLockExcludes,
        Rule::RwLockTryLock,
        Rule::ShootdownEffect,
        Rule::WrongTranslation,
        Rule::TooManyThreads,
    ];
    for rule in Rule::ALL {
        let rows = FAULTS.iter().filter(|(_, _, named)| named == rule).count();
        let others = cannot_be_broken.iter().chain(&elsewhere).filter(|named| *named == rule).count();
        assert!(rows > 0 && others == 0 || rows == 0 && others == 1, "{rule:?}");
    }
}

#[test]
fn misuse_is_an_error_value() {
    let system = System::new(SimMachine::new(Config { cpus: 1, ..Config::default() }).expect("a machine"))
        .expect("a system");
    let machine = system.machine();
    machine.run_cpu(cpu(0), || {
        system.start_cpu();
        let frame = machine.allocate_data_frame(true).expect("a frame");
        let own = machine.allocate_frame(FrameUse::PageTable).expect("a frame");
        let beyond = Frame(1 << 30);
        assert_eq!(Suite::new(&system, [frame, beyond]).map(|_| ()).unwrap_err(), SetupError::Frame(beyond));
        let refused = |frames| Suite::new(&system, frames).map(|_| ()).unwrap_err();
        assert_eq!(refused([frame, frame]), SetupError::Frame(frame), "no two values in one frame");
        let space = system.create().expect("memory");
        space
            .enter(VirtAddr(0x1000), frame, Protection::READ, Access::Read, EnterFlags::empty())
            .expect("memory");
        assert_eq!(refused([own, frame]), SetupError::Frame(frame), "it is somebody's");
        drop(space);
        let suite = Suite::new(&system, [frame, own]).expect("a suite");
        let read = |va| machine.supervisor_read(va).expect("it is mapped");
        assert!(suite.run(read).is_ok());
        let again = suite.run(read).unwrap_err();
        assert_eq!(again.rule, Rule::TooManyThreads);
        assert!(again.to_string().contains("once on each CPU"), "{again}");
        suite.finish();
        assert!(!system.page_is_mapped(system.page(frame).expect("a record")));
    });
}
