//! Going against lock order: from a page, whose PV-list lock is held, to the pmap of one of its mappings.
//!
//! The pmap lock comes first in lock order, so it can only be tried. If it is not free, the PV-list lock
//! is dropped, both are taken in order, and the list's generation tells whether anything happened in
//! between; if so, the caller starts over, from the head of the list, because nothing that it knows of the list holds any
//! more (H-70). The generation has 64 bits and never wraps (H-66).
//!
//! The pmap may be gone meanwhile and its core in use for another address space; that core can still be locked
//! (INV-P-1), and the generation has changed then, because the mapping went first. So going this way costs no count of
//! references.
//!
//! [`against_order`] is the protocol by itself, over any two locks. All functions that start from a page
//! use it through [`lock_owner`](System::lock_owner) or [`walk_mappings`](System::walk_mappings).

use core::ops::ControlFlow;

use lock_api::MutexGuard;

use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::{Core, State};
use crate::pv::{PvHold, PvPtr};
use crate::record::PageRecord;
use crate::system::System;

/// The lock that comes second in lock order, held, and a count of all changes of what it protects.
trait Inner {
    fn release(&mut self);
    fn take(&mut self);
    /// Called with the lock held.
    fn generation(&self) -> u64;
}

/// The lock that comes first.
trait Outer {
    type Guard;
    fn try_lock(&self) -> Option<Self::Guard>;
    fn lock(&self) -> Self::Guard;
}

/// What has become of an attempt to lock against the order. Both locks are held in any case.
enum Against<G> {
    /// The outer lock was free.
    AtOnce(G),
    /// The inner lock was dropped meanwhile, but nothing has changed.
    Unchanged(G),
    /// Something has changed, and the outer lock may be a wrong one by now: it is free again.
    Changed,
}

/// Takes `outer` while `inner`, which comes after it, is held; `inner` is held afterwards, too. With `recheck` switched off
/// it is wrong.
fn against_order<I: Inner, O: Outer>(inner: &mut I, outer: &O, recheck: bool) -> Against<O::Guard> {
    if let Some(guard) = outer.try_lock() {
        return Against::AtOnce(guard);
    }
    let generation = inner.generation();
    inner.release();
    let guard = outer.lock();
    inner.take();
    if inner.generation() == generation || !recheck {
        return Against::Unchanged(guard);
    }
    Against::Changed
}

/// A page's PV list, whose lock is held.
struct List<'a, H> {
    page: &'a PageRecord,
    lock: &'a mut H,
}

impl<H: PvHold> Inner for List<'_, H> {
    fn release(&mut self) {
        self.lock.release();
    }

    fn take(&mut self) {
        self.lock.take(self.page);
    }

    fn generation(&self) -> u64 {
        self.page.generation()
    }
}

impl<'s, M: Machine> Outer for &'s Core<M> {
    type Guard = MutexGuard<'s, M::RawMutex, State>;

    fn try_lock(&self) -> Option<Self::Guard> {
        Core::try_lock(self)
    }

    fn lock(&self) -> Self::Guard {
        Core::lock(self)
    }
}

/// A pmap locked on the way from one of its mappings.
pub(super) type Owner<'s, M> = (&'s Core<M>, MutexGuard<'s, <M as Machine>::RawMutex, State>);

/// The PV list changed while its lock was dropped: nothing known about it holds any more.
pub(super) struct Changed;

impl<M: Machine> System<M> {
    /// Locks the pmap of `entry`, which is on the list of `page`. `lock` holds the page's lock before and
    /// afterwards.
    pub(super) fn lock_owner(
        &self,
        lock: &mut impl PvHold,
        page: &PageRecord,
        entry: PvPtr,
    ) -> Result<Owner<'_, M>, Changed> {
        let core = self.core_of(entry.chunk().owner());
        let recheck = !self.mutation().is(Mutation::StaleReversal);
        match against_order(&mut List { page, lock }, &core, recheck) {
            Against::AtOnce(guard) => Ok((core, guard)),
            Against::Unchanged(guard) => {
                self.count(|c| &c.reversals, 1);
                Ok((core, guard))
            }
            Against::Changed => {
                self.count(|c| &c.reversals, 1);
                self.count(|c| &c.reversal_restarts, 1);
                Err(Changed)
            }
        }
    }

    /// Calls `visit` with each mapping of `page`, the pmap lock of its address space held, until it breaks. `lock` holds
    /// the page's lock before and afterwards, and during the visits. After a change of the list on the way,
    /// `restart` is called and all mappings are visited again.
    pub(super) fn walk_mappings<B>(
        &self,
        lock: &mut impl PvHold,
        page: &PageRecord,
        mut restart: impl FnMut(),
        mut visit: impl FnMut(&Core<M>, PvPtr) -> ControlFlow<B>,
    ) -> Option<B> {
        'over: loop {
            for entry in page.pv_entries() {
                let Ok((core, _state)) = self.lock_owner(lock, page, entry) else {
                    restart();
                    continue 'over;
                };
                if let ControlFlow::Break(found) = visit(core, entry) {
                    return Some(found);
                }
            }
            return None;
        }
    }

    /// Calls `test` with the leaf of each mapping of `page`, under the pmap lock of its address space, until
    /// it returns true; returns whether it did. Takes the PV-list lock for reading only. A change of the
    /// list on the way starts the scan over, after a call of `restart`. Panics if the page belongs to another system.
    pub(super) fn any_mapping(
        &self,
        page: &PageRecord,
        restart: impl FnMut(),
        mut test: impl FnMut(crate::entry::Entry) -> bool,
    ) -> bool {
        self.assert_own(page);
        let mut lock = self.pv_locks().read_slot(page);
        let visit = |core: &Core<M>, entry: PvPtr| match self.leaf_slot(core.root(), entry.va()) {
            Some(slot) if test(slot.load()) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        self.walk_mappings(&mut lock, page, restart, visit).is_some()
    }
}

#[cfg(test)]
mod tests;
