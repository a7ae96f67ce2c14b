//! Which locks a thread holds for reading, so that writers know whom to lend to.
//!
//! A reader writes the lock's address into a slot of its own before it enters, and clears it after it left: plain stores, no table. A writer
//! that must wait looks through all threads' slots under the table's lock, marks those that name its lock, and registers the
//! holds that lie beside them. Whoever clears a marked slot takes the table's lock and releases the hold, so exactly one side undoes it.

use core::fmt;

use crate::fault::{Fault, omits};
use crate::primitive::{AcqRel, Acquire, AtomicU64, AtomicUsize, Relaxed, Release};
use crate::{Address, Hold, LendingScheduler, Locked, ThreadId};

/// How many locks a thread can hold for reading and be lent to for each.
const SLOTS: usize = 8;
/// The hold beside the slot is registered; `Slot::place`.
const LENT: usize = 1;
/// Kept for a lock that the thread waits for; `Slot::place`.
const RESERVED: usize = 2;

struct Slot {
    /// 0, `RESERVED`, or a lock's address, which is a multiple of 4, and perhaps `LENT`.
    place: AtomicUsize,
    hold: Hold,
}

/// A thread's holds for reading: eight, and a count of those beyond, for which nothing is lent to it.
///
/// It lies in memory that is never freed while any lock of its scheduler is in use; the default is empty.
pub struct ReadHolds {
    slots: [Slot; SLOTS],
    unlent: AtomicU64,
}

impl ReadHolds {
    /// No holds.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            slots: [const { Slot { place: AtomicUsize::new(0), hold: Hold::new() } }; SLOTS],
            unlent: AtomicU64::new(0),
        }
    }

    /// How often the thread took a lock for reading while all slots were in use, and so without inheriting for it.
    #[must_use]
    pub fn unlent(&self) -> u64 {
        // ORD: Relaxed: a count.
        self.unlent.load(Relaxed)
    }

    /// Takes a free slot, for `place` or (`None`) for a wait. Called by the thread itself.
    #[inline]
    pub(super) fn reserve(&self, place: Option<usize>) -> Option<usize> {
        // ORD: Relaxed: only this thread, or a writer for it while it waits, takes a slot from 0.
        let free = self.slots.iter().position(|slot| slot.place.load(Relaxed) == 0);
        match free {
            // ORD: Relaxed: published by the Release of the exchange on the lock's word that follows.
            Some(free) => self.slots[free].place.store(place.unwrap_or(RESERVED), Relaxed),
            // ORD: Relaxed: a count.
            None => drop(self.unlent.fetch_add(1, Relaxed)),
        }
        free
    }

    /// Clears a slot; says whether its hold has to be [released](Self::release).
    #[inline]
    pub(super) fn clear(&self, slot: usize) -> bool {
        if omits(Fault::ClearedInTwoSteps) {
            // ORD: as below.
            let marked = self.slots[slot].place.load(Acquire) & LENT != 0;
            self.slots[slot].place.store(0, Release); // ORD: as below
            return marked;
        }
        // ORD: AcqRel: pairs with the exchange in `lend`, whichever of the two comes first.
        self.slots[slot].place.swap(0, AcqRel) & LENT != 0
    }

    /// Releases the hold beside a slot that was cleared. A hold that is registered anew by a writer meanwhile belongs to a later
    /// use of the slot: this is called before the thread uses it again.
    pub(super) fn release<S: LendingScheduler, const N: usize>(
        &'static self,
        slot: usize,
        table: &mut Locked<'_, S, N>,
    ) {
        // SAFETY: holds of a scheduler's threads are used with its one table only.
        unsafe { table.release(&self.slots[slot].hold) };
    }

    /// Under the table's lock: every slot that names `place` gets its hold registered.
    pub(super) fn lend<S: LendingScheduler, const N: usize>(
        &'static self,
        owner: ThreadId,
        place: usize,
        table: &mut Locked<'_, S, N>,
    ) {
        for slot in &self.slots {
            // ORD: AcqRel and Acquire: pairs with the swap in `clear`; Relaxed would do for the failure, of which nothing is used.
            if slot.place.compare_exchange(place, place | LENT, AcqRel, Acquire).is_err() {
                continue;
            }
            // SAFETY: a slot without the mark has no registered hold: it is released before the slot is used again. It
            // is a static's, and used with this table only.
            let held = unsafe { table.hold(&slot.hold, Address::new(place), owner, 0) };
            if held.is_err() {
                // The owner waits for one of those who wait here, which was refused where it could be reported. A slot
                // that was cleared meanwhile stays so.
                // ORD: Release and Relaxed: gives the mark back, nothing is read.
                let _ = slot.place.compare_exchange(place | LENT, place, Release, Relaxed);
            }
        }
    }

    /// Whether no slot is in use.
    #[cfg(all(test, feature = "linux-rt", target_os = "linux"))]
    pub(crate) fn is_empty(&self) -> bool {
        // ORD: Relaxed: asked about a thread that has ended.
        self.slots.iter().all(|slot| slot.place.load(Relaxed) == 0)
    }

    /// Makes the atomics, which loom wants done before threads use them.
    #[cfg(all(test, any(turnstile_loom, turnstile_shuttle)))]
    pub(crate) fn touch(&self) {
        let _ = self.unlent();
        for slot in &self.slots {
            // ORD: Relaxed: nothing is read.
            slot.place.load(Relaxed);
        }
    }

    /// Under the table's lock: fails if a slot is in use or its hold registered.
    #[cfg(all(test, any(turnstile_loom, turnstile_shuttle)))]
    pub(crate) fn assert_empty<S: LendingScheduler, const N: usize>(&self, table: &Locked<'_, S, N>) {
        for slot in &self.slots {
            // ORD: Relaxed: its thread has ended.
            assert_eq!(slot.place.load(Relaxed), 0, "a slot is left in use");
            // SAFETY: used with this table only.
            assert!(!unsafe { table.is_registered(&slot.hold) }, "a hold is left registered");
        }
    }

    /// Under the table's lock, by the thread or for it while it waits: the reserved slot is for `place` from now on.
    pub(super) fn occupy(&self, slot: usize, place: usize) {
        // ORD: Relaxed: the next to look is a writer under the table's lock, or the thread itself.
        self.slots[slot].place.store(place, Relaxed);
    }
}

impl Default for ReadHolds {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ReadHolds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadHolds").field("unlent", &self.unlent()).finish_non_exhaustive()
    }
}
