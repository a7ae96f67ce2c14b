//! The search at guarantee points: is there an entry anywhere that the guarantee forbids?
//!
//! Exactness (INV-M-5). The searcher has had every target's acknowledgement before it states a
//! guarantee, and a target acknowledges between accesses, so all that a target filled from the old
//! table entries is either dropped or visible here. What a CPU fills later comes from the new entries. A CPU
//! that was not asked and still holds an old translation is exactly the error that is looked for.
//!
//! Most searches read a few filter words per CPU and stop there; only a CPU that may hold something is
//! locked.
//!
//! # What cannot be used is not wrong yet
//!
//! A CPU keeps translations under PCIDs that are not loaded, and a CPU that no thread runs keeps global ones. The pmap may leave
//! them there, if it sees to it that they are dropped before the PCID is loaded again or the CPU comes into service. With early
//! acknowledgements the same holds for a CPU in its handler, until the handler ends. So the
//! search *condemns* such an entry instead of reporting it (INV-M-13). A condemned entry is reported when it is used, or when
//! its PCID is loaded with the no-flush bit, which makes it usable; if it is dropped before, all was well.

use std::format;
use std::sync::atomic::Ordering;
use std::vec::Vec;

use super::config::Check;
use super::cpu::{Cpu, UNBOUND};
use super::machine::SimMachine;
use super::memory::Owner;
use super::mmu::Mmu;
use super::tlb::{Entry, Slot};
use super::walk;
use crate::machine::Guarantee;
use crate::{Frame, VirtRange};

/// With [`Check::Sample`], one search in this many is done.
const SAMPLE: u64 = 16;
/// Up to this many pages a range is looked up page by page.
const BY_PAGE: u64 = 64;

impl SimMachine {
    /// Searches for what `guarantee` forbids, if it is this one's turn.
    pub(super) fn search_for(&self, guarantee: Guarantee) {
        if !self.is_due() {
            return;
        }
        match guarantee {
            Guarantee::Unmapped { root, range } => {
                self.search_range(root, range, |_| Some("a translation of an unmapped address"));
            }
            Guarantee::Restricted { root, range } => {
                self.search_range(root, range, |entry| self.excess(root, entry));
            }
            Guarantee::PageUnmapped { frame } => self.search_frame(frame, |entry| {
                (entry.leaf & walk::MANAGED != 0).then_some("a translation to a page without mappings")
            }),
            Guarantee::PageReadOnly { frame } => self.search_frame(frame, |entry| {
                (entry.leaf & walk::MANAGED != 0 && entry.stores_freely())
                    .then_some("a writable translation to a write-protected page")
            }),
        }
    }

    /// Searches for references to a frame that `owner` gives back.
    pub(super) fn search_for_frame(&self, frame: Frame, owner: Owner) {
        if !self.is_due() {
            return;
        }
        self.search_frame(frame, |_| Some("a translation to a freed frame"));
        for (index, cpu) in self.cpus.iter().enumerate() {
            // ORD: SeqCst; pairs with the store in `load_cr3`.
            if cpu.root.load(Ordering::SeqCst) == frame.0 {
                self.ledger.forbidden(|| format!("cpu {index}: CR3 holds {frame:?}, which is freed"));
            }
            if cpu.filters.may_hold_frame(frame) {
                let mut mmu = self.mmu(index);
                let current = mmu.pcid;
                for (level, cached) in mmu.caches.iter_mut().filter(|(_, c)| c.table == frame) {
                    if cached.pcid != current {
                        cached.condemned = true;
                        continue;
                    }
                    self.ledger.forbidden(|| {
                        format!(
                            "cpu {index}: a paging-structure-cache entry of root {:?} leads to {frame:?}, \
                             a level-{level} table freed by {owner:?}",
                            cached.root
                        )
                    });
                }
            }
        }
    }

    fn is_due(&self) -> bool {
        let due = match self.config.check {
            Check::Full => true,
            Check::Off => false,
            Check::Sample => {
                // ORD: Relaxed; counters.
                let count = self.searches.load(Ordering::Relaxed) + self.skipped.load(Ordering::Relaxed);
                let mixed = (count ^ self.config.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                mixed.is_multiple_of(SAMPLE)
            }
        };
        let counter = if due { &self.searches } else { &self.skipped };
        // ORD: Relaxed; a counter.
        counter.fetch_add(1, Ordering::Relaxed);
        due
    }

    /// Judges every translation on any CPU of an address in `range` of the address space with this root. `wrong`
    /// says what is wrong with one, if anything.
    fn search_range(&self, root: Frame, range: VirtRange, wrong: impl Fn(&Entry) -> Option<&'static str>) {
        // Kernel addresses are the same in all address spaces; a global entry serves all as well.
        let concerns = |entry: &Entry| {
            range.contains(entry.va) && (entry.root == root || entry.global || !entry.va.is_user())
        };
        for (index, cpu) in self.cpus.iter().enumerate() {
            if !Self::may_hold(cpu, root, range) {
                continue;
            }
            let mut mmu = self.mmu(index);
            let slots: Vec<Slot> = if range.pages() <= BY_PAGE {
                let all = range.iter().flat_map(|va| mmu.tlb.at_page(va));
                all.filter(|slot| concerns(mmu.tlb.get(*slot))).collect()
            } else {
                mmu.tlb.positions(concerns)
            };
            self.judge(index, &mut mmu, slots, &wrong);
        }
    }

    /// Whether `cpu` can have anything of `range`, without its lock.
    fn may_hold(cpu: &Cpu, root: Frame, range: VirtRange) -> bool {
        (cpu.filters.may_hold_root(root) || cpu.filters.has_globals() || !range.is_user())
            && (range.pages() > BY_PAGE || range.iter().any(|va| cpu.filters.may_hold_page(va)))
    }

    /// Judges every translation to `frame` on any CPU.
    fn search_frame(&self, frame: Frame, wrong: impl Fn(&Entry) -> Option<&'static str>) {
        for (index, cpu) in self.cpus.iter().enumerate() {
            if cpu.filters.may_hold_frame(frame) {
                let mut mmu = self.mmu(index);
                let slots = mmu.tlb.positions(|entry| entry.frame == frame);
                self.judge(index, &mut mmu, slots, &wrong);
            }
        }
    }

    /// Reports or condemns those of the entries that are wrong.
    fn judge(
        &self,
        cpu: usize,
        mmu: &mut Mmu,
        slots: Vec<Slot>,
        wrong: &impl Fn(&Entry) -> Option<&'static str>,
    ) {
        // ORD: SeqCst, as everywhere else; a thread that becomes the CPU later will find the entry condemned.
        let runs = self.cpus[cpu].binding.load(Ordering::SeqCst) != UNBOUND;
        // ORD: SeqCst, as in `SimMachine::serve`.
        let sealed = self.cpus[cpu].sealed.load(Ordering::SeqCst);
        for slot in slots {
            let entry = mmu.tlb.get(slot);
            let Some(what) = wrong(entry) else { continue };
            if if entry.global { runs } else { mmu.is_current(entry.pcid) && !sealed } {
                self.found(cpu, entry, what);
            } else {
                mmu.tlb.condemn(slot);
            }
        }
    }

    /// What a translation permits beyond what the tables say now.
    fn excess(&self, root: Frame, entry: &Entry) -> Option<&'static str> {
        let Some(now) = walk::probe(&self.memory, root, entry.va) else {
            return Some("a translation of an address that is not mapped");
        };
        let (then, allowed) = (entry.rights, now.rights);
        if now.frame != entry.frame {
            Some("a translation to another frame than the tables'")
        } else if entry.stores_freely() && !allowed.write {
            Some("a writable translation of a write-protected address")
        } else if entry.stores_freely() && !now.dirty {
            Some("a translation through which a store would not set the cleared dirty flag")
        } else if then.execute && !allowed.execute {
            Some("an executable translation of an address that is not")
        } else if then.user && !allowed.user {
            Some("a user translation of a supervisor address")
        } else {
            None
        }
    }

    pub(super) fn found(&self, cpu: usize, entry: &Entry, what: &str) {
        self.ledger.forbidden(|| {
            format!(
                "cpu {cpu} holds {what}: {} (root {:?}) to {:?} ({:?}), entry {:#x}",
                entry.va,
                entry.root,
                entry.frame,
                self.memory.stamp(entry.frame).owner(),
                entry.leaf,
            )
        });
    }
}
