//! The domain: a clock of generations, the sections that are open on it, and those who wait for them.

use core::fmt;
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;
use lock_api::Mutex;
use turnstile::TableScheduler;

#[cfg(feature = "alloc")]
use alloc::{boxed::Box, sync::Arc};

use crate::counters::Counters;
use crate::dispatch;
use crate::fault::Fault;
use crate::implementation::Implementation;
use crate::locked;
use crate::operations::Operations;
use crate::participant::Participant;
use crate::pool::Pool;
use crate::primitive::{AcqRel, Acquire, Release};
use crate::sharded;
use crate::slot::Slot;
use crate::waiters::WaiterCount;
use crate::word::GenerationWord;

/// A set of participants whose sections share one clock of generations.
///
/// Its implementation is fixed when it is made; domains of different implementations can live side by side in one
/// process. Words, sections and participants of different domains have nothing to do with each other.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use std::sync::Arc;
/// use gencount::{Domain, GenerationWord, Hosted, Implementation};
///
/// let domain = Arc::new(Domain::new(Implementation::Locked, Hosted));
/// let participant = domain.join();
/// let word = GenerationWord::new();
///
/// let section = participant.begin();
/// section.mark(&word);
/// assert!(!domain.is_complete(&word));
/// drop(section);
///
/// participant.wait(&word);
/// assert!(domain.is_complete(&word));
/// # }
/// ```
pub struct Domain<S: TableScheduler> {
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

impl<S: TableScheduler> Domain<S> {
    /// A domain with no participants, whose watermark is 0.
    ///
    /// [`Implementation::Lockfree`] works on every CPU; without CMPXCHG16B it is not lock-free (see
    /// [`dcas_queue::pair::is_lock_free`]), and [`Implementation::Locked`] is the better choice.
    #[must_use]
    pub const fn new(implementation: Implementation, scheduler: S) -> Self {
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

    /// A domain with the implementation that the [dispatch table](crate::dispatch) chooses, which is frozen by this.
    ///
    /// # Errors
    ///
    /// What [`dispatch::init`] reports: with feature `std`, a bad value of the environment variable.
    pub fn with_choice(scheduler: S) -> Result<Self, dispatch::Error> {
        Ok(Self::new(dispatch::init()?.implementation(), scheduler))
    }

    /// The implementation that this domain uses.
    #[inline]
    #[must_use]
    pub fn implementation(&self) -> Implementation {
        self.implementation
    }

    /// The scheduler in whose [table](TableScheduler::table) this domain's waiters wait.
    #[inline]
    #[must_use]
    pub fn scheduler(&self) -> &S {
        &self.scheduler
    }

    /// The watermark: every section of this generation or an earlier one has finished, and all that it did
    /// happens-before the return.
    ///
    /// With [`Implementation::Sharded`] finishing a section does not move it; waiting, or asking
    /// [`is_complete`](Self::is_complete), does.
    #[inline]
    #[must_use]
    pub fn watermark(&self) -> u64 {
        (self.operations.watermark)(self)
    }

    /// Whether every section that marked `word` before this call has finished. If so, all that they did
    /// happens-before the return.
    ///
    /// Never blocks. Only reads, but with [`Implementation::Sharded`] the first to ask about a generation moves the clock
    /// and the watermark, scans the participants, and wakes whom that lets go on.
    #[inline]
    #[must_use]
    pub fn is_complete(&self, word: &GenerationWord) -> bool {
        let target = word.get();
        self.watermark() >= target || (self.operations.reached)(self, target)
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

    /// The statistics of all participants, past and present, added up. Takes the pool's lock.
    #[must_use]
    pub fn counters(&self) -> Counters {
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

    /// Makes a participant of this domain, in a slot of its pool; a new slot is allocated if none is free.
    ///
    /// The slot goes back to the pool when the participant is dropped. Slots are freed with the domain.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Participant<S> {
        self.point();
        let free = self.pool.lock().take();
        let slot = free.unwrap_or_else(|| {
            // Allocated outside the lock, which may be a spin lock.
            // Never made into a reference and back: the pool frees the slot through this pointer.
            let slot = NonNull::from(Box::leak(Box::new(Slot::with_origin(true))));
            self.point();
            // SAFETY: the slot is new, hence in no pool, and is freed by the pool itself.
            unsafe { self.add(slot) };
            slot
        });
        // SAFETY: the slot is this domain's, and the pool had it free or never saw it; it lives as long as the
        // domain, which the participant shares.
        unsafe { Participant::shared(Arc::clone(self), slot) }
    }

    /// Makes a participant of this domain in a slot that the caller provides: the way for kernels without an
    /// allocator.
    ///
    /// # Errors
    ///
    /// [`JoinError::SlotTaken`] if another participant has the slot; [`JoinError::ForeignSlot`] if it has served
    /// another domain.
    ///
    /// ```
    /// # #[cfg(feature = "std")] {
    /// use gencount::{Domain, Hosted, Implementation, JoinError, Slot};
    ///
    /// static DOMAIN: Domain<Hosted> = Domain::new(Implementation::Locked, Hosted);
    /// static SLOTS: [Slot; 2] = [const { Slot::new() }; 2];
    ///
    /// let participant = DOMAIN.join_with(&SLOTS[0]).unwrap();
    /// assert_eq!(DOMAIN.join_with(&SLOTS[0]).err(), Some(JoinError::SlotTaken));
    /// # drop(participant);
    /// # assert!(DOMAIN.join_with(&SLOTS[0]).is_ok());
    /// # }
    /// ```
    pub fn join_with(&'static self, slot: &'static Slot) -> Result<Participant<S>, JoinError> {
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
        // SAFETY: the slot is this domain's, `taken` gives it to us alone, and both are static.
        Ok(unsafe { Participant::of_static(self, slot) })
    }

    /// Adds a slot to the pool, and to what `sharded` scans.
    ///
    /// # Safety
    ///
    /// The slot is in no pool, and stays alive as long as the domain.
    unsafe fn add(&self, slot: NonNull<Slot>) {
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

impl<S: TableScheduler> fmt::Debug for Domain<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("implementation", &self.implementation)
            .field("watermark", &self.watermark())
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "std")]
impl Domain<turnstile::Hosted> {
    /// The domain of the whole process, with the implementation that the [dispatch table](crate::dispatch) chooses.
    ///
    /// # Errors
    ///
    /// What [`dispatch::init`] reports, as long as no call has succeeded.
    pub fn global() -> Result<&'static Arc<Self>, dispatch::Error> {
        static GLOBAL: std::sync::OnceLock<Arc<Domain<turnstile::Hosted>>> = std::sync::OnceLock::new();
        if let Some(domain) = GLOBAL.get() {
            return Ok(domain);
        }
        let domain = Arc::new(Self::with_choice(turnstile::Hosted)?);
        Ok(GLOBAL.get_or_init(|| domain))
    }
}

/// Why a slot could not be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum JoinError {
    /// Another participant has the slot: give each its own.
    SlotTaken,
    /// The slot has served another domain, and a slot serves one domain for life: give each domain its own.
    ForeignSlot,
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SlotTaken => "the slot is taken by another participant: give each participant its own",
            Self::ForeignSlot => "the slot has served another domain: give each domain slots of its own",
        })
    }
}

impl core::error::Error for JoinError {}
