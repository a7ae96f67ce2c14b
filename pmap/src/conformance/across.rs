//! What one CPU asks of another: shootdowns, and INVLPGB.
//!
//! The *initiator* changes a mapping and has it invalidated; the *target* reads through it all the time, with interrupts enabled,
//! as a program would. It neither relaxes nor serves by itself: interrupts have to come.

use super::meeting::Over;
use super::rule::Rule;
use super::suite::{PLACES, Suite};
use super::translation::Bench;
use crate::addr::VirtAddr;
use crate::cpuset::{CpuId, CpuSet};
use crate::machine::Machine;
use crate::pinned::Pinned;
use crate::shootdown::{Invalidation, Scope};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// A page of an address space.
    Page,
    /// All of an address space.
    AddressSpace,
    /// A page of the kernel's.
    KernelPage,
    /// Everything.
    Everything,
    /// A page of an address space, while the target has interrupts disabled.
    Masked,
    /// A page of the kernel's, by INVLPGB.
    Broadcast,
}

pub(super) const CASES: [Case; 6] =
    [Case::Page, Case::AddressSpace, Case::KernelPage, Case::Everything, Case::Masked, Case::Broadcast];

/// Reads after a request was sent, in which an interrupt would come if it were let.
const READS_WHILE_MASKED: usize = 2000;

/// Where the two are. Each stage is entered by one of them, and awaited by the other.
mod stage {
    pub(super) const IDLE: u32 = 0;
    /// Initiator: the old mapping is there.
    pub(super) const PREPARED: u32 = 1;
    /// Target: it is cached; in [`Masked`](super::Case::Masked), interrupts are disabled.
    pub(super) const READY: u32 = 2;
    /// Initiator: the mapping has changed.
    pub(super) const CHANGED: u32 = 3;
    /// Target: has looked whether the old one is in use.
    pub(super) const LOOKED: u32 = 4;
    /// Initiator: the request is sent.
    pub(super) const SENT: u32 = 5;
    /// Target: interrupts are enabled again.
    pub(super) const RELEASED: u32 = 6;
    /// Initiator: it is done everywhere.
    pub(super) const DONE: u32 = 7;
}

/// Why a pair does not go on.
pub(super) enum Fault {
    Rule(Rule),
    Over,
}

impl From<Rule> for Fault {
    fn from(rule: Rule) -> Self {
        Self::Rule(rule)
    }
}

impl From<Over> for Fault {
    fn from(_: Over) -> Self {
        Self::Over
    }
}

/// Two CPUs, the initiator first.
pub(super) struct Pair<'a, 's, M: Machine> {
    pub(super) suite: &'a Suite<'s, M>,
    pub(super) read: &'a dyn Fn(VirtAddr) -> u64,
    pub(super) cpus: [Option<CpuId>; 2],
}

impl<M: Machine> Pair<'_, '_, M> {
    /// Plays the caller's part of a case.
    pub(super) fn play(&self, case: Case, initiates: bool) -> Result<(), Fault> {
        let machine = self.suite.system.machine();
        let window = machine.kernel_window();
        let needs_window = matches!(case, Case::KernelPage | Case::Everything | Case::Broadcast);
        let method = self.suite.system.tlb_choice().method;
        let has_invlpgb = method.has_pcids() && machine.tlb_features().invlpgb.is_some();
        if (needs_window && window.is_empty()) || (case == Case::Broadcast && !has_invlpgb) {
            return Ok(());
        }
        let va = if needs_window { window.start() } else { PLACES[0] };
        let bench = Bench::new(self.suite, self.read);
        if initiates { self.initiate(&bench, case, va) } else { self.suffer(&bench, case, va) }
    }

    fn wait_for(&self, stage: u32) -> Result<(), Over> {
        let (meeting, machine) = (&self.suite.meeting, self.suite.system.machine());
        meeting.until(|| machine.relax(), || meeting.stage() == stage)
    }

    /// Waits as a program does that has something else to do.
    fn read_until(&self, stage: u32, va: VirtAddr) -> Result<(), Over> {
        let meeting = &self.suite.meeting;
        let read = || {
            let _ = (self.read)(va);
        };
        meeting.until(read, || meeting.stage() == stage)
    }

    fn initiate(&self, bench: &Bench<'_, '_, M>, case: Case, va: VirtAddr) -> Result<(), Fault> {
        let machine = self.suite.system.machine();
        let meeting = &self.suite.meeting;
        let (shootdowns, here) = (machine.shootdowns(), Pinned::already(machine));
        let map = |frame| {
            if va == PLACES[0] {
                bench.point(0, frame)
            } else {
                let _ = bench.point_kernel(frame);
            }
        };
        map(0);
        meeting.enter_stage(stage::PREPARED);
        self.wait_for(stage::READY)?;
        map(1);
        if case == Case::Masked {
            self.request(&here, Invalidation::of_page(va), va);
            meeting.enter_stage(stage::SENT);
            self.wait_for(stage::RELEASED)?;
        } else {
            meeting.enter_stage(stage::CHANGED);
            self.wait_for(stage::LOOKED)?;
            match case {
                Case::Broadcast => bench.broadcast(va, true),
                Case::AddressSpace => self.request(&here, Invalidation::AddressSpace, va),
                Case::Everything => self.request(&here, Invalidation::Everything, va),
                Case::Page | Case::KernelPage | Case::Masked => {
                    self.request(&here, Invalidation::of_page(va), va);
                }
            }
        }
        if !shootdowns.wait_within(machine, &here, self.suite.patience) {
            return Err(Rule::ShootdownServed.into());
        }
        meeting.enter_stage(stage::DONE);
        self.wait_for(stage::IDLE)?;
        bench.leave();
        Ok(())
    }

    fn request(&self, here: &Pinned, what: Invalidation, va: VirtAddr) {
        let machine = self.suite.system.machine();
        let root = self.suite.spaces[0].root();
        let scope = if va == PLACES[0] { Scope::Root(root) } else { Scope::Kernel };
        let mut targets = CpuSet::EMPTY;
        self.cpus[1].into_iter().for_each(|cpu| targets.insert(cpu));
        machine.shootdowns().request(machine, here, scope, what, &targets, false);
    }

    fn suffer(&self, bench: &Bench<'_, '_, M>, case: Case, va: VirtAddr) -> Result<(), Fault> {
        let machine = self.suite.system.machine();
        let meeting = &self.suite.meeting;
        self.wait_for(stage::PREPARED)?;
        machine.invalidate_everything();
        bench.enter(0, false);
        bench.expect(va, 0, Rule::WrongTranslation)?;
        let mut was_stale = true;
        if case == Case::Masked {
            let served = machine.without_interrupts(|| self.stay_deaf(va))?;
            if served {
                return Err(Rule::InterruptsMasked.into());
            }
            meeting.enter_stage(stage::RELEASED);
        } else {
            meeting.enter_stage(stage::READY);
            self.read_until(stage::CHANGED, va)?;
            was_stale = bench.is_stale(va)?;
            meeting.enter_stage(stage::LOOKED);
        }
        self.read_until(stage::DONE, va)?;
        let rule = if case == Case::Broadcast { Rule::InvlpgbElsewhere } else { Rule::ShootdownEffect };
        bench.expect(va, 1, rule)?;
        self.suite.note(if case == Case::Masked { Rule::InterruptsMasked } else { rule }, was_stale);
        bench.leave();
        meeting.enter_stage(stage::IDLE);
        Ok(())
    }

    /// Has interrupts disabled while the request comes. Returns whether it was served nevertheless.
    fn stay_deaf(&self, va: VirtAddr) -> Result<bool, Over> {
        self.suite.meeting.enter_stage(stage::READY);
        self.read_until(stage::SENT, va)?;
        for _ in 0..READS_WHILE_MASKED {
            let _ = (self.read)(va);
        }
        let shootdowns = self.suite.system.machine().shootdowns();
        Ok(self.cpus[0].is_none_or(|initiator| shootdowns.is_done(initiator)))
    }
}
