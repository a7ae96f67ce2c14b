//! TLB shootdown: asking other CPUs to invalidate, and waiting until they have.
//!
//! Each CPU owns one request slot, so any number of CPUs can be initiators at the same time and no
//! global lock is involved. An initiator fills its slot, names itself in the `incoming` set of every
//! target, interrupts the targets, invalidates locally while they work, and waits until its
//! `pending` set is empty. A target takes its `incoming` set, copies each initiator's request, does it,
//! and only then takes itself out of that initiator's `pending` set: nothing is acknowledged before it
//! is done, so when the initiator goes on, no target can use the old translation.
//!
//! Memory per machine is linear in CPUs, where a scoreboard of acknowledgement words is quadratic.
//!
//! Deadlock freedom (INV-S-3): an initiator that waits serves requests itself, so two CPUs that shoot at
//! each other both proceed; and every lock that is held across a shootdown is one whose waiters
//! serve, which [`Machine`] demands of its lock types.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::addr::{Frame, PAGE_SHIFT, VirtAddr, VirtRange};
use crate::cpuset::{AtomicCpuSet, CpuSet, MAX_CPUS};
use crate::machine::Machine;
use crate::mutation::{Mutation, Switch};
use crate::pinned::Pinned;
use crate::tlb::{Instructions, TlbMethod};
use crate::translation::Cr3;

/// Above this many pages one full invalidation is cheaper than one per page. Linux uses 33, from
/// measurements on several generations of CPUs; the cost that it trades is the refill afterwards.
pub(crate) const PAGES_BEFORE_FULL: u64 = 33;

/// What is to be invalidated, on one CPU or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// The pages of a range of one address space; few enough to be done one by one.
    Range(VirtRange),
    /// All non-global translations of one address space.
    AddressSpace,
    /// Everything, global translations included.
    Everything,
}

impl Invalidation {
    /// The cheapest invalidation that covers `range`: page by page if it is short.
    #[must_use]
    pub fn of_range(range: VirtRange, global: bool) -> Self {
        match (range.pages() <= PAGES_BEFORE_FULL, global) {
            (true, _) => Self::Range(range),
            (false, false) => Self::AddressSpace,
            (false, true) => Self::Everything,
        }
    }

    fn encode(self) -> (u64, u64) {
        // Addresses of a range are page aligned, so the low bits tell the kinds apart.
        match self {
            Self::Range(range) => (range.start().0 | 1, range.pages()),
            Self::AddressSpace => (2, 0),
            Self::Everything => (3, 0),
        }
    }

    fn decode(word: u64, pages: u64) -> Self {
        match word & 0xfff {
            1 => {
                let start = VirtAddr(word & !0xfff);
                VirtRange::new(start, start.wrapping_add(pages << PAGE_SHIFT))
                    .map_or(Self::Everything, Self::Range)
            }
            2 => Self::AddressSpace,
            _ => Self::Everything,
        }
    }
}

/// Whom an invalidation concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// CPUs on which the address space with this root is current.
    Root(Frame),
    /// The kernel's part, which is current everywhere.
    Kernel,
}

const KERNEL_SCOPE: u64 = u64::MAX;
/// In place of a CR3: nothing was loaded yet.
const NOTHING: u64 = u64::MAX;

impl Scope {
    fn encode(self) -> u64 {
        match self {
            Self::Root(frame) => frame.0,
            Self::Kernel => KERNEL_SCOPE,
        }
    }
}

/// One CPU's part. What others poll (`incoming`), what its owner publishes (`request`) and what
/// others write while its owner spins (`pending`) are on lines of their own.
struct Cpu {
    incoming: CachePadded<AtomicCpuSet>,
    request: CachePadded<Request>,
    pending: CachePadded<AtomicCpuSet>,
    /// CR3 as loaded on this CPU, without the no-flush bit; written by the CPU itself with interrupts disabled.
    current: CachePadded<AtomicU64>,
}

struct Request {
    scope: AtomicU64,
    what: AtomicU64,
    pages: AtomicU64,
}

/// The shootdown state of one machine: a request slot per CPU. See the module documentation.
pub struct Shootdowns {
    cpus: [Cpu; MAX_CPUS],
    /// A system uses the machine.
    claimed: AtomicBool,
    /// Code of that system's [`TlbMethod`].
    method: AtomicU8,
    mutation: Switch,
}

impl core::fmt::Debug for Shootdowns {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shootdowns").finish_non_exhaustive()
    }
}

impl Shootdowns {
    /// State with no CPU active and nothing requested. About 128 KiB: place it in a static or a box.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            cpus: [const {
                Cpu {
                    incoming: CachePadded::new(AtomicCpuSet::new()),
                    request: CachePadded::new(Request {
                        scope: AtomicU64::new(0),
                        what: AtomicU64::new(0),
                        pages: AtomicU64::new(0),
                    }),
                    pending: CachePadded::new(AtomicCpuSet::new()),
                    current: CachePadded::new(AtomicU64::new(NOTHING)),
                }
            }; MAX_CPUS],
            claimed: AtomicBool::new(false),
            method: AtomicU8::new(0),
            mutation: Switch::new(),
        }
    }

    /// Takes the machine for a system that manages cached translations by `method`; false if another one has it.
    pub(crate) fn claim(&self, method: TlbMethod) -> bool {
        // ORD: AcqRel pairs with `release`: what the last system did to the machine is over.
        let free = !self.claimed.swap(true, Ordering::AcqRel);
        if free {
            // ORD: Relaxed; the system reaches other CPUs by means of its owner's, and their requests after it.
            self.method.store(method.code(), Ordering::Relaxed);
        }
        free
    }

    /// How cached translations are managed.
    pub(crate) fn method(&self) -> TlbMethod {
        // ORD: Relaxed; as in `claim`.
        TlbMethod::from_code(self.method.load(Ordering::Relaxed))
    }

    /// What is switched off on this machine.
    #[cfg_attr(not(any(feature = "mutations", feature = "sim")), expect(dead_code, reason = "nobody asks"))]
    pub(crate) fn mutation(&self) -> &Switch {
        &self.mutation
    }

    /// Ends a claim.
    pub(crate) fn release(&self) {
        // ORD: Release pairs with `claim`.
        self.claimed.store(false, Ordering::Release);
    }

    /// CR3 as it was loaded on the current CPU, without the no-flush bit. On another CPU the same address space has another
    /// PCID (H-19).
    pub(crate) fn current(&self, here: &Pinned) -> Option<Cr3> {
        // ORD: Relaxed; the CPU reads its own word.
        let bits = self.cpus[here.cpu().index()].current.load(Ordering::Relaxed);
        (bits != NOTHING).then_some(Cr3::from_bits(bits))
    }

    /// Records what was loaded on the current CPU. With interrupts disabled, together with the
    /// load: a request served between the two would look at the wrong address space (H-18).
    pub(crate) fn set_current(&self, here: &Pinned, cr3: Cr3) {
        let bits = Cr3 { no_flush: false, ..cr3 }.bits();
        // ORD: Relaxed; only this CPU decides by it.
        self.cpus[here.cpu().index()].current.store(bits, Ordering::Relaxed);
    }

    /// Does `what` on the current CPU. Its own address space must be concerned.
    fn perform<M: Machine>(&self, machine: &M, here: &Pinned, kernel: bool, what: Invalidation) {
        let instructions = Instructions::<M>::of(self.method());
        // Kernel translations are global; INVLPG may miss them (H-20).
        let missed = kernel && machine.invlpg_misses_globals() && !self.mutation.is(Mutation::TrustInvlpg);
        match what {
            Invalidation::Range(range) if !missed => {
                range.iter().for_each(|va| machine.invalidate_page(va));
            }
            Invalidation::Range(_) | Invalidation::Everything => (instructions.everything)(machine),
            Invalidation::AddressSpace => {
                if let Some(cr3) = self.current(here) {
                    (instructions.address_space)(machine, cr3);
                }
            }
        }
    }

    /// Serves every request that has reached the current CPU. To be called by the handler of the
    /// shootdown interrupt, and by whoever waits with interrupts disabled; with preemption disabled in either
    /// case. Returns whether there was any.
    ///
    /// An interrupt handler must not call the pmap otherwise: the CPU's own request may be under way.
    pub fn serve<M: Machine>(machine: &M) -> bool {
        machine.shootdowns().serve_on(machine)
    }

    fn serve_on<M: Machine>(&self, machine: &M) -> bool {
        let here = Pinned::already(machine);
        let me = here.cpu();
        // ORD: Acquire pairs with the initiator's Release insertion: its request is visible, and so are
        // the page-table stores before it.
        let initiators = self.cpus[me.index()].incoming.take(Ordering::Acquire);
        for initiator in initiators.iter() {
            let slot = &self.cpus[initiator.index()];
            // ORD: Relaxed; ordered by the Acquire above, and the initiator does not touch its slot
            // before we leave its pending set.
            let scope = slot.request.scope.load(Ordering::Relaxed);
            let what = Invalidation::decode(
                slot.request.what.load(Ordering::Relaxed),  // ORD: as scope
                slot.request.pages.load(Ordering::Relaxed), // ORD: as scope
            );
            let acknowledge = || {
                // ORD: Release pairs with the initiator's Acquire load of its pending set: our invalidation,
                // and every access made through the old translation, happen before it goes on.
                if slot.pending.remove(me, Ordering::Release) {
                    machine.wake(initiator);
                }
            };
            if self.mutation.is(Mutation::AcknowledgeFirst) {
                acknowledge();
                machine.point();
            }
            let kernel = scope == KERNEL_SCOPE;
            if kernel || self.current(&here).is_some_and(|cr3| scope == cr3.root.0) {
                self.perform(machine, &here, kernel, what);
            }
            if !self.mutation.is(Mutation::AcknowledgeFirst) {
                acknowledge();
            }
        }
        !initiators.is_empty()
    }

    /// Has `what` done on every CPU in `targets` and, if `local`, on the current one; returns when all have.
    /// The current CPU must not be in `targets`.
    ///
    /// Interrupts may be enabled or not: who waits here serves requests itself (H-22).
    pub(crate) fn invalidate<M: Machine>(
        &self,
        machine: &M,
        here: &Pinned,
        scope: Scope,
        what: Invalidation,
        targets: &CpuSet,
        local: bool,
    ) {
        let me = here.cpu();
        debug_assert!(!targets.contains(me), "the current CPU is invalidated locally");
        let kernel = scope == Scope::Kernel;
        if targets.is_empty() {
            if local {
                self.perform(machine, here, kernel, what);
            }
            return;
        }
        let slot = &self.cpus[me.index()];
        let (word, pages) = what.encode();
        // ORD: Relaxed stores; published by the Release insertions below.
        slot.request.scope.store(scope.encode(), Ordering::Relaxed);
        slot.request.what.store(word, Ordering::Relaxed); // ORD: as scope
        slot.request.pages.store(pages, Ordering::Relaxed); // ORD: as scope
        slot.pending.store(targets, Ordering::Relaxed); // ORD: as scope
        for target in targets.iter() {
            machine.point();
            // ORD: Release pairs with the Acquire take in `serve`.
            self.cpus[target.index()].incoming.insert(me, Ordering::Release);
        }
        machine.send_shootdown(targets);
        // While the others work.
        if local {
            self.perform(machine, here, kernel, what);
        }
        // ORD: Acquire pairs with the Release removal in `serve`.
        while !slot.pending.load(Ordering::Acquire).is_empty() {
            if self.mutation.is(Mutation::DeafWaiter) || !self.serve_on(machine) {
                machine.relax();
            }
        }
    }
}

impl Default for Shootdowns {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_survive_encoding() {
        let range = VirtRange::new(VirtAddr(0x7000), VirtAddr(0x9000)).unwrap();
        for what in [Invalidation::Range(range), Invalidation::AddressSpace, Invalidation::Everything] {
            let (word, pages) = what.encode();
            assert_eq!(Invalidation::decode(word, pages), what);
        }
    }

    #[test]
    fn long_ranges_become_full_invalidations() {
        let long = VirtRange::new(VirtAddr(0), VirtAddr(34 << PAGE_SHIFT)).unwrap();
        assert_eq!(Invalidation::of_range(long, false), Invalidation::AddressSpace);
        assert_eq!(Invalidation::of_range(long, true), Invalidation::Everything);
    }
}
