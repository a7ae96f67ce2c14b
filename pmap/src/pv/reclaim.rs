//! Taking PV entries, and with them mappings, from whoever can spare them.
//!
//! An address space that needs a PV entry when there is no frame for a chunk takes the mappings away that lie in
//! the oldest chunks, whosever they are, until a chunk is unused, or a page-table page is empty, or a chunk of its own has a
//! free entry. Mappings are caches: their next use faults. Wired ones stay.
//!
//! *Locks.* The reclaimer holds its own pmap lock throughout. The lock of an address space at a higher address it
//! may wait for; that of one at a lower address it only tries (H-69), and passes its chunks if it fails. If it finds
//! nothing then, the operation lets its own lock go, waits for that one, and begins again. No PV-list lock is held
//! while it waits.
//!
//! *Flushes.* A victim is flushed once, when the reclaimer leaves it. PV entries go before that, so the victim is
//! worked on in a section of delayed invalidation, and pages are marked: `remove_all` waits for the flush.
//!
//! *End.* The walk visits each chunk that was on the list when it began once, and finds something or does not.

use gencount::Section;
use lock_api::MutexGuard;

use super::lru::Walk;
use super::{ChunkPtr, NoEntry, PvHold, PvSlot};
use crate::addr::VirtRange;
use crate::entry::WIRED;
use crate::flush::{Freed, Gather};
use crate::machine::{FrameUse, MAX_DOMAINS, Machine};
use crate::mutation::Mutation;
use crate::ops::Mapping;
use crate::pmap::{Core, State};
use crate::system::System;

/// What reclaiming has made beside free entries.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    /// The entries lie in a chunk that was there before.
    Nothing,
    /// There is one chunk more now.
    Chunk,
}

/// What came of one chunk.
enum Yield {
    Nothing,
    /// It has free entries now.
    Entries,
    /// No entry is in use; it is off its owner's list.
    Unused,
}

/// An address space whose chunks are being looked through.
struct Victim<'a, M: Machine> {
    core: &'a Core<M>,
    /// `None` if it is the one that asked, whose lock is held anyway.
    guard: Option<MutexGuard<'a, M::RawMutex, State>>,
    /// `None` inside the section of an operation that asked.
    section: Option<Section<'a, M::Scheduler>>,
    gather: Gather<'a, M>,
    taken: u64,
}

impl<'a, M: Machine> Victim<'a, M> {
    /// Locks `core`, which `asking` may do only in order of address.
    fn lock(
        system: &'a System<M>,
        core: &'a Core<M>,
        asking: &Core<M>,
        pv: &mut PvSlot<'_, M>,
    ) -> Option<Self> {
        let guard = if core.as_owner() == asking.as_owner() {
            None
        } else if core.as_owner() > asking.as_owner() {
            pv.release();
            Some(core.lock())
        } else {
            Some(core.try_lock()?)
        };
        let participant = system.machine().participant();
        let has_section = participant.in_section() || system.mutation().is(Mutation::ReclaimUnmarked);
        let section = (!has_section).then(|| participant.begin());
        Some(Self { core, guard, section, gather: Gather::new(system, core), taken: 0 })
    }

    /// Flushes, unlocks, and ends the section, in this order; the page-table pages that became empty come out.
    fn leave(mut self, system: &System<M>, pv: &mut PvSlot<'_, M>) -> Freed {
        pv.release();
        let freed = self.gather.flush();
        if self.taken > 0 {
            system.guarantee_restricted(self.core, VirtRange::user());
        }
        drop(self.guard.take());
        drop(self.section.take());
        freed
    }
}

impl<M: Machine> System<M> {
    /// Reclaims for `asking`, whose lock is held and whose state is `state`: it has free entries afterwards. An empty
    /// page-table page becomes a chunk only if `one_more` says that there may be one more. Mappings and page-table
    /// pages of any address space may be gone afterwards, `asking`'s included.
    pub(super) fn reclaim<'s>(
        &'s self,
        asking: &'s Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        one_more: bool,
    ) -> Result<Made, NoEntry<'s, M>> {
        self.count(|c| &c.pv_reclaims, 1);
        let domains = self.machine().domain_count().clamp(1, MAX_DOMAINS);
        let here = self.machine().domain_of_cpu(self.machine().current_cpu());
        let mut none = NoEntry::Exhausted;
        for i in 0..domains {
            match self.reclaim_in_domain((here + i) % domains, asking, state, pv, one_more) {
                Ok(found) => return Ok(found),
                Err(NoEntry::Exhausted) => {}
                Err(busy) => none = busy,
            }
        }
        self.count(|c| &c.pv_reclaims_in_vain, 1);
        Err(none)
    }

    fn reclaim_in_domain<'s>(
        &'s self,
        domain: usize,
        asking: &'s Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        one_more: bool,
    ) -> Result<Made, NoEntry<'s, M>> {
        let walk = Walk::begin(self.chunks_by_age(), domain, asking.markers());
        let mut victim: Option<Victim<'_, M>> = None;
        let mut freed = Freed::default();
        let mut found = None;
        let mut unused = None;
        let mut none = NoEntry::Exhausted;
        while let Some((chunk, owner)) = walk.next() {
            let Some(v) = victim.as_mut().filter(|v| v.core.as_owner() == owner) else {
                if let Some(old) = victim.take() {
                    freed.merge(self, old.leave(self, pv));
                }
                if one_more && !freed.is_empty() {
                    break;
                }
                let core = self.core_of(owner);
                victim = Victim::lock(self, core, asking, pv);
                if victim.is_none() {
                    walk.pass_chunk_of(owner);
                    none = NoEntry::Busy(core);
                }
                // Look again: whatever was not locked may have changed.
                continue;
            };
            let own = v.guard.is_none();
            let state = v.guard.as_deref_mut().unwrap_or(state);
            match self.take_from_chunk(v.core, state, &mut v.gather, pv, chunk, own) {
                (_, Yield::Nothing) => walk.pass_unproductive(chunk),
                (taken, Yield::Unused) => {
                    v.taken += taken;
                    unused = Some((chunk, owner));
                    break;
                }
                (taken, Yield::Entries) => {
                    v.taken += taken;
                    if own {
                        found = Some(Made::Nothing);
                        break;
                    }
                    if one_more && v.gather.has_tables() {
                        break;
                    }
                    walk.pass_unproductive(chunk);
                }
            }
        }
        if let Some((chunk, owner)) = unused {
            // On the list all the time: others that are short of entries must not find nothing in between.
            let chunk = walk.change_owner(chunk, owner, asking.as_owner());
            state.chunks.push_front(chunk);
            self.count(|c| &c.pv_chunks_taken, 1);
            found = Some(Made::Nothing);
        }
        if found.is_none()
            && let Some(owner) = walk.missed(asking.as_owner())
        {
            none = NoEntry::Busy(self.core_of(owner));
        }
        drop(walk);
        if let Some(last) = victim {
            freed.merge(self, last.leave(self, pv));
        }
        if found.is_none()
            && one_more
            && let Some(frame) = freed.take_one(self)
        {
            self.count(|c| &c.pt_pages_recycled, 1);
            // SAFETY: allocated as a page table; unlinked and flushed, so neither software nor hardware refers to it.
            unsafe { self.machine().reuse_frame(frame, FrameUse::PageTable, FrameUse::PvChunk) };
            self.add_chunk(asking, state, self.machine().direct_map(frame));
            found = Some(Made::Chunk);
        }
        freed.give_back(self);
        found.ok_or(none)
    }

    /// Takes the mappings of a chunk away that are not wired. `core`, its owner, is locked, so it stays. `own` if the
    /// entries are for its owner.
    fn take_from_chunk(
        &self,
        core: &Core<M>,
        state: &mut State,
        gather: &mut Gather<'_, M>,
        pv: &mut PvSlot<'_, M>,
        chunk: ChunkPtr,
        own: bool,
    ) -> (u64, Yield) {
        if chunk.is_unused() {
            // Reserved entries. The owner itself gains nothing by making a new chunk of it (H-4).
            if own && !self.mutation().is(Mutation::ReclaimOwnReserve) {
                return (0, Yield::Nothing);
            }
            state.chunks.remove(chunk);
            return (0, Yield::Unused);
        }
        let mut taken = 0;
        let mut yields = Yield::Nothing;
        for entry in chunk.in_use() {
            let Some(slot) = self.leaf_slot(core.root(), entry.va()) else { continue };
            if slot.load().has(WIRED) && !self.mutation().is(Mutation::ReclaimWired) {
                continue;
            }
            let (unlisted, _) = self.unmap_leaf(core, state, pv, gather, Mapping::Of(entry), slot);
            let Some(entry) = unlisted else { continue };
            self.count(|c| &c.pv_freed, 1);
            taken += 1;
            yields = match state.chunks.put(entry) {
                Some(_) => Yield::Unused,
                None => Yield::Entries,
            };
        }
        self.count(|c| &c.pv_reclaimed, taken);
        (taken, yields)
    }
}
