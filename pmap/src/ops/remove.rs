//! Removing mappings by address: `remove` and `remove_pages`.
//!
//! Both run inside a DI section: they drop each page's PV-list lock before the one flush at the end,
//! and mark the page first. Whoever meets the empty PV list in between waits for the section (INV-DI-1).

use super::leaf::Mapping;
use crate::addr::VirtRange;
use crate::entry::WIRED;
use crate::error::ActiveElsewhere;
use crate::flush::Gather;
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::Pmap;
use crate::pv::PvHold;
use crate::table::{LeafTables, user_part};

use core::sync::atomic::Ordering;

impl<M: Machine> Pmap<'_, M> {
    /// Removes all mappings in the user part of `range`, wired ones too.
    ///
    /// Accessed and dirty bits move to the pages. On return no CPU holds a translation in `range`, and
    /// page-table pages that became empty have been freed.
    pub fn remove(&self, range: VirtRange) {
        let (system, core) = (self.system(), self.core());
        let range = user_part(range);
        if range.is_empty() {
            return;
        }
        // Racy: somebody may enter a mapping just now, but he cannot expect that it is removed then. The lock
        // is for somebody who has just removed the last one and is still flushing.
        if core.resident() <= 1 {
            drop(core.lock());
            return;
        }
        let participant = system.machine().participant();
        let section = participant.begin();
        let mut state = core.lock();
        let mut pv = system.pv_locks().slot();
        let mut gather = Gather::new(system, core);
        for (table, part) in LeafTables::new(system, core.root(), range) {
            for va in part.iter() {
                let slot = system.slot(table, va.index(1));
                if slot.load().is_present()
                    && system.remove_leaf(core, &mut state, &mut pv, &mut gather, Mapping::At(va), slot)
                {
                    break;
                }
            }
        }
        pv.release();
        let freed = gather.flush();
        system.guarantee_unmapped(core, range);
        drop(state);
        drop(section);
        freed.give_back(system);
        system.count(|c| &c.removes, 1);
    }

    /// Removes all mappings in the user part of `range` because the range itself goes: what else is kept by address
    /// goes with them. Protection keys will be the first such thing; so far this is [`remove`](Self::remove).
    pub fn map_delete(&self, range: VirtRange) {
        self.remove(range);
    }

    /// Removes all managed mappings but wired ones, the fast way of a process that exits: it goes over PV
    /// chunks, not over addresses.
    ///
    /// Accessed bits move to the pages like dirty ones, so that pages in use by exiting processes do not
    /// look idle.
    ///
    /// # Errors
    ///
    /// [`ActiveElsewhere`] unless the address space is current on the calling CPU and on no other.
    pub fn remove_pages(&self) -> Result<(), ActiveElsewhere> {
        let (system, core) = (self.system(), self.core());
        let machine = system.machine();
        let participant = machine.participant();
        // Alone on this CPU or not, the flush is delayed past the PV-list locks: other CPUs must wait.
        let section = participant.begin();
        let mut state = core.lock();
        // ORD: SeqCst pairs with `activate`'s insertion.
        let active = core.active().load(Ordering::SeqCst);
        let anywhere = system.mutation().is(Mutation::RemovePagesAnywhere);
        if !anywhere
            && (active.len() != 1 || !machine.without_preemption(|| active.contains(machine.current_cpu())))
        {
            return Err(ActiveElsewhere);
        }
        let mut pv = system.pv_locks().slot();
        let mut gather = Gather::new(system, core);
        for chunk in state.chunks.iter() {
            for entry in chunk.in_use() {
                let va = entry.va();
                if let Some(slot) = system.leaf_slot(core.root(), va)
                    && (!slot.load().has(WIRED) || system.mutation().is(Mutation::RemoveWiredPages))
                {
                    system.remove_leaf(core, &mut state, &mut pv, &mut gather, Mapping::Of(entry), slot);
                }
            }
        }
        pv.release();
        let freed = gather.flush();
        drop(state);
        drop(section);
        freed.give_back(system);
        system.count(|c| &c.remove_pages_calls, 1);
        Ok(())
    }
}
