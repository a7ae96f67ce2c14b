//! What the invalidating instructions do on one CPU.

use super::rule::Rule;
use super::suite::{PLACES, Suite, VALUES};
use crate::addr::VirtAddr;
use crate::entry::Entry;
use crate::machine::Machine;
use crate::pinned::Pinned;
use crate::protection::Protection;
use crate::translation::{Cr3, Invlpgb, Invpcid, Pcid, Stride};

/// How often a check is repeated until something old was in use before it: a TLB may drop what it likes.
const TRIES: usize = 8;

const FIRST: Pcid = match Pcid::new(1) {
    Some(pcid) => pcid,
    None => Pcid::KERNEL,
};

/// One CPU at work. The thread stays there.
pub(super) struct Bench<'a, 's, M: Machine> {
    suite: &'a Suite<'s, M>,
    read: &'a dyn Fn(VirtAddr) -> u64,
    has_pcids: bool,
}

/// All checks of the current CPU. Leaves the kernel's root loaded, and nothing cached.
pub(super) fn check<M: Machine>(suite: &Suite<'_, M>, read: &dyn Fn(VirtAddr) -> u64) -> Result<(), Rule> {
    let machine = suite.system.machine();
    machine.without_interrupts(|| {
        let bench = Bench::new(suite, read);
        let result = bench.all();
        bench.leave();
        result
    })
}

impl<'a, 's, M: Machine> Bench<'a, 's, M> {
    pub(super) fn new(suite: &'a Suite<'s, M>, read: &'a dyn Fn(VirtAddr) -> u64) -> Self {
        let has_pcids = suite.system.tlb_choice().method.has_pcids();
        Self { suite, read, has_pcids }
    }

    fn machine(&self) -> &'s M {
        self.suite.system.machine()
    }

    /// The PCID under which a space is loaded; all the same without PCIDs.
    fn pcid(&self, space: usize) -> Pcid {
        let next = Pcid::new(FIRST.get() + space as u16).filter(|_| self.has_pcids);
        // With the fewest PCIDs there is one beside the kernel's.
        next.filter(|pcid| pcid.get() < self.machine().tlb_features().pcids).unwrap_or(Pcid::KERNEL)
    }

    fn load(&self, cr3: Cr3) {
        let machine = self.machine();
        // No request may be served between the two.
        Pinned::run_masked(machine, |here| {
            // SAFETY: the root is that of a live address space or the kernel's; both have the kernel half.
            unsafe { machine.load_cr3(cr3) };
            machine.shootdowns().set_current(here, cr3);
        });
    }

    /// Loads a space under its PCID.
    pub(super) fn enter(&self, space: usize, no_flush: bool) {
        let pcid = self.pcid(space);
        let no_flush = no_flush && self.has_pcids;
        self.load(Cr3 { root: self.suite.spaces[space].root(), pcid, no_flush });
    }

    /// Loads the kernel's root, and drops everything.
    pub(super) fn leave(&self) {
        let root = self.suite.system.kernel().root();
        self.load(Cr3 { root, pcid: Pcid::KERNEL, no_flush: false });
        self.machine().invalidate_everything();
    }

    /// Points the leaf at `PLACES[0]` of a space at one of the frames.
    pub(super) fn point(&self, space: usize, frame: usize) {
        let system = self.suite.system;
        if let Some(slot) = system.leaf_slot(self.suite.spaces[space].root(), PLACES[0]) {
            // The entry's accessed and dirty bits are always set.
            let _ = slot.exchange(self.suite.leaf(frame));
        }
    }

    /// Gives the leaf at `PLACES[1]` of a space the frame that it was entered with, for the kernel.
    fn point_second(&self, space: usize) {
        let system = self.suite.system;
        if let Some(slot) = system.leaf_slot(self.suite.spaces[space].root(), PLACES[1]) {
            let _ = slot.exchange(self.suite.leaf(1)); // as above
        }
    }

    /// Lets the entry above `PLACES[0]` of a space lead to the leaf table that was made for `PLACES[table]`.
    fn lead(&self, space: usize, table: usize) {
        let _ = self.suite.above(space).exchange(Entry::table(self.suite.tables[space][table])); // as above
    }

    /// The kernel window's first page; `None` if there is no window.
    fn window(&self) -> Option<VirtAddr> {
        let window = self.machine().kernel_window();
        (!window.is_empty()).then_some(window.start())
    }

    /// Points the kernel window's first page at one of the frames, without any flush.
    pub(super) fn point_kernel(&self, frame: usize) -> Option<VirtAddr> {
        let va = self.window()?;
        self.suite.system.kenter(va, self.suite.frames[frame], Protection::READ).ok().map(|()| va)
    }

    /// What is read at an address must be the value of `frame`.
    pub(super) fn expect(&self, va: VirtAddr, frame: usize, rule: Rule) -> Result<(), Rule> {
        if (self.read)(va) == VALUES[frame] { Ok(()) } else { Err(rule) }
    }

    /// Whether the old value, that of frame 0, is still in use; it may be.
    pub(super) fn is_stale(&self, va: VirtAddr) -> Result<bool, Rule> {
        match (self.read)(va) {
            value if value == VALUES[0] => Ok(true),
            value if value == VALUES[1] => Ok(false),
            _ => Err(Rule::WrongTranslation),
        }
    }

    /// One check, repeated until it has shown something: `old` makes a mapping of frame 0 at `va`, `new` changes it to frame 1,
    /// and after `operation` only that may be used.
    ///
    /// The flush before it is a check, too: `flush` is its rule.
    fn try_out(
        &self,
        (rule, flush): (Rule, Rule),
        va: VirtAddr,
        old: impl Fn(),
        new: impl Fn(),
        operation: impl Fn(),
    ) -> Result<(), Rule> {
        for _ in 0..TRIES {
            old();
            self.machine().invalidate_everything();
            self.enter(0, false);
            self.expect(va, 0, flush)?;
            new();
            let was_stale = self.is_stale(va)?;
            operation();
            self.expect(va, 1, rule)?;
            self.suite.note(rule, was_stale);
            if was_stale {
                break;
            }
        }
        Ok(())
    }

    /// As [`try_out`](Self::try_out), of a user's page.
    fn try_page(&self, rule: Rule, operation: impl Fn()) -> Result<(), Rule> {
        self.try_out(
            (rule, Rule::InvalidateEverything),
            PLACES[0],
            || self.point(0, 0),
            || self.point(0, 1),
            operation,
        )
    }

    /// As [`try_out`](Self::try_out), of the kernel window's first page.
    fn try_global(&self, rule: Rule, operation: impl Fn()) -> Result<(), Rule> {
        let Some(va) = self.window() else { return Ok(()) };
        let point = |frame| {
            let _ = self.point_kernel(frame);
        };
        self.try_out((rule, Rule::InvalidateEverythingGlobal), va, || point(0), || point(1), operation)
    }

    /// As [`try_page`](Self::try_page), but another address space is loaded during the operation, and the first one comes back without a
    /// flush.
    fn try_away(&self, rule: Rule, operation: impl Fn()) -> Result<(), Rule> {
        self.try_page(rule, || {
            self.enter(1, false);
            operation();
            self.enter(0, true);
        })
    }

    fn all(&self) -> Result<(), Rule> {
        for space in 0..2 {
            self.point_second(space);
        }
        self.point(0, 0);
        self.enter(0, false);
        self.expect(PLACES[0], 0, Rule::WrongTranslation)?;
        self.pages()?;
        self.everything()?;
        self.roots()?;
        let features = self.machine().tlb_features();
        if self.has_pcids && features.invpcid {
            self.invpcid()?;
        }
        if self.has_pcids && features.invlpgb.is_some() {
            let here = || self.broadcast(PLACES[0], false);
            self.try_page(Rule::InvlpgbHere, here)?;
            let global = || self.window().into_iter().for_each(|va| self.broadcast(va, true));
            self.try_global(Rule::InvlpgbHere, global)?;
        }
        Ok(())
    }

    /// INVLPGB of a page, and TLBSYNC.
    pub(super) fn broadcast(&self, va: VirtAddr, globals: bool) {
        self.machine().invlpgb(Invlpgb { va: Some(va), more: 0, stride: Stride::Page, pcid: None, globals });
        self.machine().tlbsync();
    }

    fn pages(&self) -> Result<(), Rule> {
        let machine = self.machine();
        let drop_page = || machine.invalidate_page(PLACES[0]);
        self.try_page(Rule::InvalidatePage, drop_page)?;
        // Another leaf table, in which another frame is mapped: what leads to the old one must be forgotten.
        let old = || {
            self.point(0, 0);
            self.lead(0, 0);
        };
        let rules = (Rule::InvalidatePageTables, Rule::InvalidateEverything);
        self.try_out(rules, PLACES[0], old, || self.lead(0, 1), drop_page)?;
        self.lead(0, 0);
        if !machine.invlpg_misses_globals() {
            let drop_page = || self.window().into_iter().for_each(|va| machine.invalidate_page(va));
            self.try_global(Rule::InvalidatePageGlobal, drop_page)?;
            if self.has_pcids {
                self.try_global(Rule::InvalidatePageGlobalElsewhere, || {
                    self.enter(1, false);
                    drop_page();
                    self.enter(0, true);
                })?;
            }
        }
        Ok(())
    }

    fn everything(&self) -> Result<(), Rule> {
        let everything = || self.machine().invalidate_everything();
        self.try_page(Rule::InvalidateEverything, everything)?;
        self.try_global(Rule::InvalidateEverythingGlobal, everything)?;
        if self.has_pcids { self.try_away(Rule::InvalidateEverythingPcids, everything) } else { Ok(()) }
    }

    /// Loads of CR3.
    fn roots(&self) -> Result<(), Rule> {
        self.try_page(Rule::LoadCr3, || self.enter(0, false))?;
        self.try_page(Rule::LoadCr3, || {
            self.enter(1, false);
            self.enter(0, false);
        })?;
        // Two spaces that map different frames at one address, to and fro.
        self.point(0, 0);
        self.point(1, 1);
        self.machine().invalidate_everything();
        let rule = if self.has_pcids { Rule::PcidsApart } else { Rule::LoadCr3 };
        for no_flush in [false, true, true] {
            for space in [0, 1] {
                self.enter(space, no_flush);
                self.expect(PLACES[0], space, rule)?;
            }
        }
        self.suite.note(rule, true);
        self.machine().invalidate_everything();
        Ok(())
    }

    fn invpcid(&self) -> Result<(), Rule> {
        let pcid = self.pcid(0);
        let rows = [
            (Rule::InvpcidAddress, Invpcid::Address { pcid, va: PLACES[0] }),
            (Rule::InvpcidContext, Invpcid::Context { pcid }),
            (Rule::InvpcidAll, Invpcid::AllWithGlobals),
            (Rule::InvpcidAllButGlobals, Invpcid::AllButGlobals),
        ];
        for (rule, what) in rows {
            let operation = || self.machine().invpcid(what);
            self.try_page(rule, operation)?;
            self.try_away(rule, operation)?;
        }
        self.try_global(Rule::InvpcidAllGlobal, || self.machine().invpcid(Invpcid::AllWithGlobals))
    }
}
