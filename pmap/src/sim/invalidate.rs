//! What the instructions that invalidate do to one CPU's caches, and a load of CR3.
//!
//! Each drops what the manual says it must (Intel SDM vol. 3, 4.10.4.1; AMD APM vol. 3, INVLPGB), and nothing more: whatever
//! a CPU may keep is kept.

use std::format;

use rand_core::Rng;

use super::memory::Memory;
use super::mmu::{Board, Mmu, is_stale};
use super::structure_cache::StructureCache;
use super::tlb::Reach;
use crate::translation::{Cr3, Invlpgb, Invpcid};
use crate::{Pcid, VirtAddr};

/// Entries that an invalidation of more than one page looks at before it drops them.
const LOOKED_AT: usize = 8;

impl Mmu {
    /// INVLPG.
    pub(super) fn invalidate_page(&mut self, memory: &Memory, va: VirtAddr) {
        self.counters.invalidations += 1;
        let pcid = self.pcid;
        self.drop_page(memory, va, Reach { pcid: Some(pcid), globals: !self.keeps_globals });
        // Of all addresses, but of this PCID only.
        self.caches.drop_where(|_, cached| cached.pcid == pcid);
    }

    /// A change of CR4.PGE.
    pub(super) fn invalidate_everything(&mut self, memory: &Memory) {
        self.counters.invalidations += 1;
        self.drop_all(memory, Reach::EVERYTHING);
    }

    /// INVPCID.
    pub(super) fn invpcid(&mut self, memory: &Memory, what: Invpcid) {
        self.counters.invalidations += 1;
        match what {
            Invpcid::Address { pcid, va } => {
                self.drop_page(memory, va, Reach { pcid: Some(pcid), globals: false });
                self.caches.drop_for(va, pcid);
            }
            Invpcid::Context { pcid } => self.drop_all(memory, Reach { pcid: Some(pcid), globals: false }),
            Invpcid::AllWithGlobals => self.drop_all(memory, Reach::EVERYTHING),
            Invpcid::AllButGlobals => self.drop_all(memory, Reach { pcid: None, globals: false }),
        }
    }

    /// What an INVLPGB of any CPU does on this one.
    pub(super) fn invlpgb(&mut self, memory: &Memory, what: &Invlpgb) {
        self.counters.invalidations += 1;
        let reach = Reach { pcid: what.pcid, globals: what.globals };
        let Some(first) = what.va else { return self.drop_all(memory, reach) };
        for step in 0..=u64::from(what.more) {
            // One translation a step, whatever the stride: 4 KiB pages between the steps stay.
            let va = first.wrapping_add(step * what.stride.bytes());
            self.drop_page(memory, va, reach);
            self.caches.drop_where(|level, cached| {
                reach.covers_pcid(cached.pcid) && StructureCache::concerns(level, cached, va)
            });
        }
    }

    /// CR3 := `cr3`. What is cached under its PCID goes, unless the no-flush bit is set; then it becomes usable, and must
    /// be good.
    pub(super) fn load_cr3(&mut self, board: Board<'_>, cr3: Cr3) {
        if cr3.no_flush {
            self.judge_kept(board, cr3);
        } else {
            self.counters.invalidations += 1;
            self.drop_all(board.memory, Reach { pcid: Some(cr3.pcid), globals: false });
        }
        self.root = Some(cr3.root);
        self.pcid = cr3.pcid;
    }

    /// Finds what becomes usable with the load of `cr3` and must not: translations that a guarantee forbids, and those of
    /// another address space.
    fn judge_kept(&mut self, board: Board<'_>, cr3: Cr3) {
        let Board { ledger, cpu, .. } = board;
        let Cr3 { root, pcid, .. } = cr3;
        for entry in self.tlb.iter().filter(|e| e.pcid == pcid && !e.global) {
            let what = match (entry.condemned, entry.root == root) {
                (true, _) => "a translation that a guarantee forbade",
                (false, false) => "a translation of another address space",
                (false, true) => continue,
            };
            ledger.forbidden(|| {
                format!(
                    "cpu {cpu} loads {root:?} with PCID {} and no flush, and so uses {what}: {} (root {:?}) to {:?}",
                    pcid.get(),
                    entry.va,
                    entry.root,
                    entry.frame
                )
            });
        }
        for (level, cached) in
            self.caches.iter_mut().filter(|(_, c)| c.pcid == pcid && (c.condemned || c.root != root))
        {
            ledger.forbidden(|| {
                format!(
                    "cpu {cpu} loads {root:?} with PCID {} and no flush, and so may walk through {:?}, a level-{level} \
                     table of root {:?} or one that was freed",
                    pcid.get(),
                    cached.table,
                    cached.root
                )
            });
        }
        // Nothing need be cached now: the processor may walk the old tables as late as that.
        if pcid == self.pcid
            && let Some(old) = self.root.filter(|old| *old != root)
        {
            ledger.forbidden(|| {
                format!(
                    "cpu {cpu} loads {root:?} in place of {old:?} under the same PCID {} and no flush, and so may use what \
                     it walked until now",
                    pcid.get()
                )
            });
        }
    }

    /// Does some INVLPGBs of other CPUs: whenever it likes, before it must.
    pub(super) fn catch_up_at_random(&mut self, memory: &Memory) {
        if !self.broadcasts.is_empty() && self.rng.next_u64().is_multiple_of(4) {
            self.catch_up(memory, None);
        }
    }

    /// Does the INVLPGBs of CPU `issuer`, or all.
    pub(super) fn catch_up(&mut self, memory: &Memory, issuer: Option<usize>) {
        for what in self.broadcasts.take(issuer) {
            self.invlpgb(memory, &what);
        }
    }

    fn drop_page(&mut self, memory: &Memory, va: VirtAddr, reach: Reach) {
        let mut stale = 0;
        self.tlb
            .drop_page(va, reach, &mut |entry| stale += u64::from(!entry.counted && is_stale(memory, entry)));
        self.counters.stale_before_guarantee += stale;
    }

    fn drop_all(&mut self, memory: &Memory, reach: Reach) {
        let (mut stale, mut looked) = (0, 0);
        self.tlb.drop_where(|entry| reach.covers(entry), &mut |entry| {
            if looked < LOOKED_AT {
                looked += 1;
                stale += u64::from(!entry.counted && is_stale(memory, entry));
            }
        });
        self.counters.stale_before_guarantee += stale;
        self.caches.drop_where(|_, cached| reach.covers_pcid(cached.pcid));
    }

    /// Whether what is cached under `pcid` can be used as things are.
    pub(super) fn is_current(&self, pcid: Pcid) -> bool {
        self.pcid == pcid
    }
}
