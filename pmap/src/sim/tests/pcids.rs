//! What PCIDs keep apart, and what each instruction must drop under which of them.
//!
//! As in `invalidation`, every case fills a translation, redirects the table entry, performs the operation, and sees by the value
//! read which of the two the CPU used.

use super::super::CpuModel;
use super::*;
use crate::machine::Guarantee;
use crate::translation::{Invlpgb, Invpcid, Stride};

const KERNEL: VirtAddr = VirtAddr(0xffff_9000_0000_0000);

fn pcid(number: u16) -> Pcid {
    Pcid::new(number).unwrap()
}

fn on(cpu_model: CpuModel, cpus: usize) -> SimMachine {
    machine(Config { cpu_model, ..tame(cpus) })
}

/// Two address spaces under PCIDs 1 and 2, the second one current, each with a stale translation of `VA`, and a stale global one
/// of `KERNEL`. After `operation`: is the old one still used for `VA` under 1, under 2, and for `KERNEL`?
fn kept(machine: &SimMachine, operation: impl FnOnce(&SimMachine)) -> [bool; 3] {
    machine.run_cpu(cpu(0), || {
        let spaces = [Tables::new(machine), Tables::new(machine)];
        for (tables, number) in spaces.iter().zip(1..) {
            tables.load(pcid(number), false);
            for (va, bits) in [(VA, P | U), (KERNEL, P | U | G)] {
                tables.map_value(va, 1, bits);
                assert_eq!(machine.read(va), Ok(1));
            }
        }
        for tables in &spaces {
            tables.map_value(VA, 2, P | U);
            tables.map_value(KERNEL, 2, P | U | G);
        }
        operation(machine);
        let global = machine.read(KERNEL) == Ok(1);
        let second = machine.read(VA) == Ok(1);
        spaces[0].load(pcid(1), true);
        let first = machine.read(VA) == Ok(1);
        assert!(machine.report().is_clean(), "{:?}", machine.report().first_failures);
        [first, second, global]
    })
}

#[test]
fn every_instruction_drops_what_it_must_and_nothing_else() {
    let broadcast = |what: Invlpgb| {
        move |m: &SimMachine| {
            m.invlpgb(what);
            m.tlbsync();
        }
    };
    let all = Invlpgb { va: None, more: 0, stride: Stride::Page, pcid: None, globals: false };
    let one = Invlpgb { va: Some(VA), ..all };
    type Operation = Box<dyn FnOnce(&SimMachine)>;
    use std::boxed::Box;
    let table: [(&str, Operation, [bool; 3]); 15] = [
        ("nothing", Box::new(|_| {}), [true, true, true]),
        ("INVLPG", Box::new(|m| m.invalidate_page(VA)), [true, false, true]),
        ("INVLPG of a global page", Box::new(|m| m.invalidate_page(KERNEL)), [true, true, false]),
        ("CR4.PGE", Box::new(SimMachine::invalidate_everything), [false, false, false]),
        (
            "INVPCID 0, other",
            Box::new(|m| m.invpcid(Invpcid::Address { pcid: pcid(1), va: VA })),
            [false, true, true],
        ),
        (
            "INVPCID 0, global page",
            Box::new(|m| m.invpcid(Invpcid::Address { pcid: pcid(2), va: KERNEL })),
            [true, true, true],
        ),
        ("INVPCID 1", Box::new(|m| m.invpcid(Invpcid::Context { pcid: pcid(1) })), [false, true, true]),
        ("INVPCID 1, own", Box::new(|m| m.invpcid(Invpcid::Context { pcid: pcid(2) })), [true, false, true]),
        ("INVPCID 2", Box::new(|m| m.invpcid(Invpcid::AllWithGlobals)), [false, false, false]),
        ("INVPCID 3", Box::new(|m| m.invpcid(Invpcid::AllButGlobals)), [false, false, true]),
        ("INVLPGB, one page", Box::new(broadcast(one)), [false, false, true]),
        (
            "INVLPGB, one page and PCID",
            Box::new(broadcast(Invlpgb { pcid: Some(pcid(1)), ..one })),
            [false, true, true],
        ),
        ("INVLPGB, all", Box::new(broadcast(all)), [false, false, true]),
        (
            "INVLPGB, all, globals",
            Box::new(broadcast(Invlpgb { globals: true, ..all })),
            [false, false, false],
        ),
        (
            "INVLPGB, a global page",
            Box::new(broadcast(Invlpgb { va: Some(KERNEL), globals: true, ..all })),
            [true, true, false],
        ),
    ];
    for (name, operation, expected) in table {
        assert_eq!(kept(&on(CpuModel::Zen3, 1), operation), expected, "{name}");
    }
    // On a small core INVLPG leaves the global translation.
    let machine = on(CpuModel::AlderLake, 2);
    machine.run_cpu(cpu(1), || {
        let tables = Tables::new(&machine);
        tables.activate();
        tables.map_value(KERNEL, 1, P | U | G);
        machine.read(KERNEL).unwrap();
        tables.map_value(KERNEL, 2, P | U | G);
        machine.invalidate_page(KERNEL);
        assert_eq!((machine.invlpg_misses_globals(), machine.read(KERNEL)), (true, Ok(1)));
        machine.invpcid(Invpcid::AllWithGlobals);
        assert_eq!(machine.read(KERNEL), Ok(2));
    });
}

#[test]
fn a_load_without_the_bit_drops_its_own_pcid_only() {
    let machine = on(CpuModel::SandyBridge, 1);
    machine.run_cpu(cpu(0), || {
        let spaces = [Tables::new(&machine), Tables::new(&machine)];
        for (tables, number) in spaces.iter().zip(1..) {
            tables.load(pcid(number), false);
            tables.map_value(VA, 1, P | U);
            assert_eq!(machine.read(VA), Ok(1));
            tables.map_value(VA, 2, P | U);
        }
        spaces[0].load(pcid(1), true);
        assert_eq!(machine.read(VA), Ok(1));
        spaces[1].load(pcid(2), false);
        assert_eq!(machine.read(VA), Ok(2));
        spaces[0].load(pcid(1), true);
        assert_eq!(machine.read(VA), Ok(1));
    });
}

#[test]
fn structure_caches_are_kept_by_pcid() {
    let machine = on(CpuModel::Haswell, 1);
    machine.run_cpu(cpu(0), || {
        let next = VA.wrapping_add(0x3000);
        let spaces = [Tables::new(&machine), Tables::new(&machine)];
        for (tables, number) in spaces.iter().zip(1..) {
            tables.load(pcid(number), false);
            tables.map_value(VA, 1, P | U);
            tables.map_value(next, 1, P | U);
            machine.read(VA).unwrap();
            // From here on the directory leads to another table, which the caches do not know.
            tables.entry(VA, 2).store(0, SeqCst);
            tables.map_value(next, 2, P | U);
        }
        // INVLPG of any page drops the current PCID's, not the other's.
        machine.invalidate_page(KERNEL);
        assert_eq!(machine.read(next), Ok(2));
        spaces[0].load(pcid(1), true);
        assert_eq!(machine.read(next), Ok(1));
    });
}

#[test]
fn a_stride_of_large_pages_leaves_small_ones_between_the_steps() {
    for (stride, more, left) in [(Stride::LargePage, 1, 2), (Stride::Page, 2, 1)] {
        let machine = on(CpuModel::Zen3, 1);
        machine.run_cpu(cpu(0), || {
            let tables = Tables::new(&machine);
            tables.activate();
            let base = VirtAddr(VA.0 & !0x1f_ffff);
            let pages = [0, 1, 2, 512].map(|i| base.wrapping_add(i << 12));
            for va in pages {
                tables.map_value(va, 1, P | U);
                assert_eq!(machine.read(va), Ok(1));
                tables.map_value(va, 2, P | U);
            }
            machine.invlpgb(Invlpgb { va: Some(base), more, stride, pcid: None, globals: false });
            machine.tlbsync();
            assert_eq!(pages.iter().filter(|va| machine.read(**va) == Ok(1)).count(), left, "{stride:?}");
        });
    }
}

#[test]
fn only_the_senders_tlbsync_waits_for_a_broadcast() {
    let machine = on(CpuModel::Zen3, 2);
    let tables = Tables::new(&machine);
    let frame = tables.map_value(VA, 1, P | U);
    machine.run_cpu(cpu(0), || {
        tables.activate();
        machine.read(VA).unwrap();
    });
    let what = Invlpgb { va: Some(VA), more: 0, stride: Stride::Page, pcid: None, globals: true };
    machine.run_cpu(cpu(1), || {
        tables.entry(VA, 1).store(0, SeqCst);
        machine.invlpgb(what);
    });
    machine.run_cpu(cpu(0), || machine.tlbsync());
    machine.guarantee(Guarantee::Unmapped { root: tables.root, range: page(VA) });
    assert_eq!(machine.report().forbidden_entries, 1, "CPU 0 waited for its own broadcasts");
    machine.run_cpu(cpu(1), || machine.tlbsync());
    machine.free_data_frame(frame);
    assert_eq!(machine.report().forbidden_entries, 1, "CPU 1 has waited for it");
}

#[test]
fn what_a_processor_lacks_or_cannot_do_is_noticed() {
    type Mistake = fn(&SimMachine, &Tables<'_>);
    let mistakes: [(CpuModel, Mistake); 6] = [
        (CpuModel::Core2, |_, tables| tables.load(pcid(1), false)),
        (CpuModel::Athlon64, |_, tables| tables.load(Pcid::KERNEL, true)),
        (CpuModel::SandyBridge, |m, _| m.invpcid(Invpcid::AllButGlobals)),
        (CpuModel::Haswell, |m, _| m.tlbsync()),
        (CpuModel::Zen3, |m, _| {
            m.invlpgb(Invlpgb { va: Some(VA), more: 8, stride: Stride::Page, pcid: None, globals: false });
        }),
        (CpuModel::Zen3, |m, _| {
            m.invlpgb(Invlpgb {
                va: Some(VA),
                more: 0,
                stride: Stride::LargePage,
                pcid: None,
                globals: false,
            });
        }),
    ];
    for (model, mistake) in mistakes {
        let machine = on(model, 1);
        machine.run_cpu(cpu(0), || mistake(&machine, &Tables::new(&machine)));
        assert_eq!(machine.report().forbidden_entries, 1, "{model}");
    }
}

/// Leaves a translation that a guarantee forbids under PCID 1 while PCID 2 is loaded; then `after`. Returns the number of forbidden
/// entries.
fn condemned(after: impl FnOnce(&SimMachine, &Tables<'_>)) -> u64 {
    let machine = on(CpuModel::Haswell, 1);
    machine.run_cpu(cpu(0), || {
        let spaces = [Tables::new(&machine), Tables::new(&machine)];
        spaces[0].load(pcid(1), false);
        let frame = spaces[0].map_value(VA, 1, P | U | MANAGED);
        machine.read(VA).unwrap();
        spaces[1].load(pcid(2), false);
        spaces[0].entry(VA, 1).store(0, SeqCst);
        machine.guarantee(Guarantee::Unmapped { root: spaces[0].root, range: page(VA) });
        machine.guarantee(Guarantee::PageUnmapped { frame });
        machine.free_data_frame(frame);
        assert!(machine.report().is_clean(), "it cannot be used: {:?}", machine.report().first_failures);
        after(&machine, &spaces[0]);
    });
    machine.report().forbidden_entries
}

#[test]
fn what_cannot_be_used_is_wrong_only_when_it_can_be() {
    assert_eq!(condemned(|_, first| first.load(pcid(1), true)), 1, "usable again");
    assert_eq!(condemned(|_, first| first.load(pcid(1), false)), 0, "dropped by the load");
    assert_eq!(condemned(|_, first| first.load(pcid(3), false)), 0, "another PCID");
    assert_eq!(
        condemned(|m, first| {
            m.invpcid(Invpcid::Context { pcid: pcid(1) });
            first.load(pcid(1), true);
        }),
        0,
        "dropped before"
    );
}

#[test]
fn a_pcid_is_not_handed_on_with_what_it_held() {
    let machine = on(CpuModel::Haswell, 1);
    machine.run_cpu(cpu(0), || {
        let spaces = [Tables::new(&machine), Tables::new(&machine)];
        spaces[0].load(pcid(1), false);
        spaces[0].map_value(VA, 1, P | U);
        machine.read(VA).unwrap();
        spaces[1].load(pcid(1), true);
    });
    let report = machine.report();
    // The translation, the three tables that lead to it, and what might have been walked beside.
    assert_eq!(report.forbidden_entries, 5);
    assert!(report.first_failures[0].contains("another address space"), "{:?}", report.first_failures);
}

#[test]
fn tables_freed_under_another_pcid_are_condemned_too() {
    let machine = on(CpuModel::Haswell, 1);
    machine.run_cpu(cpu(0), || {
        let spaces = [Tables::new(&machine), Tables::new(&machine)];
        spaces[0].load(pcid(1), false);
        spaces[0].map_value(VA, 1, P | U);
        machine.read(VA).unwrap();
        spaces[1].load(pcid(2), false);
        let table = spaces[0].table(VA, 1);
        // SAFETY: nothing but simulated hardware refers to it, which is what is tested.
        unsafe { machine.free_frame(table, FrameUse::PageTable) };
        assert!(machine.report().is_clean());
        spaces[0].load(pcid(1), true);
        assert_eq!(machine.report().forbidden_entries, 1);
    });
}

#[test]
fn a_global_translation_on_a_cpu_that_nobody_runs_is_judged_when_it_is_used() {
    for flush in [true, false] {
        let machine = on(CpuModel::Haswell, 2);
        let tables = Tables::new(&machine);
        tables.map_value(KERNEL, 1, P | G);
        machine.run_cpu(cpu(1), || {
            tables.activate();
            machine.supervisor_read(KERNEL).unwrap();
        });
        tables.entry(KERNEL, 1).store(0, SeqCst);
        machine.run_cpu(cpu(0), || {
            machine.guarantee(Guarantee::Unmapped { root: tables.root, range: page(KERNEL) });
        });
        assert!(machine.report().is_clean());
        machine.run_cpu(cpu(1), || {
            if flush {
                machine.invalidate_everything();
            }
            let _ = machine.supervisor_read(KERNEL);
        });
        assert_eq!(machine.report().forbidden_entries, u64::from(!flush));
    }
}
