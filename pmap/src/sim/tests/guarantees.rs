//! The search finds what is planted, and nothing else.

use super::super::{Check, POISON};
use super::*;
use crate::machine::Guarantee;

/// Plants a translation on CPU 1 with these leaf bits (dirty if `store`), changes the leaf to what
/// `after` gives, then states `guarantee` on CPU 0. Returns the number of forbidden entries.
fn stated(
    bits: u64,
    store: bool,
    after: impl FnOnce(u64) -> u64,
    guarantee: impl FnOnce(Frame, Frame) -> Guarantee,
) -> u64 {
    let machine = machine(tame(2));
    let tables = Tables::new(&machine);
    let frame = tables.map_value(VA, 1, bits);
    machine.run_cpu(cpu(1), || {
        tables.activate();
        if store { machine.write(VA, 5).unwrap() } else { machine.read(VA).map(|_| ()).unwrap() }
    });
    let word = tables.entry(VA, 1);
    word.store(after(word.load(SeqCst)), SeqCst);
    machine.run_cpu(cpu(0), || machine.guarantee(guarantee(tables.root, frame)));
    let report = machine.report();
    assert_eq!(report.first_failures.len() as u64, report.forbidden_entries);
    assert!(report.first_failures.iter().all(|words| words.contains("cpu 1")));
    report.forbidden_entries
}

#[test]
fn unmapped_means_no_translation_of_this_range_and_root() {
    let base = P | U | W | MANAGED;
    let near = VirtRange::new(VA, VA.wrapping_add(3 << 12)).unwrap();
    let long = VirtRange::new(VirtAddr(0), VA.wrapping_add(1 << 12)).unwrap();
    let beside = VirtRange::new(VA.wrapping_add(1 << 12), VA.wrapping_add(5 << 12)).unwrap();
    for range in [page(VA), near, long, VirtRange::user()] {
        assert_eq!(stated(base, false, |_| 0, |root, _| Guarantee::Unmapped { root, range }), 1);
        let elsewhere = Frame(400);
        assert_eq!(stated(base, false, |_| 0, |_, _| Guarantee::Unmapped { root: elsewhere, range }), 0);
    }
    assert_eq!(stated(base, false, |_| 0, |root, _| Guarantee::Unmapped { root, range: beside }), 0);
}

#[test]
fn restricted_means_nothing_beyond_the_tables() {
    let range = page(VA);
    let check = |bits, store, after: fn(u64) -> u64| {
        stated(bits, store, after, |root, _| Guarantee::Restricted { root, range })
    };
    let base = P | U | W;
    assert_eq!(check(base, true, |e| e), 0, "unchanged");
    assert_eq!(check(base, true, |_| 0), 1, "unmapped");
    assert_eq!(check(base, true, |e| e & !W), 1, "write-protected");
    assert_eq!(check(base, false, |e| e & !W), 0, "clean translations permit no store");
    assert_eq!(check(base, true, |e| e & !D), 1, "dirty flag cleared");
    assert_eq!(check(base, false, |e| e | NX), 1, "not executable any more");
    assert_eq!(check(base, false, |e| e & !U), 1, "supervisor only");
    assert_eq!(check(base, false, |e| e + (1 << 12)), 1, "another frame");
    assert_eq!(check(P | U, false, |e| e | W), 0, "more rights than cached");
    assert_eq!(check(base, false, |e| e & !A), 0, "the accessed flag gives no right");
}

#[test]
fn page_guarantees_concern_managed_mappings() {
    let base = P | U | W;
    let unmapped = |_, frame| Guarantee::PageUnmapped { frame };
    let read_only = |_, frame| Guarantee::PageReadOnly { frame };
    assert_eq!(stated(base | MANAGED, false, |_| 0, unmapped), 1);
    assert_eq!(stated(base, false, |_| 0, unmapped), 0, "unmanaged");
    assert_eq!(stated(base | MANAGED, true, |e| e & !W, read_only), 1);
    assert_eq!(stated(base | MANAGED, false, |e| e & !W, read_only), 0, "clean");
    assert_eq!(stated(base, true, |e| e & !W, read_only), 0, "unmanaged");
    assert_eq!(
        stated(base | MANAGED, true, |e| e & !W, |_, f| Guarantee::PageReadOnly { frame: Frame(f.0 + 1) }),
        0
    );
}

#[test]
fn freeing_a_data_frame_finds_translations_of_any_kind() {
    let machine = machine(tame(2));
    let tables = Tables::new(&machine);
    let frame = tables.map_value(VA, 1, P | U | W);
    machine.run_cpu(cpu(1), || {
        tables.activate();
        machine.read(VA).unwrap();
    });
    tables.entry(VA, 1).store(0, SeqCst);
    machine.free_data_frame(frame);
    assert_eq!(machine.report().forbidden_entries, 1);
    // Freed by somebody who does not own it.
    machine.free_data_frame(frame);
    machine.free_data_frame(tables.root);
    machine.free_data_frame(Frame(0));
    machine.free_data_frame(Frame(1 << 40));
    assert_eq!(machine.report().forbidden_entries, 5);
}

#[test]
fn freeing_a_table_finds_structure_caches_and_roots() {
    let machine = machine(tame(2));
    let tables = Tables::new(&machine);
    tables.map_value(VA, 1, P | U | W);
    machine.run_cpu(cpu(1), || {
        tables.activate();
        machine.read(VA).unwrap();
    });
    for level in 1..=3 {
        let before = machine.report().forbidden_entries;
        let table = tables.table(VA, level);
        // SAFETY: nothing but simulated hardware refers to it, which is what is tested.
        unsafe { machine.free_frame(table, FrameUse::PageTable) };
        assert_eq!(machine.report().forbidden_entries, before + 1, "level {level}");
    }
    // SAFETY: as above.
    unsafe { machine.free_frame(tables.root, FrameUse::PageTable) };
    let report = machine.report();
    assert_eq!(report.forbidden_entries, 4);
    assert!(report.first_failures[3].contains("CR3"), "{:?}", report.first_failures);
}

#[test]
fn an_access_through_a_translation_to_a_reused_frame_is_counted_and_suppressed() {
    on_one_cpu(|machine, tables| {
        let frame = tables.map_value(VA, 1, P | U | W);
        machine.write(VA, 5).unwrap();
        tables.entry(VA, 1).store(0, SeqCst);
        machine.free_data_frame(frame);
        assert_eq!(machine.read(VA), Ok(POISON), "free");
        assert_eq!(machine.report().stale_accesses, 1);
        let again = machine.allocate_data_frame(true).unwrap();
        assert_eq!(again, frame);
        machine.write(VA, 6).unwrap();
        assert_eq!(machine.read(VA), Ok(POISON), "another owner's");
        let report = machine.report();
        assert_eq!((report.stale_accesses, report.pages_reused), (3, 1));
        assert_eq!(machine.frame_words(frame)[0].load(SeqCst), 0, "the store was suppressed");
        machine.invalidate_page(VA);
        tables.map(VA, again, P | U | W);
        machine.write(VA, 7).unwrap();
        assert_eq!(machine.report().stale_accesses, 3, "a new translation is good");
    });
}

#[test]
fn a_walk_through_a_cached_freed_table_is_counted() {
    on_one_cpu(|machine, tables| {
        tables.map_value(VA, 1, P | U | W);
        machine.read(VA).unwrap();
        let table = tables.table(VA, 1);
        tables.entry(VA, 2).store(0, SeqCst);
        // SAFETY: nothing but simulated hardware refers to it, which is what is tested.
        unsafe { machine.free_frame(table, FrameUse::PageTable) };
        assert!(machine.read(VA.wrapping_add(4096)).is_err());
        assert_eq!(machine.report().stale_accesses, 1);
    });
}

#[test]
fn user_programs_do_not_reach_tables() {
    on_one_cpu(|machine, tables| {
        tables.map(VA, tables.root, P | U | W);
        machine.write(VA, u64::MAX).unwrap();
        assert_eq!(machine.report().forbidden_entries, 1);
        assert_eq!(machine.frame_words(tables.root)[0].load(SeqCst), 0);
    });
}

#[test]
fn sampling_searches_some_and_off_none() {
    for (check, low, high) in [(Check::Full, 1000, 1000), (Check::Sample, 20, 200), (Check::Off, 0, 0)] {
        let machine = machine(Config { check, ..tame(1) });
        for _ in 0..1000 {
            machine.guarantee(Guarantee::PageUnmapped { frame: Frame(3) });
        }
        let report = machine.report();
        assert!((low..=high).contains(&report.searches), "{check:?}: {}", report.searches);
        assert_eq!(report.searches + report.searches_skipped, 1000);
    }
}
