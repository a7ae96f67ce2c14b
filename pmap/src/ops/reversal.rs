//! Going against lock order: from a page, whose PV-list lock is held, to the pmap of one of its mappings.
//!
//! The pmap lock comes first in lock order, so it can only be tried. If it is not free, the PV-list lock
//! is dropped, both are taken in order, and the list's generation tells whether anything happened in
//! between; if so, the caller starts over. The generation has 64 bits and never wraps (H-66). The pmap may be gone
//! meanwhile and its core in use for another address space; that core can still be locked (INV-P-1), and the
//! generation has changed then, because the mapping went first.

use lock_api::MutexGuard;

use crate::machine::Machine;
use crate::pmap::{Core, State};
use crate::pv::{PvPtr, PvSlot};
use crate::record::PageRecord;
use crate::system::System;

/// A pmap locked on the way from one of its mappings.
pub(super) type Owner<'s, M> = (&'s Core<M>, MutexGuard<'s, <M as Machine>::RawMutex, State>);

/// The PV list changed while its lock was dropped: nothing known about it holds any more.
pub(super) struct Changed;

impl<M: Machine> System<M> {
    fn owner_of(&self, entry: PvPtr) -> &Core<M> {
        // SAFETY: chunks are set up with the owner's `as_owner`, and cores are type-stable (INV-P-1).
        unsafe { &*entry.chunk().owner().cast::<Core<M>>() }
    }

    /// Locks the pmap of `entry`, which is on the list of `page`. `pv` holds the page's lock before and
    /// afterwards.
    pub(super) fn lock_owner(
        &self,
        pv: &mut PvSlot<'_, M>,
        page: &PageRecord,
        entry: PvPtr,
    ) -> Result<Owner<'_, M>, Changed> {
        let core = self.owner_of(entry);
        if let Some(guard) = core.try_lock() {
            return Ok((core, guard));
        }
        self.count(|c| &c.reversals, 1);
        let generation = page.generation();
        pv.release();
        let guard = core.lock();
        pv.change_to(page);
        if page.generation() == generation {
            return Ok((core, guard));
        }
        self.count(|c| &c.reversal_restarts, 1);
        Err(Changed)
    }

    /// Calls `test` with the entry of each mapping of `page`, under the pmap lock of its address space, until
    /// it returns true; returns whether it did. Takes the PV-list lock for reading only. A change of the
    /// list on the way starts the scan over, after a call of `restart`. Panics if the page belongs to another system.
    pub(super) fn any_mapping(
        &self,
        page: &PageRecord,
        restart: impl Fn(),
        mut test: impl FnMut(crate::entry::Entry) -> bool,
    ) -> bool {
        self.assert_own(page);
        let mut list = self.pv_locks().read(page);
        'over: loop {
            for entry in page.pv_entries() {
                let core = self.owner_of(entry);
                let guard = match core.try_lock() {
                    Some(guard) => guard,
                    None => {
                        self.count(|c| &c.reversals, 1);
                        let generation = page.generation();
                        drop(list);
                        let guard = core.lock();
                        list = self.pv_locks().read(page);
                        if page.generation() != generation {
                            self.count(|c| &c.reversal_restarts, 1);
                            restart();
                            continue 'over;
                        }
                        guard
                    }
                };
                let found = self.leaf_slot(core.root(), entry.va()).is_some_and(|slot| test(slot.load()));
                drop(guard);
                if found {
                    return true;
                }
            }
            return false;
        }
    }
}
