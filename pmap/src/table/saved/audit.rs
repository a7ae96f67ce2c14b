//! The audit of saved tables.

use super::{SavedTables, region};
use crate::addr::{Frame, VirtAddr};
use crate::audit::AuditError;
use crate::entry::LARGE;
use crate::machine::Machine;
use crate::pmap::State;
use crate::system::System;

impl<M: Machine> System<M> {
    /// Compares what is saved in `directory`, which covers `base`, with what is there. Returns the number of tables.
    pub(crate) fn audit_saved(
        &self,
        state: &State,
        directory: Frame,
        base: VirtAddr,
        report: &mut impl FnMut(AuditError),
    ) -> u64 {
        let mut met = 0;
        let saved = SavedTables::<M>::new(self, directory);
        saved.for_each(state, |index, this| {
            met += 1;
            let (va, table) = (region(base, index), this.table);
            let found = saved.contents(table);
            if !found.is_some_and(|found| found.bears_out(this.contents)) {
                report(AuditError::SavedContents { va, table, claimed: this.contents, found });
            }
            if saved.peek(state, va) != Some(this) {
                report(AuditError::SavedMisplaced { va, table });
            }
            let entry = self.slot(directory, index).load();
            if entry.is_present() && !entry.has(LARGE) {
                report(AuditError::SavedBesideTable { va, table });
            }
        });
        met
    }
}
