//! Taking rights away: `protect` and `unwire`.

use crate::addr::VirtRange;
use crate::entry::{DIRTY, Entry, MANAGED, NO_EXECUTE, WIRED, WRITABLE};
use crate::error::NotWired;
use crate::flush::Gather;
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::{Core, Pmap};
use crate::protection::Protection;
use crate::record::PageRecord;
use crate::system::System;
use crate::table::{LeafTables, user_part};

impl<M: Machine> System<M> {
    /// Applies `change` to the valid leaves in `range`, which must be user addresses; `None` from it leaves a leaf alone. It
    /// must only restrict what the processor may do without another walk. `replaced` hears of each
    /// entry that was replaced. One flush, before the pmap lock is released.
    pub(super) fn restrict_leaves(
        &self,
        core: &Core<M>,
        range: VirtRange,
        change: impl Fn(Entry) -> Option<Entry>,
        mut replaced: impl FnMut(Entry),
    ) {
        let state = core.lock();
        let mut gather = Gather::new(self, core);
        for (table, part) in LeafTables::new(self, core.root(), range) {
            for va in part.iter() {
                let change = |entry: Entry| change(entry).filter(|_| entry.is_present());
                let slot = self.slot(table, va.index(1));
                let old = if self.mutation().is(Mutation::PlainProtect) {
                    let old = slot.load();
                    change(old).map(|new| {
                        let _ = slot.exchange(new);
                        old
                    })
                } else {
                    slot.update(change)
                };
                if let Some(old) = old {
                    replaced(old);
                    gather.add(va, old);
                }
            }
        }
        let state = if self.mutation().is(Mutation::FlushAfterUnlock) {
            drop(state);
            None
        } else {
            Some(state)
        };
        let freed = gather.flush();
        self.guarantee_restricted(core, range);
        drop(state);
        freed.give_back(self);
    }
}

impl<M: Machine> Pmap<'_, M> {
    /// Takes the rights that are not in `prot` away from all mappings in the user part of `range`. Rights are never added: that
    /// is for the next fault. Without [`Protection::READ`] the mappings are removed.
    ///
    /// Dirty bits move to the pages with the right to write. On return no CPU can use a right that was
    /// taken. The pages keep their PV entries, so anyone who goes through those meets the pmap lock, and with
    /// it the completed flush; no DI section is needed.
    pub fn protect(&self, range: VirtRange, prot: Protection) {
        if !prot.contains(Protection::READ) {
            return self.remove(range);
        }
        if prot.contains(Protection::WRITE | Protection::EXECUTE) {
            return;
        }
        let range = user_part(range);
        let (system, core) = (self.system(), self.core());
        let restrict = |entry: Entry| {
            let mut new = entry;
            if !prot.contains(Protection::WRITE) {
                new = new.without(WRITABLE | DIRTY);
            }
            if !prot.contains(Protection::EXECUTE) {
                new = new.with(NO_EXECUTE);
            }
            (new != entry).then_some(new)
        };
        system.restrict_leaves(core, range, restrict, |old| {
            if old.is_modified() && old.has(MANAGED) && !prot.contains(Protection::WRITE) {
                system.page(old.frame()).into_iter().for_each(PageRecord::set_dirty);
            }
        });
        system.count(|c| &c.protects, 1);
    }

    /// Clears the wired mark of every mapping in the user part of `range`. A software bit: nothing needs flushing.
    ///
    /// # Errors
    ///
    /// [`NotWired`] with the address of the first mapping that was not wired; those before it have been
    /// unwired.
    pub fn unwire(&self, range: VirtRange) -> Result<(), NotWired> {
        let (system, core) = (self.system(), self.core());
        let mut state = core.lock();
        for (table, part) in LeafTables::new(system, core.root(), user_part(range)) {
            for va in part.iter() {
                let slot = system.slot(table, va.index(1));
                if slot.load().is_present() {
                    // Atomically, because the processor may set bits of the same word (H-13).
                    let old = if system.mutation().is(Mutation::PlainUnwire) {
                        let old = slot.load();
                        let _ = slot.exchange(old.without(WIRED));
                        old
                    } else {
                        slot.clear(WIRED)
                    };
                    if !old.has(WIRED) {
                        return Err(NotWired(va));
                    }
                    state.wired -= 1;
                }
            }
        }
        Ok(())
    }
}
