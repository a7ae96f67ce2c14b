//! `copy_from`: giving a forked address space its parent's mappings ahead of the faults.

use crate::addr::VirtRange;
use crate::entry::{Bits, MANAGED, NO_EXECUTE, PRESENT, USER, WRITABLE};
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::Pmap;
use crate::pv::PvHold;
use crate::table::{LeafCursor, LeafTables};

/// The bits of an entry that a copy has, too.
const COPIED: Bits = PRESENT.union(WRITABLE).union(USER).union(NO_EXECUTE);

impl<M: Machine> Pmap<'_, M> {
    /// Copies the managed mappings that `source` has in `range` to the same addresses here, unwired, neither
    /// accessed nor dirty. An optimisation and no more: pages that are mapped here already are left alone, and
    /// it stops when memory is short; faults bring the rest. Returns the number of mappings made.
    ///
    /// Rights are copied as they are. For copy-on-write, take the right to write away from `source` first,
    /// with [`protect`](Self::protect).
    pub fn copy_from(&self, source: &Self, range: VirtRange) -> u64 {
        let (system, to, from) = (self.system(), self.core(), source.core());
        if core::ptr::eq(to, from) || !range.is_user() || !core::ptr::eq(system, source.system()) {
            return 0;
        }
        // Two pmap locks are taken in order of address.
        let (mut state, _from_state);
        if to.as_owner() < from.as_owner() {
            state = to.lock();
            _from_state = from.lock();
        } else {
            _from_state = from.lock();
            state = to.lock();
        }
        let mut pv = system.pv_locks().slot();
        let mut place = LeafCursor::default();
        let mut made = 0;
        'tables: for (table, part) in LeafTables::new(system, from.root(), range) {
            for va in part.iter() {
                let entry = system.slot(table, va.index(1)).load();
                if !entry.is_present() || !entry.has(MANAGED) {
                    continue;
                }
                // By name, so that no other software bit comes along (H-59).
                let as_is = system.mutation().is(Mutation::CopyAsIs);
                let new = if as_is { entry } else { entry.only(COPIED) };
                let page = system.page(entry.frame());
                match system.add_unaccessed(to, &mut state, &mut pv, &mut place, va, new, page) {
                    Ok(entered) => made += u64::from(entered),
                    Err(_) => break 'tables,
                }
            }
        }
        pv.release();
        system.count(|c| &c.enter_quicks, made);
        made
    }
}
