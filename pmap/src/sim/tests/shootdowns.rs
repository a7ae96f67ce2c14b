//! A small memory manager over one address space, right or wrong on purpose: the machine must not complain
//! about the right one, and must find every wrong one.

use gencount::{GenerationWord, Implementation};

use super::super::{Mode, Mutex, Report};
use super::*;
use crate::CpuSet;
use crate::machine::Guarantee;
use crate::shootdown::{Invalidation, Scope};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Mistake {
    None,
    /// One CPU is not asked.
    ForgetOne,
    /// The frame is freed before the others have invalidated.
    FreeFirst,
    /// Write protection without invalidation.
    NoFlushOnProtect,
}

const PAGES: u64 = 6;

/// Every CPU accesses pages and, now and then, unmaps, protects and maps them.
fn run(config: Config, rounds: u64, mistake: Mistake) -> Report {
    let machine = machine(config);
    let tables = Tables::new(&machine);
    let pages: std::vec::Vec<Mutex<Frame>> = (0..PAGES)
        .map(|i| Mutex::new(tables.map_value(VA.wrapping_add(i << 12), i, P | U | W | MANAGED)))
        .collect();
    machine
        .run_cpus(|id| {
            tables.activate();
            let mut dice = config.seed ^ (id.index() as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            for _ in 0..rounds {
                dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let i = (dice >> 33) % PAGES;
                let va = VA.wrapping_add(i << 12);
                match (dice >> 40) % 8 {
                    0 => replace(&machine, &tables, &pages[i as usize], va, mistake),
                    1 => protect(&machine, &tables, &pages[i as usize], va, mistake),
                    2..4 => drop(machine.write(va, dice)),
                    _ => drop(machine.read(va)),
                }
            }
        })
        .unwrap();
    machine.report()
}

fn others(machine: &SimMachine, mistake: Mistake) -> CpuSet {
    let me = machine.current_cpu();
    let mut targets: CpuSet = (0..machine.cpu_count()).map(cpu).filter(|c| *c != me).collect();
    if mistake == Mistake::ForgetOne {
        targets.remove(cpu((me.index() + 1) % machine.cpu_count()));
    }
    targets
}

fn flush(machine: &SimMachine, tables: &Tables<'_>, va: VirtAddr, mistake: Mistake) {
    let what = Invalidation::of_page(va);
    let targets = others(machine, mistake);
    let scope = Scope::Root(tables.root);
    Pinned::run(machine, |here| {
        machine.shootdowns().invalidate(machine, here, scope, what, &targets, true, false);
    });
}

fn replace(machine: &SimMachine, tables: &Tables<'_>, slot: &Mutex<Frame>, va: VirtAddr, mistake: Mistake) {
    let mut frame = slot.lock();
    machine.point();
    tables.entry(va, 1).store(0, SeqCst);
    machine.point();
    if mistake == Mistake::FreeFirst {
        machine.free_data_frame(*frame);
    }
    flush(machine, tables, va, mistake);
    machine.guarantee(Guarantee::Unmapped { root: tables.root, range: page(va) });
    machine.guarantee(Guarantee::PageUnmapped { frame: *frame });
    if mistake != Mistake::FreeFirst {
        machine.free_data_frame(*frame);
    }
    *frame = tables.map_value(va, 0, P | U | W | MANAGED);
}

fn protect(machine: &SimMachine, tables: &Tables<'_>, slot: &Mutex<Frame>, va: VirtAddr, mistake: Mistake) {
    let frame = slot.lock();
    tables.entry(va, 1).fetch_and(!(W | D), SeqCst);
    machine.point();
    if mistake != Mistake::NoFlushOnProtect {
        flush(machine, tables, va, mistake);
    }
    machine.guarantee(Guarantee::Restricted { root: tables.root, range: page(va) });
    machine.guarantee(Guarantee::PageReadOnly { frame: *frame });
    tables.entry(va, 1).fetch_or(W, SeqCst);
}

fn config(mode: Mode, seed: u64) -> Config {
    Config { cpus: 3, seed, mode, adversary: Adversary::fierce(), ..tame(3) }
}

#[test]
fn a_right_program_is_not_accused_and_the_machine_is_nasty_enough() {
    for seed in 1..=4 {
        for (mode, rounds) in [(Mode::Parallel, 4000), (Mode::Deterministic, 400)] {
            let report = run(config(mode, seed), rounds, Mistake::None);
            assert!(report.is_clean(), "{mode:?} {seed}: {:?}", report.first_failures);
            assert!(report.stale_before_guarantee > 0, "{mode:?} {seed}");
            assert!(report.speculative_fills > 0 && report.evictions > 0 && report.pages_reused > 0);
        }
    }
}

#[test]
fn every_mistake_is_found() {
    for mistake in [Mistake::ForgetOne, Mistake::FreeFirst, Mistake::NoFlushOnProtect] {
        for seed in 1..=4 {
            for (mode, rounds) in [(Mode::Parallel, 4000), (Mode::Deterministic, 400)] {
                let report = run(config(mode, seed), rounds, mistake);
                assert!(report.forbidden_entries > 0, "{mode:?} {mistake:?} {seed}");
                assert!(report.first_failures.iter().all(|w| w.contains(&std::format!("seed {seed}"))));
            }
        }
    }
}

#[test]
fn delayed_invalidation_runs_on_the_machine() {
    for di in Implementation::ALL {
        for (mode, rounds) in [(Mode::Parallel, 3000_u64), (Mode::Deterministic, 300)] {
            let machine = machine(Config { di, ..config(mode, 7) });
            let word = GenerationWord::new();
            let marks = Mutex::new(());
            let (begun, finished) = (AtomicU64::new(0), AtomicU64::new(0));
            machine
                .run_cpus(|id| {
                    let participant = machine.participant();
                    for round in 0..rounds {
                        if (round + id.index() as u64).is_multiple_of(4) {
                            let expected = {
                                let _guard = marks.lock();
                                begun.load(SeqCst)
                            };
                            participant.wait(&word);
                            assert!(finished.load(SeqCst) >= expected, "a marked section is still open");
                        } else {
                            let section = participant.begin();
                            {
                                let _guard = marks.lock();
                                section.mark(&word);
                                begun.fetch_add(1, SeqCst);
                            }
                            machine.point();
                            finished.fetch_add(1, SeqCst);
                            drop(section);
                        }
                    }
                })
                .unwrap();
            let counters = machine.counters();
            assert_eq!(counters.di_blocks, begun.load(SeqCst));
            assert!(counters.invl_wait > 0, "{di} {mode:?}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| run(config(Mode::Deterministic, seed), 150, Mistake::ForgetOne);
    let first = history(11);
    assert!(first.history != 0 && first.switches > 0);
    for _ in 0..3 {
        assert_eq!(history(11), first, "every counter and every word");
    }
    let others: std::collections::BTreeSet<u64> = (12..16).map(|seed| history(seed).history).collect();
    assert_eq!(others.len(), 4);
    assert!(!others.contains(&first.history));
}
