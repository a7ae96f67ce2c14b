//! The domain: a clock of generations, the sections that are open on it, and those who wait for them.

use core::fmt;
use core::marker::PhantomData;

use turnstile::TableScheduler;

#[cfg(feature = "alloc")]
use alloc::sync::Arc;

use crate::common::Common;
use crate::counters::Counters;
use crate::dispatch;
use crate::implementation::Implementation;
use crate::participant::Participant;
use crate::selection::{Dispatch, Dynamic, Static};
use crate::slot::Slot;
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
///
/// `D` says how its implementation is found: at run time ([`Dynamic`], the default), or when the program is compiled
/// ([`Locked`](crate::Locked), [`Lockfree`](crate::Lockfree) or [`Sharded`](crate::Sharded), see [`Dispatch`]).
pub struct Domain<S: TableScheduler, D: Dispatch = Dynamic> {
    pub(crate) common: Common<S>,
    dispatch: PhantomData<fn() -> D>,
}

impl<S: TableScheduler> Domain<S> {
    /// A domain with no participants, whose watermark is 0.
    ///
    /// [`Implementation::Lockfree`] works on every CPU; without CMPXCHG16B it is not lock-free (see
    /// [`dcas_queue::pair::is_lock_free`]), and [`Implementation::Locked`] is the better choice.
    #[must_use]
    pub const fn new(implementation: Implementation, scheduler: S) -> Self {
        Self { common: Common::new(implementation, scheduler), dispatch: PhantomData }
    }

    /// A domain with the implementation that the [dispatch table](crate::dispatch) chooses, which is frozen by this.
    ///
    /// # Errors
    ///
    /// What [`dispatch::init`] reports: with feature `std`, a bad value of the environment variable.
    pub fn with_choice(scheduler: S) -> Result<Self, dispatch::Error> {
        Ok(Self::new(dispatch::init()?.implementation(), scheduler))
    }
}

impl<S: TableScheduler, D: Static> Domain<S, D> {
    /// A domain with no participants, whose implementation is known when the program is compiled: begin, finish and the
    /// wait that finds nothing to wait for contain no indirect call.
    ///
    /// ```
    /// # #[cfg(feature = "std")] {
    /// use gencount::{Domain, Hosted, Implementation, Sharded};
    ///
    /// static DOMAIN: Domain<Hosted, Sharded> = Domain::fixed(Hosted);
    /// assert_eq!(DOMAIN.implementation(), Implementation::Sharded);
    /// # }
    /// ```
    #[must_use]
    pub const fn fixed(scheduler: S) -> Self {
        Self { common: Common::new(D::IMPLEMENTATION, scheduler), dispatch: PhantomData }
    }
}

impl<S: TableScheduler, D: Dispatch> Domain<S, D> {
    /// The implementation that this domain uses.
    #[inline]
    #[must_use]
    pub fn implementation(&self) -> Implementation {
        self.common.implementation()
    }

    /// The scheduler in whose [table](TableScheduler::table) this domain's waiters wait.
    #[inline]
    #[must_use]
    pub fn scheduler(&self) -> &S {
        self.common.scheduler()
    }

    /// The watermark: every section of this generation or an earlier one has finished, and all that it did
    /// happens-before the return.
    ///
    /// With [`Implementation::Sharded`] finishing a section does not move it; waiting, or asking
    /// [`is_complete`](Self::is_complete), does.
    #[inline]
    #[must_use]
    pub fn watermark(&self) -> u64 {
        D::watermark(&self.common)
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
        self.watermark() >= target || (self.common.operations.reached)(&self.common, target)
    }

    /// The statistics of all participants, past and present, added up. Takes the pool's lock.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.common.counters()
    }

    /// Makes a participant of this domain, in a slot of its pool; a new slot is allocated if none is free.
    ///
    /// The slot goes back to the pool when the participant is dropped. Slots are freed with the domain.
    #[cfg(feature = "alloc")]
    #[must_use]
    pub fn join(self: &Arc<Self>) -> Participant<S, D> {
        let slot = self.common.take_slot();
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
    pub fn join_with(&'static self, slot: &'static Slot) -> Result<Participant<S, D>, JoinError> {
        self.common.take_static(slot)?;
        // SAFETY: the slot is this domain's, `taken` gives it to us alone, and both are static.
        Ok(unsafe { Participant::of_static(self, slot) })
    }
}

impl<S: TableScheduler, D: Dispatch> fmt::Debug for Domain<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Domain")
            .field("implementation", &self.implementation())
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
