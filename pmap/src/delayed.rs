//! A gather that outlives the pmap lock.
//!
//! Everything else flushes before it releases the pmap lock, so that whoever takes the lock may believe the tables. An operation that takes
//! the lock several times, and takes only rights away, may flush once after the last time, under two conditions:
//!
//! * it runs in a section of delayed invalidation and marks every page whose mapping it changes (INV-D-5). So whoever goes
//!   from the page, `remove_write` above all, waits until the flush is done, although it finds nothing to take away.
//!   [`Delayed::add`] does the marking; there is no other way to add;
//! * the address space is known to have a delayed flush, so that others who hold its lock meanwhile do not conclude from the tables
//!   that a right is gone: they flush the whole address space (INV-D-6).

use gencount::Section;

use crate::addr::VirtAddr;
use crate::entry::{Entry, MANAGED};
use crate::flush::Gather;
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::{Core, State};
use crate::pv::{PvHold, PvSlot};
use crate::system::System;

/// Changes of rights of one address space, in an open section, to be flushed without its lock.
#[must_use = "what was gathered must be flushed, by `finish`"]
pub(crate) struct Delayed<'s, M: Machine> {
    system: &'s System<M>,
    core: &'s Core<M>,
    gather: Gather<'s, M>,
    pv: PvSlot<'s, M>,
    section: Section<'s, M::Scheduler>,
}

impl<'s, M: Machine> Delayed<'s, M> {
    /// Begins. No lock is held, and no section is open.
    pub(crate) fn begin(system: &'s System<M>, core: &'s Core<M>) -> Self {
        let section = system.machine().participant().begin();
        let state = core.lock();
        // Before this one counts: it flushes more than its own if another one is delayed, too.
        let gather = Gather::new(system, core);
        core.add_delayed(1);
        drop(state);
        Self { system, core, gather, pv: system.pv_locks().slot(), section }
    }

    /// Notes that the translation made from `old` at `va` permits more than the tables do now, and marks the page. The pmap lock is
    /// held; [`unlock`](Self::unlock) must follow.
    pub(crate) fn add(&mut self, va: VirtAddr, old: Entry) {
        self.gather.add(va, old);
        if old.has(MANAGED)
            && let Some(page) = self.system.page(old.frame())
            && !self.system.mutation().is(Mutation::NoDelayedMark)
        {
            self.pv.change_to(page);
            if let Some(word) = self.pv.word() {
                self.section.mark(word);
            }
        }
    }

    /// Releases the pmap lock, and the PV-list lock that marking has taken.
    pub(crate) fn unlock(&mut self, state: impl core::ops::Deref<Target = State>) {
        self.pv.release();
        drop(state);
    }

    /// Flushes, and ends the section. On return no CPU can use a right that was taken.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl<M: Machine> Drop for Delayed<'_, M> {
    /// What [`finish`](Self::finish) does, also when the caller's code panics between two ranges: the section must not end
    /// before the flush, which others take its end for. It ends when the fields are dropped, after this.
    fn drop(&mut self) {
        self.pv.release();
        let freed = self.gather.flush();
        let state = self.core.lock();
        self.core.add_delayed(-1);
        drop(state);
        // Rights were taken, no tables: there is none to give back.
        freed.give_back(self.system);
    }
}
