//! Taking rights away: `protect` and `unwire`.

use crate::addr::{VirtAddr, VirtRange};
use crate::delayed::Delayed;
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
        self.change_leaves(core, range, change, |va, old| {
            replaced(old);
            gather.add(va, old);
        });
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

    /// Moves the dirty bit of a managed entry that lost the right to write to its page.
    fn note_lost_dirty(&self, old: Entry, prot: Protection) {
        if old.is_modified() && old.has(MANAGED) && !prot.contains(Protection::WRITE) {
            self.page(old.frame()).into_iter().for_each(PageRecord::set_dirty);
        }
    }

    /// Applies `change` to the valid leaves in `range`, and tells `replaced` what was there. The pmap lock is held.
    fn change_leaves(
        &self,
        core: &Core<M>,
        range: VirtRange,
        change: impl Fn(Entry) -> Option<Entry>,
        mut replaced: impl FnMut(VirtAddr, Entry),
    ) {
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
                    replaced(va, old);
                }
            }
        }
    }
}

/// What remains of an entry without the rights that are not in `prot`; `None` if that is all of it.
fn restricted(entry: Entry, prot: Protection) -> Option<Entry> {
    let mut new = entry;
    if !prot.contains(Protection::WRITE) {
        new = new.without(WRITABLE | DIRTY);
    }
    if !prot.contains(Protection::EXECUTE) {
        new = new.with(NO_EXECUTE);
    }
    (new != entry).then_some(new)
}

impl<M: Machine> Pmap<'_, M> {
    /// Takes the rights that are not in `prot` away from all mappings in the user part of `range`. Rights are never added: that
    /// is for the next fault. Without [`Protection::READ`] the mappings are removed.
    ///
    /// On processors without the no-execute bit ([`Machine::has_no_execute`]) the right to execute cannot be taken: what would take only
    /// that does nothing.
    ///
    /// Dirty bits move to the pages with the right to write. On return no CPU can use a right that was
    /// taken. The pages keep their PV entries, so anyone who goes through those meets the pmap lock, and with
    /// it the completed flush; no DI section is needed.
    pub fn protect(&self, range: VirtRange, prot: Protection) {
        if !prot.contains(Protection::READ) {
            return self.remove(range);
        }
        let (system, core) = (self.system(), self.core());
        let prot = system.granted(prot);
        if prot.contains(Protection::WRITE | Protection::EXECUTE) {
            return;
        }
        let range = user_part(range);
        let restrict = |entry: Entry| restricted(entry, prot);
        system.restrict_leaves(core, range, restrict, |old| system.note_lost_dirty(old, prot));
        system.count(|c| &c.protects, 1);
    }

    /// As [`protect`](Self::protect) of each of the ranges, with one flush for all of them, as for a fork. The pmap lock is free between the ranges
    /// and during the flush; other operations on this address space that need its lock meanwhile flush more than usual.
    ///
    /// On return no CPU can use a right that was taken in any of the ranges. `ranges` is asked inside a DI section, so it must
    /// not call the pmap. If it panics, what was taken until then is flushed.
    ///
    /// # Panics
    ///
    /// If the calling thread is in a DI section.
    pub fn protect_ranges(&self, ranges: impl IntoIterator<Item = VirtRange>, prot: Protection) {
        let ranges = ranges.into_iter();
        let (system, core) = (self.system(), self.core());
        let granted = system.granted(prot);
        if !prot.contains(Protection::READ) || granted.contains(Protection::WRITE | Protection::EXECUTE) {
            return ranges.for_each(|range| self.protect(range, prot));
        }
        let prot = granted;
        let mut delayed = Delayed::begin(system, core);
        for range in ranges {
            let state = core.lock();
            system.change_leaves(
                core,
                user_part(range),
                |entry| restricted(entry, prot),
                |va, old| {
                    system.note_lost_dirty(old, prot);
                    delayed.add(va, old);
                },
            );
            delayed.unlock(state);
            system.count(|c| &c.protects, 1);
        }
        delayed.finish();
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
