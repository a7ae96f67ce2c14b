//! What a domain is, however its implementation is selected.

use core::ptr::NonNull;

use crossbeam_utils::CachePadded;
use lock_api::Mutex;
use turnstile::TableScheduler;

#[cfg(feature = "alloc")]
use alloc::boxed::Box;

use crate::counters::Counters;
use crate::domain::JoinError;
use crate::fault::Fault;
use crate::implementation::Implementation;
use crate::locked;
use crate::operations::Operations;
use crate::pool::Pool;
use crate::primitive::{AcqRel, Acquire, Release};
use crate::sharded;
use crate::slot::Slot;
use crate::waiters::WaiterCount;

/// A domain's state, and what all paths share but the short ones of begin, finish and wait.
pub struct Common<S: TableScheduler> {
    pub(crate) operations: Operations<S>,
    implementation: Implementation,
    /// The state of [`Implementation::Lockfree`].
    pub(crate) lockfree: CachePadded<dcas_queue::Queue>,
    /// The state of [`Implementation::Locked`].
    pub(crate) locked: CachePadded<locked::List<S::RawLock>>,
    /// The state of [`Implementation::Sharded`], on lines of its own.
    pub(crate) sharded: sharded::State,
    /// How many wait or are about to; its address is the one that they wait at.
    pub(crate) waiters: CachePadded<WaiterCount>,
    scheduler: S,
    pool: Mutex<S::RawLock, Pool>,
    #[cfg(all(test, feature = "std"))]
    pub(crate) fault: Fault,
}

impl<S: TableScheduler> Common<S> {
    pub(crate) const fn new(implementation: Implementation, scheduler: S) -> Self {
        Self {
            operations: Operations::of(implementation),
            implementation,
            lockfree: CachePadded::new(dcas_queue::Queue::new(0)),
            locked: CachePadded::new(locked::List::new()),
            sharded: sharded::State::new(),
            waiters: CachePadded::new(WaiterCount::new()),
            scheduler,
            pool: Mutex::new(Pool::new()),
            #[cfg(all(test, feature = "std"))]
            fault: Fault::None,
        }
    }

    #[inline]
    pub(crate) fn implementation(&self) -> Implementation {
        self.implementation
    }

    #[inline]
    pub(crate) fn scheduler(&self) -> &S {
        &self.scheduler
    }

    /// The watermark, through the table of operations.
    #[inline]
    pub(crate) fn watermark(&self) -> u64 {
        (self.operations.watermark)(self)
    }

    /// [`Operations::reached`] for implementations whose finishes move the watermark.
    pub(crate) fn watermark_is_at(&self, target: u64) -> bool {
        self.watermark() >= target
    }

    /// Whether a test leaves this step out.
    #[inline]
    pub(crate) fn omits(&self, _fault: Fault) -> bool {
        #[cfg(all(test, feature = "std"))]
        return self.fault == _fault;
        #[cfg(not(all(test, feature = "std")))]
        false
    }

    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.pool.lock().counters();
        if self.implementation == Implementation::Lockfree {
            // A walk that met others has counted them; a section that met none was a queue of one.
            counters.invl_max_qlen = counters.invl_max_qlen.max(counters.di_blocks.min(1));
        }
        counters
    }

    #[inline]
    pub(crate) fn point(&self) {
        self.scheduler().point();
    }

    /// A scheduling point under the table's lock: of the tests' scheduler, whose lock can be waited for, alone.
    #[inline]
    pub(crate) fn point_under_lock(&self) {
        #[cfg(all(test, feature = "std"))]
        self.point();
    }

    /// A slot of the pool for a new participant; a new one is allocated if none is free.
    #[cfg(feature = "alloc")]
    pub(crate) fn take_slot(&self) -> NonNull<Slot> {
        self.point();
        let free = self.pool.lock().take();
        free.unwrap_or_else(|| {
            // Allocated outside the lock, which may be a spin lock.
            // Never made into a reference and back: the pool frees the slot through this pointer.
            let slot = NonNull::from(Box::leak(Box::new(Slot::with_origin(true))));
            self.point();
            // SAFETY: the slot is new, hence in no pool, and is freed by the pool itself.
            unsafe { self.add(slot) };
            slot
        })
    }

    /// Takes the slot that the caller of [`Domain::join_with`](crate::Domain::join_with) provides.
    pub(crate) fn take_static(&'static self, slot: &'static Slot) -> Result<(), JoinError> {
        // ORD: Acquire pairs with the Release store in `leave`: what the last participant did in the slot is visible.
        if slot.taken.swap(true, Acquire) {
            return Err(JoinError::SlotTaken);
        }
        // Not the domain's own address, which something inside it may share.
        let here = core::ptr::from_ref(&self.waiters).addr();
        // ORD: AcqRel: the winner adds the slot below; who reads its own address here knows that it has been added,
        // because `taken` orders it after the winner's `leave`. Acquire on failure for the same reason.
        match slot.home.compare_exchange(0, here, AcqRel, Acquire) {
            // SAFETY: it had no home, hence is in no pool; a static slot outlives the domain.
            Ok(_) => unsafe { self.add(slot.pointer()) },
            Err(home) if home == here => {}
            Err(_) => {
                // ORD: Release pairs with the Acquire swap above.
                slot.taken.store(false, Release);
                return Err(JoinError::ForeignSlot);
            }
        }
        Ok(())
    }

    /// Adds a slot to the pool, and to what `sharded` scans.
    ///
    /// # Safety
    ///
    /// The slot is in no pool, and stays alive as long as the domain.
    unsafe fn add(&self, slot: NonNull<Slot>) {
        if self.operations.finishes_lightly {
            // Early, so that all finishes are alike.
            crate::barrier::decide();
        }
        // A walk finds its way back from a node to its slot.
        let _ = slot.as_ptr().expose_provenance();
        let mut pool = self.pool.lock();
        // SAFETY: the caller's promise.
        unsafe { pool.add(slot) };
        // SAFETY: it was added under this hold of the pool's lock, and stays alive.
        unsafe { self.sharded.add(slot) };
    }

    /// Takes a participant's slot back.
    ///
    /// # Safety
    ///
    /// The slot is of this domain, was given to a participant that is going away, and has no open section.
    pub(crate) unsafe fn leave(&self, pointer: NonNull<Slot>) {
        // SAFETY: a slot lives as long as its domain (INV-DI-6).
        let slot = unsafe { pointer.as_ref() };
        // ORD: Release, though what follows orders it too: the next user's first `bind` reads it with Acquire.
        slot.own.owner.store(0, Release);
        #[cfg(feature = "alloc")]
        if slot.boxed {
            self.point();
            // SAFETY: it is in this pool, and was taken.
            unsafe { self.pool.lock().give_back(pointer) };
            return;
        }
        // ORD: Release pairs with the Acquire swap in `join_with`.
        slot.taken.store(false, Release);
    }

    /// How many slots the pool has.
    #[cfg(all(test, feature = "std", not(gencount_shuttle)))]
    pub(crate) fn slots(&self) -> usize {
        self.pool.lock().slots().count()
    }

    /// How many slots have a loan.
    #[cfg(all(test, feature = "std", not(gencount_shuttle)))]
    pub(crate) fn lent_slots(&self) -> usize {
        self.scheduler.table().locked(|table| {
            let pool = self.pool.lock();
            pool.slots().filter(|slot| self.is_lent(table, slot) || slot.own.loan.is_set()).count()
        })
    }
}
