//! What each invalidation must drop, and what a CPU may keep (Intel SDM vol. 3, 4.10.4.1).
//!
//! Every case fills a translation, redirects the table entry to another frame without an invalidation,
//! performs the operation, and sees by the value read which of the two the CPU used.

use super::*;

const OTHER: VirtAddr = VirtAddr(VA.0 + 0x3000);
const KERNEL: VirtAddr = VirtAddr(0xffff_9000_0000_0000);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Operation {
    Nothing,
    Invlpg,
    Everything,
    SameRoot,
    Fault,
}

fn perform(machine: &SimMachine, tables: &Tables<'_>, operation: Operation) {
    match operation {
        Operation::Nothing => {}
        Operation::Invlpg => machine.invalidate_page(VirtAddr(VA.0 + 0x123)),
        Operation::Everything => machine.invalidate_everything(),
        Operation::SameRoot => tables.activate(),
        Operation::Fault => assert!(machine.write(VA, 0).is_err()),
    }
}

#[test]
fn every_operation_drops_what_it_must_and_nothing_else() {
    use Operation::{Everything, Fault, Invlpg, Nothing, SameRoot};
    // operation; is the old translation still used for: the page itself, another page, a global page
    // elsewhere, and the page itself if it was global?
    let table = [
        (Nothing, [true, true, true, true]),
        (Invlpg, [false, true, true, false]),
        (Everything, [false, false, false, false]),
        (SameRoot, [false, false, true, true]),
        (Fault, [false, true, true, false]),
    ];
    for (operation, kept) in table {
        for own_global in [false, true] {
            on_one_cpu(|machine, tables| {
                let own = if own_global { G } else { 0 };
                let pages = [(VA, U | own), (OTHER, U), (KERNEL, U | G)];
                for (va, bits) in pages {
                    tables.map_value(va, 1, P | bits);
                    assert_eq!(machine.read(va), Ok(1));
                    tables.map_value(va, 2, P | bits);
                }
                perform(machine, tables, operation);
                let old = pages.map(|(va, _)| machine.read(va) == Ok(1));
                let expected = [if own_global { kept[3] } else { kept[0] }, kept[1], kept[2]];
                assert_eq!(old, expected, "{operation:?}, global {own_global}");
                let report = machine.report();
                assert!(report.stale_before_guarantee > 0, "{operation:?}");
                assert!(report.is_clean());
            });
        }
    }
}

#[test]
fn structure_caches_outlive_changes_until_an_invalidation() {
    use Operation::{Everything, Invlpg, SameRoot};
    for operation in [Invlpg, Everything, SameRoot] {
        on_one_cpu(|machine, tables| {
            tables.map_value(VA, 1, P | U);
            tables.map_value(OTHER, 1, P | U);
            machine.read(VA).unwrap();
            // The page directory now leads to another page table, with other frames.
            let old = tables.entry(VA, 2).swap(0, SeqCst);
            tables.map_value(OTHER, 2, P | U);
            assert_ne!(old & walk::ADDRESS, tables.entry(VA, 2).load(SeqCst) & walk::ADDRESS);
            // OTHER was never translated, but the walk for it may begin in the old page table.
            assert_eq!(machine.read(OTHER), Ok(1));
            machine.invalidate_page(OTHER);
            assert_eq!(machine.read(OTHER), Ok(2), "INVLPG of one page drops all of them");
            // And once more for the operation itself.
            let new = tables.entry(VA, 2).swap(old, SeqCst);
            perform(machine, tables, operation);
            machine.invalidate_page(OTHER);
            assert_eq!(machine.read(OTHER), Ok(1), "{operation:?}");
            tables.entry(VA, 2).store(new, SeqCst);
            assert!(machine.report().is_clean());
        });
    }
}

#[test]
fn another_root_keeps_global_translations_only() {
    on_one_cpu(|machine, tables| {
        tables.map_value(VA, 1, P | U);
        tables.map_value(KERNEL, 1, P | U | G);
        machine.read(VA).unwrap();
        machine.read(KERNEL).unwrap();
        let second = Tables::new(machine);
        second.activate();
        assert!(machine.read(VA).is_err());
        assert_eq!(machine.read(KERNEL), Ok(1));
        tables.activate();
        assert_eq!(machine.read(VA), Ok(1));
        assert!(machine.report().is_clean());
    });
}

#[test]
fn a_fragment_of_a_large_page_is_dropped_with_the_others() {
    on_one_cpu(|machine, tables| {
        let base = VirtAddr(VA.0 & !0x1f_ffff);
        // A 2 MiB leaf at frame 0 would reach frame 0 only with its first page.
        tables.entry(VA, 2).store(P | U | PS, SeqCst);
        let pages = [base.wrapping_add(5 << 12), base.wrapping_add(9 << 12)];
        assert!(pages.iter().all(|va| machine.supervisor_read(*va).is_ok()));
        tables.entry(VA, 2).store(0, SeqCst);
        assert!(pages.iter().all(|va| machine.supervisor_read(*va).is_ok()), "nothing was invalidated");
        machine.invalidate_page(pages[0]);
        assert!(pages.iter().all(|va| machine.supervisor_read(*va).is_err()));
    });
}
