//! TLB shootdown: asking other CPUs to invalidate, and waiting until they have.
//!
//! Requests go through mailboxes (`mailbox`), so any number of CPUs can be initiators at once. An initiator interrupts the targets,
//! invalidates locally while they work, and waits. A target acknowledges after it has invalidated, so when the initiator goes on,
//! no target can use the old translation.
//!
//! Memory per machine is linear in CPUs, where a scoreboard of acknowledgement words is quadratic.
//!
//! Deadlock freedom (INV-S-3): an initiator that waits serves requests itself, so two CPUs that shoot at
//! each other both proceed; and every lock that is held across a shootdown is one whose waiters
//! serve, which [`Machine`] demands of its lock types.

use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::addr::{Frame, VirtAddr, VirtRange};
#[cfg(feature = "conformance")]
use crate::cpuset::CpuId;
use crate::cpuset::{CpuSet, MAX_CPUS};
use crate::machine::Machine;
use crate::mailbox::Mailbox;
use crate::mutation::{Mutation, Switch};
use crate::pinned::Pinned;
use crate::ranges::MAX_RANGES;
pub use crate::ranges::RangeList;
use crate::tlb::{Instructions, TlbMethod};
use crate::translation::Cr3;

/// Above this many pages one full invalidation is taken to be cheaper than one per page.
///
/// Measured by `pmaplab flush-cost` on an EPYC in a virtual machine: 40 to 44 ns a page, against 230 to 390 ns for everything and 2.9 to
/// 3.1 ns for each page that is used again afterwards. So 33 is right for working sets of about 350 pages; for 64 pages it were 11, for
/// 1024 it were 84.
pub const PAGES_BEFORE_FULL: u64 = 33;

/// What is to be invalidated, on one CPU or several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invalidation {
    /// The pages of some ranges of one address space; few enough to be done one by one.
    Ranges(RangeList),
    /// All non-global translations of one address space.
    AddressSpace,
    /// Everything, global translations included.
    Everything,
}

const RANGES: u64 = 1;
const ADDRESS_SPACE: u64 = 2;
const EVERYTHING: u64 = 3;
/// Beside the kind: may be acknowledged before it is done.
const EARLY: u64 = 1 << 8;

impl Invalidation {
    /// One page.
    #[must_use]
    pub fn of_page(va: VirtAddr) -> Self {
        RangeList::of(VirtRange::page_of(va)).map_or(Self::Everything, Self::Ranges)
    }

    /// The cheapest invalidation that covers `range`: page by page if it is short.
    #[must_use]
    pub fn of_range(range: VirtRange, global: bool) -> Self {
        Self::of_list(RangeList::of(range), global)
    }

    /// The cheapest invalidation that covers the ranges: page by page if they have few pages. Everything that is in question
    /// if there is no list.
    pub(crate) fn of_list(list: Option<RangeList>, global: bool) -> Self {
        match list.filter(|list| list.pages() <= PAGES_BEFORE_FULL) {
            Some(list) => Self::Ranges(list),
            None if global => Self::Everything,
            None => Self::AddressSpace,
        }
    }

    fn encode(self) -> (u64, [u64; MAX_RANGES]) {
        match self {
            Self::Ranges(list) => (RANGES, list.words()),
            Self::AddressSpace => (ADDRESS_SPACE, [0; MAX_RANGES]),
            Self::Everything => (EVERYTHING, [0; MAX_RANGES]),
        }
    }

    fn decode(kind: u64, words: [u64; MAX_RANGES]) -> Self {
        match kind & !EARLY {
            RANGES => Self::Ranges(RangeList::from_words(words)),
            ADDRESS_SPACE => Self::AddressSpace,
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

/// One CPU's part.
struct Cpu {
    mailbox: Mailbox,
    /// CR3 as loaded on this CPU, without the no-flush bit; written by the CPU itself with interrupts disabled.
    current: CachePadded<AtomicU64>,
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
            cpus: [const { Cpu { mailbox: Mailbox::new(), current: CachePadded::new(AtomicU64::new(NOTHING)) } };
                MAX_CPUS],
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
            Invalidation::Ranges(list) if !missed => {
                list.iter().flat_map(|range| range.iter()).for_each(|va| machine.invalidate_page(va));
            }
            Invalidation::Ranges(_) | Invalidation::Everything => (instructions.everything)(machine),
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
    ///
    /// # Panics
    ///
    /// If the thread could move to another CPU, as far as [`Machine::is_pinned`] knows: it would answer for a CPU that has
    /// not invalidated anything.
    pub fn serve<M: Machine>(machine: &M) -> bool {
        assert!(machine.is_pinned(), "serve: called by a thread that could move to another CPU");
        machine.shootdowns().serve_on(machine, true)
    }

    /// `sealed`: the caller touches no user address before this returns, nor does what interrupts it, as far as the machine says so.
    fn serve_on<M: Machine>(&self, machine: &M, sealed: bool) -> bool {
        let here = Pinned::already(machine);
        let me = here.cpu();
        let initiators = self.cpus[me.index()].mailbox.collect();
        for initiator in initiators.iter() {
            let mailbox = &self.cpus[initiator.index()].mailbox;
            let [scope, kind, words @ ..] = mailbox.read();
            let what = Invalidation::decode(kind, words);
            let acknowledge = || {
                if mailbox.acknowledge(me) {
                    machine.wake(initiator);
                }
            };
            // In the handler the old translation can do no harm; see `Machine::may_acknowledge_early`.
            let early = (sealed && kind & EARLY != 0) || self.mutation.is(Mutation::AcknowledgeFirst);
            if early {
                acknowledge();
                machine.point();
            }
            let kernel = scope == KERNEL_SCOPE;
            if kernel || self.current(&here).is_some_and(|cr3| scope == cr3.root.0) {
                self.perform(machine, &here, kernel, what);
            }
            if !early {
                acknowledge();
            }
        }
        !initiators.is_empty()
    }

    /// Has `what` done on every CPU in `targets` and, if `local`, on the current one; returns when all have.
    /// The current CPU must not be in `targets`.
    ///
    /// Interrupts may be enabled or not: who waits here serves requests itself (H-22). With `early` this may return before a target has
    /// invalidated, but not before it is past touching user addresses until it has.
    #[expect(clippy::too_many_arguments, reason = "a request, and whom it is for")]
    pub(crate) fn invalidate<M: Machine>(
        &self,
        machine: &M,
        here: &Pinned,
        scope: Scope,
        what: Invalidation,
        targets: &CpuSet,
        local: bool,
        early: bool,
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
        self.request(machine, here, scope, what, targets, early);
        // While the others work.
        if local {
            self.perform(machine, here, kernel, what);
        }
        let own = &self.cpus[me.index()].mailbox;
        while !own.is_done() {
            if self.mutation.is(Mutation::DeafWaiter) || !self.serve_on(machine, false) {
                machine.relax();
            }
        }
    }
}

impl Shootdowns {
    /// Asks the CPUs in `targets`, without waiting. The current CPU's last request is done.
    #[inline(always)]
    pub(crate) fn request<M: Machine>(
        &self,
        machine: &M,
        here: &Pinned,
        scope: Scope,
        what: Invalidation,
        targets: &CpuSet,
        early: bool,
    ) {
        let me = here.cpu();
        let (kind, words) = what.encode();
        let kind = if early && scope != Scope::Kernel { kind | EARLY } else { kind };
        let mut message = [scope.encode(), kind, 0, 0, 0, 0, 0, 0];
        message[2..].copy_from_slice(&words);
        self.cpus[me.index()].mailbox.write(message, targets);
        for target in targets.iter() {
            machine.point();
            self.cpus[target.index()].mailbox.notify(me);
        }
        machine.send_shootdown(targets);
    }

    /// Whether the last request of a CPU is done everywhere.
    #[cfg(feature = "conformance")]
    pub(crate) fn is_done(&self, initiator: CpuId) -> bool {
        self.cpus[initiator.index()].mailbox.is_done()
    }

    /// Waits until the current CPU's request is done, but not for longer than `patience` turns. Returns whether it is.
    #[cfg(feature = "conformance")]
    pub(crate) fn wait_within<M: Machine>(&self, machine: &M, here: &Pinned, patience: u64) -> bool {
        for _ in 0..patience {
            if self.is_done(here.cpu()) {
                return true;
            }
            if !self.serve_on(machine, false) {
                machine.relax();
            }
        }
        self.is_done(here.cpu())
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
    use crate::addr::PAGE_SHIFT;

    #[test]
    fn requests_survive_encoding() {
        let range = VirtRange::new(VirtAddr(0x7000), VirtAddr(0x9000)).unwrap();
        for what in
            [Invalidation::of_range(range, true), Invalidation::AddressSpace, Invalidation::Everything]
        {
            let (kind, words) = what.encode();
            assert_eq!(Invalidation::decode(kind, words), what);
        }
    }

    #[test]
    fn long_ranges_become_full_invalidations() {
        let pages = |pages| VirtRange::new(VirtAddr(0), VirtAddr(pages << PAGE_SHIFT)).unwrap();
        let most = RangeList::of(pages(PAGES_BEFORE_FULL)).unwrap();
        assert_eq!(Invalidation::of_range(pages(PAGES_BEFORE_FULL), false), Invalidation::Ranges(most));
        for long in [PAGES_BEFORE_FULL + 1, 5000] {
            assert_eq!(Invalidation::of_range(pages(long), false), Invalidation::AddressSpace);
            assert_eq!(Invalidation::of_range(pages(long), true), Invalidation::Everything);
        }
    }
}
