//! Which address space is current on which CPU.
//!
//! A CPU names itself in the new address space's active set before it loads the root, and takes itself
//! out of the old one's after that, never in the other order: an initiator that misses the CPU in the set
//! did its page-table stores before the load (H-17). A CPU that is not in the set is not interrupted. With PCIDs it may keep
//! translations; `pcid` tells whether it may use them when it comes back.

use core::ptr::{from_ref, null_mut};
use core::sync::atomic::{Ordering, fence};

use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pcid;
use crate::pinned::Pinned;
use crate::pmap::{Core, Pmap};
use crate::shootdown::Shootdowns;
use crate::system::System;
use crate::translation::{Cr3, Pcid};

impl<M: Machine> Pmap<'_, M> {
    /// Makes the address space current on the calling CPU, in place of the one that was.
    pub fn activate(&self) {
        self.system().switch_to(self.core());
    }

    /// Whether the address space is current on the calling CPU.
    #[must_use]
    pub fn is_current(&self) -> bool {
        let machine = self.system().machine();
        Pinned::run(machine, |here| {
            machine.shootdowns().current(here).is_some_and(|cr3| cr3.root == self.root())
        })
    }
}

impl<M: Machine> System<M> {
    /// Takes the calling CPU into service: loads the kernel's root. Each CPU calls this before it uses
    /// anything else of the system.
    pub fn start_cpu(&self) {
        self.switch_to(self.kernel());
    }

    /// Leaves the current user address space, so that it can be destroyed: only the kernel's half is mapped.
    pub fn activate_kernel(&self) {
        self.switch_to(self.kernel());
    }

    /// Takes the calling CPU out of service: it holds no address space, and is no target of shootdowns that begin
    /// later. It must not use the system before it calls [`start_cpu`](Self::start_cpu) again, which
    /// empties its TLB.
    ///
    /// An initiator may have seen the CPU in service just before and send afterwards: the CPU must be able to
    /// take the interrupt until the others have passed a point at which none of them is inside the pmap.
    pub fn stop_cpu(&self) {
        let machine = self.machine();
        // On one CPU throughout: that which leaves its address space is that which goes.
        Pinned::run(machine, |here| {
            self.activate_kernel();
            let me = here.cpu();
            machine.without_interrupts(|| {
                // ORD: SeqCst, as in `switch_to`.
                self.kernel().active().remove(me, Ordering::SeqCst);
                if let Some(cpu) = self.per_cpu().get(me.index()) {
                    cpu.current.store(null_mut(), Ordering::Relaxed); // ORD: only this CPU looks
                }
            });
            Shootdowns::serve(machine);
        });
    }

    fn switch_to(&self, new: &Core<M>) {
        let machine = self.machine();
        if self.mutation().is(Mutation::InterruptsInSwitch) {
            return Pinned::run(machine, |here| self.switch_here(new, here));
        }
        // No request may be served between the load of the root and the note of it (H-18).
        Pinned::run_masked(machine, |here| self.switch_here(new, here));
    }

    fn switch_here(&self, new: &Core<M>, here: &Pinned) {
        let machine = self.machine();
        let me = here.cpu();
        let Some(cpu) = self.per_cpu().get(me.index()) else { return };
        // ORD: Relaxed; only this CPU looks.
        let old = cpu.current.load(Ordering::Relaxed);
        if core::ptr::eq(old, new) {
            return;
        }
        // SAFETY: cores are type-stable (INV-P-1); this one is live, since we are in its active set.
        let old = unsafe { old.as_ref() };
        let mut cr3 = self.join(new, here);
        self.count(|c| &c.switches, (!new.is_kernel()).into());
        let starts = old.is_none();
        let flushes = starts && !self.mutation().is(Mutation::NoFlushOnStart);
        if starts {
            // The CPU comes into service.
            // ORD: SeqCst, as in `join`, and before the invalidation.
            self.kernel().active().insert(me, Ordering::SeqCst);
        }
        cr3.no_flush &= !flushes;
        if self.mutation().is(Mutation::EarlyLeave) {
            self.leave(old, here);
        }
        machine.point();
        // SAFETY: the root is that of a live address space, whose kernel half is the kernel's.
        unsafe { machine.load_cr3(cr3) };
        if flushes {
            // Nobody told it of kernel mappings that went before, and the processor may have walked the tables that it
            // came with, under the kernel's PCID, until they were replaced: so after the load, not before (H-79).
            machine.invalidate_everything();
        }
        machine.point();
        machine.shootdowns().set_current(here, cr3);
        cpu.current.store(from_ref(new).cast_mut(), Ordering::Relaxed); // ORD: only this CPU looks
        if self.mutation().is(Mutation::LateJoin) {
            new.active().insert(me, Ordering::SeqCst); // ORD: too late, on purpose
        }
        self.leave(old, here);
    }

    /// Takes the current CPU out of the active set of the address space that it ran.
    fn leave(&self, old: Option<&Core<M>>, here: &Pinned) {
        if let Some(old) = old.filter(|old| !old.is_kernel()) {
            // ORD: SeqCst; after the load, from which on nothing is cached of the old one. Pairs with `destroy`.
            old.active().remove(here.cpu(), Ordering::SeqCst);
        }
    }

    /// Puts the current CPU into the active set of `new`, and gives what is to be loaded.
    fn join(&self, new: &Core<M>, here: &Pinned) -> Cr3 {
        let me = here.cpu();
        let join = || {
            self.machine().point();
            if new.is_kernel() || !self.mutation().is(Mutation::LateJoin) {
                // ORD: SeqCst; before the load of the root. Pairs with the initiator's fence and load (H-17).
                new.active().insert(me, Ordering::SeqCst);
            }
        };
        let has_pcids = self.tlb_choice().method.has_pcids();
        let (Some(cpu), Some(tag)) = (self.per_cpu().get(me.index()), new.tags().get(me.index())) else {
            join();
            return Cr3 { root: new.root(), pcid: Pcid::KERNEL, no_flush: false };
        };
        if new.is_kernel() || !has_pcids {
            join();
            // ORD: SeqCst; before any walk of the new tables, and before the load of CR3.
            fence(Ordering::SeqCst);
            // Under the kernel's PCID there are no user translations, and the kernel's own are global.
            return Cr3 { root: new.root(), pcid: Pcid::KERNEL, no_flush: has_pcids && new.is_kernel() };
        }
        // A machine that claims more than there are must not get the kernel's for a user's (its loads keep what is cached).
        let limit = self.tlb_choice().features.pcids.min(Pcid::COUNT);
        let before = cpu.pcids.generation();
        let assigned = pcid::activate(tag, &cpu.pcids, limit, self.mutation(), join);
        self.count(|c| &c.switches_kept, assigned.kept.into());
        self.count(|c| &c.pcid_generations, (before != cpu.pcids.generation()).into());
        match Pcid::new(assigned.pcid) {
            Some(pcid) => Cr3 { root: new.root(), pcid, no_flush: assigned.kept },
            // Not reached, by the limit.
            None => Cr3 { root: new.root(), pcid: Pcid::KERNEL, no_flush: false },
        }
    }
}
