//! The audit finds whatever is wrong with saved tables.

use super::*;
use crate::entry::{PRESENT, WRITABLE};

#[test]
fn the_audit_finds_a_claim_that_is_not_true() {
    with_six_saved(|system, space| {
        let (va, table) = (address(0, 3), saved_at(system, space, address(0, 3)).table);
        let claimed = Contents::Accessed;
        let slot = system.slot(table, 77);
        let good = slot.clear(ACCESSED);
        let found = Some(Contents::Uniform);
        assert_eq!(complaints(system), [AuditError::SavedContents { va, table, claimed, found }]);
        let _ = slot.take();
        assert_eq!(complaints(system), [AuditError::SavedContents { va, table, claimed, found: None }]);
        slot.create(good);
        assert_eq!(complaints(system), []);
        // The other way round hardware may do it.
        let table = saved_at(system, space, address(0, 4)).table;
        for index in 0..512 {
            system.slot(table, index).update(|entry| Some(entry.with(ACCESSED)));
        }
        assert_eq!(complaints(system), []);
        let va = address(1, 2);
        let mut state = space.core().lock();
        let store = SavedTables::<_, X86>::new(system, directory_of(system, space, va));
        assert!(store.restate(&mut state, va, Contents::Uniform));
        drop(state);
        let (table, claimed) = (saved_at(system, space, va).table, Contents::Uniform);
        let found = Some(Contents::Empty);
        assert_eq!(complaints(system), [AuditError::SavedContents { va, table, claimed, found }]);
    });
}

#[test]
fn the_audit_finds_a_lost_table_and_a_wrong_count() {
    with_six_saved(|system, space| {
        let core = space.core();
        core.lock().saved += 1;
        let wrong = AuditError::SavedCount { root: core.root(), recorded: 7, counted: 6 };
        assert_eq!(complaints(system), [wrong]);
        core.lock().saved -= 1;
        // The root of the second directory's tree, and so all that hangs below it.
        let record = system.page(directory_of(system, space, address(1, 0))).unwrap();
        let root = record.chain();
        record.set_chain(None);
        let errors = complaints(system);
        let (tables, resident) = (system.statistics().pt_pages, core.resident());
        assert!(errors.contains(&AuditError::SavedCount { root: core.root(), recorded: 6, counted: 3 }));
        assert!(errors.contains(&AuditError::TableTotal { recorded: tables, counted: tables - 3 }));
        let wrong =
            AuditError::ResidentCount { root: core.root(), recorded: resident, counted: resident - 3 };
        assert!(errors.contains(&wrong));
        assert_eq!(errors.len(), 3);
        record.set_chain(root);
        assert_eq!(complaints(system), []);
    });
}

#[test]
fn the_audit_finds_a_table_in_the_wrong_place() {
    with_six_saved(|system, space| {
        let va = address(0, 302);
        let table = saved_at(system, space, va).table;
        let record = system.page(table).unwrap();
        let good = record.place();
        let node = Node::unpack(good).unwrap();
        record.set_place(Node { index: 5, ..node }.pack());
        assert_eq!(complaints(system), [AuditError::SavedMisplaced { va: address(0, 5), table }]);
        record.set_place(good);
        let page = system.machine().allocate_data_frame(true).unwrap();
        space.enter(va, page, READ_WRITE, Access::Read, EnterFlags::empty()).unwrap();
        assert_eq!(complaints(system), [AuditError::SavedBesideTable { va, table }]);
    });
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "for what it is")]
fn a_table_is_not_saved_for_what_it_is_not() {
    with_six_saved(|system, space| {
        let va = address(0, 9);
        let Saved { table, .. } = displaced::<X86>(system, space, va, Contents::Uniform);
        assert!(system.slot(table, 9).load().has(PRESENT | WRITABLE));
        let mut state = space.core().lock();
        let store = SavedTables::<_, X86>::new(system, directory_of(system, space, va));
        store.save(&mut state, va, Saved { table, contents: Contents::Accessed });
    });
}
