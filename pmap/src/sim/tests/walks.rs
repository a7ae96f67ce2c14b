//! The walk: rights, faults, accessed and dirty flags, reserved bits, large pages.

use super::super::{CpuModel, PageFault, SimError};
use super::*;
use crate::Access;

#[test]
fn rights_are_the_conjunction_over_all_levels() {
    // (bits at level 4, 3, 2, 1; user: read, write, fetch; supervisor: read, write)
    // Each right is taken away at each level once (Intel SDM vol. 3, 4.6.1).
    let full = P | W | U;
    let mut table = std::vec![([full; 4], [true, true, true], [true, true])];
    for level in 0..4 {
        let with = |bits: u64| {
            let mut all = [full; 4];
            all[level] = bits;
            all
        };
        table.push((with(P | U), [true, false, true], [true, false]));
        table.push((with(P | W), [false, false, false], [true, true]));
        table.push((with(full | NX), [true, true, false], [true, true]));
        table.push((with(0), [false; 3], [false; 2]));
    }
    for (bits, user, supervisor) in table {
        on_one_cpu(|machine, tables| {
            tables.map_value(VA, 7, P);
            for (level, bits) in (1..=4).zip(bits.into_iter().rev()) {
                let entry = tables.entry(VA, level);
                entry.store((entry.load(SeqCst) & walk::ADDRESS) | bits, SeqCst);
            }
            let user_now =
                [machine.read(VA).map(|_| ()), machine.write(VA, 7), machine.fetch(VA).map(|_| ())];
            let supervisor_now = [machine.supervisor_read(VA).map(|_| ()), machine.supervisor_write(VA, 7)];
            assert_eq!(user_now.map(|r| r.is_ok()), user, "{bits:x?}");
            assert_eq!(supervisor_now.map(|r| r.is_ok()), supervisor, "{bits:x?}");
            let present = bits.iter().all(|b| b & P != 0);
            for fault in user_now.iter().filter_map(|r| r.err()) {
                assert_eq!((fault.va, fault.present), (VA, present), "{bits:x?}");
            }
            assert!(machine.report().is_clean());
        });
    }
}

/// On a processor without the no-execute bit, bit 63 is reserved at every level: the access faults, and the ledger says why.
#[test]
fn without_no_execute_its_bit_is_reserved() {
    for (cpu_model, faults) in [(CpuModel::Nocona, true), (CpuModel::Core2, false)] {
        for level in 1..=4 {
            let machine = machine(Config { cpu_model, ..tame(1) });
            machine.run_cpu(cpu(0), || {
                let tables = Tables::new(&machine);
                tables.activate();
                tables.map_value(VA, 7, P | U);
                assert_eq!(machine.fetch(VA), Ok(7));
                machine.invalidate_page(VA);
                tables.entry(VA, level).fetch_or(NX, SeqCst);
                let result = machine.read(VA);
                assert_eq!(result.is_err(), faults, "{cpu_model}, level {level}");
                assert!(result.err().is_none_or(|fault| fault.present), "a bit of the error code");
                assert_eq!(machine.report().forbidden_entries > 0, faults);
            });
        }
    }
}

#[test]
fn faults_tell_the_kind_of_access() {
    on_one_cpu(|machine, tables| {
        tables.map_value(VA, 1, P | U | NX);
        assert_eq!(machine.write(VA, 0), Err(PageFault { va: VA, access: Access::Write, present: true }));
        assert_eq!(machine.fetch(VA), Err(PageFault { va: VA, access: Access::Execute, present: true }));
        let hole = VirtAddr(0x0000_1000_0000_0000);
        assert_eq!(machine.read(hole), Err(PageFault { va: hole, access: Access::Read, present: false }));
        let not_canonical = VirtAddr(0x0000_8000_0000_0000);
        assert!(machine.read(not_canonical).is_err());
        assert_eq!(machine.report().faults, 3);
    });
}

#[test]
fn loads_set_accessed_on_every_level_and_stores_set_dirty_on_the_leaf() {
    on_one_cpu(|machine, tables| {
        tables.map_value(VA, 1, P | W | U);
        let flags = || [4, 3, 2, 1].map(|level| tables.entry(VA, level).load(SeqCst) & (A | D));
        assert_eq!(flags(), [0; 4]);
        machine.read(VA).unwrap();
        assert_eq!(flags(), [A; 4]);
        machine.write(VA, 2).unwrap();
        assert_eq!(flags(), [A, A, A, A | D]);
        assert_eq!(machine.read(VA), Ok(2));
    });
}

#[test]
fn a_denied_access_leaves_the_leaf_alone() {
    on_one_cpu(|machine, tables| {
        tables.map_value(VA, 1, P | U);
        machine.write(VA, 2).unwrap_err();
        assert_eq!(tables.entry(VA, 1).load(SeqCst) & (A | D), 0);
    });
}

#[test]
fn a_store_through_a_clean_translation_looks_at_the_tables_again() {
    on_one_cpu(|machine, tables| {
        tables.map_value(VA, 1, P | W | U);
        machine.read(VA).unwrap();
        // Write-protected without invalidation: the cached translation is writable but clean.
        tables.entry(VA, 1).fetch_and(!W, SeqCst);
        assert!(machine.write(VA, 2).unwrap_err().present);
        assert_eq!(tables.entry(VA, 1).load(SeqCst) & D, 0);
        assert_eq!(machine.report().stale_before_guarantee, 1);
    });
}

#[test]
fn a_store_through_a_dirty_translation_does_not() {
    on_one_cpu(|machine, tables| {
        let frame = tables.map_value(VA, 1, P | W | U);
        machine.write(VA, 2).unwrap();
        tables.entry(VA, 1).fetch_and(!(W | D), SeqCst);
        machine.write(VA, 3).unwrap();
        assert_eq!(machine.frame_words(frame)[0].load(SeqCst), 3);
        assert_eq!(tables.entry(VA, 1).load(SeqCst) & D, 0, "no walk, no flag");
        machine.read(VA).unwrap();
        let report = machine.report();
        assert_eq!(report.stale_before_guarantee, 1, "counted once");
        assert!(report.is_clean(), "permitted until an invalidation");
    });
}

#[test]
fn a_dirty_flag_never_lands_in_a_cleared_entry() {
    // One CPU stores, the other clears the entry with an exchange and looks at what was in it; the
    // sum of entries seen dirty must not be less than the stores that went through a fresh walk.
    let machine = machine(Config { cpus: 2, ..tame(2) });
    let tables = Tables::new(&machine);
    let frame = tables.map_value(VA, 0, P | W | U);
    let done = AtomicU64::new(0);
    let result = machine.run_cpus(|id| {
        tables.activate();
        if id.index() == 0 {
            for i in 0..2000 {
                let _ = machine.write(VA, i);
                machine.invalidate_page(VA);
            }
            done.store(1, SeqCst);
        } else {
            while done.load(SeqCst) == 0 {
                let old = tables.entry(VA, 1).swap(0, SeqCst);
                assert_eq!(tables.entry(VA, 1).load(SeqCst), 0, "a flag appeared in an empty entry: {old:x}");
                tables.map(VA, frame, P | W | U);
                machine.relax();
            }
        }
    });
    result.unwrap();
}

#[test]
fn large_leaves_translate_by_fragments() {
    let machine = machine(Config { frames: 1200, ..tame(1) });
    machine.run_cpu(cpu(0), || {
        let tables = Tables::new(&machine);
        tables.activate();
        // Frame 512 is the first aligned one; allocate up to and beyond the large page.
        let frames: std::vec::Vec<_> =
            core::iter::from_fn(|| machine.allocate_data_frame(true)).take(1100).collect();
        assert!(frames.contains(&Frame(1023)));
        tables.entry(VA, 2).store(Frame(512).addr().0 | P | W | U | PS, SeqCst);
        for page in [0, 1, 300, 511_u64] {
            let va = VirtAddr((VA.0 & !0x1f_ffff) + page * 4096 + 8);
            machine.frame_words(Frame(512 + page))[1].store(page + 1, SeqCst);
            assert_eq!(machine.read(va), Ok(page + 1));
        }
        assert_eq!(tables.entry(VA, 2).load(SeqCst) & (A | D), A);
        machine.write(VirtAddr(VA.0 & !0x1f_ffff), 9).unwrap();
        assert_eq!(tables.entry(VA, 2).load(SeqCst) & (A | D), A | D);
        assert!(machine.report().is_clean());
    });
}

#[test]
fn what_the_architecture_forbids_in_an_entry_is_reported() {
    let cases: [(u32, u64, &str); 7] = [
        (4, LINK | PS, "large bit in a PML4 entry"),
        (1, P | U | 1 << 46, "a physical address bit beyond the machine's"),
        (2, P | U | PS | 1 << 13, "reserved bits of a 2 MiB leaf"),
        (3, P | U | PS | 1 << 13, "reserved bits of a 1 GiB leaf"),
        (1, P | U, "frame 0"),
        (1, P | U | 4000 << 12, "a frame that the machine has not"),
        (2, LINK | 400 << 12, "a frame that is no page table"),
    ];
    for (level, entry, what) in cases {
        on_one_cpu(|machine, tables| {
            let word = tables.entry(VA, level);
            let kept = if entry & walk::ADDRESS == 0 { word.load(SeqCst) & walk::ADDRESS } else { 0 };
            word.store(entry | kept, SeqCst);
            assert!(machine.read(VA).unwrap_err().present, "{what}");
            let report = machine.report();
            assert!(report.forbidden_entries > 0 && !report.first_failures.is_empty(), "{what}");
        });
    }
}

#[test]
fn speculation_sets_accessed_never_dirty_and_never_faults() {
    let adversary = Adversary { speculate_one_in: 1, ..Adversary::tame() };
    let machine = machine(Config { adversary, ..tame(1) });
    machine.run_cpu(cpu(0), || {
        let tables = Tables::new(&machine);
        tables.activate();
        let near = VA.wrapping_add(4096);
        tables.map_value(VA, 1, P | W | U);
        tables.map_value(near, 2, P | W | U);
        for _ in 0..200 {
            machine.read(VA).unwrap();
        }
        assert!(machine.report().speculative_fills > 0);
        assert_eq!(tables.entry(near, 1).load(SeqCst) & (A | D), A);
        assert_eq!(machine.report().faults, 0);
    });
}

#[test]
fn spurious_faults_go_away_when_retried() {
    let adversary = Adversary { spurious_fault_one_in: 1, ..Adversary::tame() };
    let machine = machine(Config { adversary, ..tame(1) });
    machine.run_cpu(cpu(0), || {
        let tables = Tables::new(&machine);
        tables.activate();
        tables.map_value(VA, 1, P | U);
        machine.read(VA).unwrap();
        tables.entry(VA, 1).fetch_or(W, SeqCst);
        assert!(machine.write(VA, 1).unwrap_err().present, "by the cached translation");
        machine.write(VA, 1).unwrap();
    });
}

#[test]
fn impossible_configurations_are_errors() {
    let base = Config::default();
    let asked = [
        (Config { cpus: 0, ..base }, SimError::CpuCount { asked: 0 }),
        (Config { cpus: 257, ..base }, SimError::CpuCount { asked: 257 }),
        (Config { frames: 3, ..base }, SimError::FrameCount { asked: 3 }),
        (Config { frames: u64::MAX, ..base }, SimError::FrameCount { asked: u64::MAX }),
    ];
    for (config, error) in asked {
        assert_eq!(SimMachine::new(config).unwrap_err(), error);
        assert!(!std::string::ToString::to_string(&error).is_empty());
    }
    let adversary = Adversary { tlb_ways: 0, ..Adversary::default() };
    assert!(matches!(SimMachine::new(Config { adversary, ..base }), Err(SimError::TlbSize { .. })));
}
