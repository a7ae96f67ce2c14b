//! Participants, and the sections that they open.

use core::fmt;
use core::marker::PhantomData;
#[cfg(feature = "alloc")]
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use turnstile::{Deadlock, TableScheduler};

#[cfg(feature = "alloc")]
use alloc::sync::Arc;

use crate::counters::OwnCounters;
use crate::domain::Domain;
use crate::limit::Never;
use crate::primitive::{Acquire, Relaxed, Release};
use crate::selection::{Dispatch, Dynamic};
use crate::slot::{BUSY, Slot};
use crate::waiting::deadlocked;
use crate::word::GenerationWord;

/// A thread's (or a CPU's) membership in a [`Domain`]: it opens sections, marks words, and waits.
///
/// # One thread at a time
///
/// A participant serves one thread: the first that begins a section with it. It can be moved to other threads and
/// shared with them all the same (put in an `Arc`, say), as long as only that thread begins and finishes; another
/// thread that tries gets a panic, in release builds too, because two threads in one slot would corrupt the queue. The
/// check costs a comparison with [`Scheduler::current`](turnstile::Scheduler::current). [`unbind`](Self::unbind) lets another thread take over.
///
/// # Leaving
///
/// Dropping the participant leaves the domain. A section that is still open then (its guard was forgotten, or
/// [`begin_raw`](Self::begin_raw) was not answered) is finished, lest others wait for it for ever;
/// [`Counters::di_forgotten`](crate::Counters::di_forgotten) counts it.
pub struct Participant<S: TableScheduler, D: Dispatch = Dynamic> {
    domain: NonNull<Domain<S, D>>,
    slot: NonNull<Slot>,
    /// Keeps the domain alive; `None` if it is static.
    #[cfg(feature = "alloc")]
    shared: Option<Arc<Domain<S, D>>>,
}

// SAFETY: domain and slot are Sync and live at least as long as the participant. What only one thread at a time may do
// (begin, finish) is checked against the slot's owner.
unsafe impl<S: TableScheduler, D: Dispatch> Send for Participant<S, D> {}
// SAFETY: as above.
unsafe impl<S: TableScheduler, D: Dispatch> Sync for Participant<S, D> {}

impl<S: TableScheduler, D: Dispatch> Participant<S, D> {
    /// # Safety
    ///
    /// The slot is of this domain, lives as long as it, and no other participant has it.
    #[cfg(feature = "alloc")]
    pub(crate) unsafe fn shared(domain: Arc<Domain<S, D>>, slot: NonNull<Slot>) -> Self {
        Self { domain: NonNull::from(&*domain), slot, shared: Some(domain) }
    }

    /// # Safety
    ///
    /// The slot is of this domain, and no other participant has it.
    pub(crate) unsafe fn of_static(domain: &'static Domain<S, D>, slot: &'static Slot) -> Self {
        Self {
            domain: NonNull::from(domain),
            slot: slot.pointer(),
            #[cfg(feature = "alloc")]
            shared: None,
        }
    }

    /// The domain that this participant belongs to.
    #[inline]
    #[must_use]
    pub fn domain(&self) -> &Domain<S, D> {
        // SAFETY: static, or kept alive by `shared`; a shared domain does not move.
        unsafe { self.domain.as_ref() }
    }

    #[inline]
    fn slot(&self) -> &Slot {
        // SAFETY: a slot lives as long as its domain (INV-DI-6).
        unsafe { self.slot.as_ref() }
    }

    /// The slot, after making sure that it is the calling thread's (INV-DI-7).
    #[inline]
    fn own_slot(&self) -> &Slot {
        let slot = self.slot();
        let current = self.domain().scheduler().current().get().get();
        // ORD: Relaxed: equal only if this thread stored it, or an ended one of the same id, whose end the
        // scheduler orders before.
        if slot.own.owner.load(Relaxed) != current {
            self.bind(current);
        }
        slot
    }

    /// Whether the calling thread is the one that uses this participant.
    fn is_current(&self) -> bool {
        // ORD: Relaxed: as in `own_slot`.
        self.slot().own.owner.load(Relaxed) == self.domain().scheduler().current().get().get()
    }

    #[cold]
    #[inline(never)]
    fn bind(&self, current: usize) {
        // ORD: Acquire pairs with the Release stores in `unbind` and `Domain::leave`; Relaxed on failure: it panics.
        let bound = self.slot().own.owner.compare_exchange(0, current, Acquire, Relaxed);
        assert!(
            bound.is_ok(),
            "a participant is used by two threads: join once for each thread, or unbind it before it changes hands"
        );
    }

    /// Lets the next thread that begins a section take this participant over.
    ///
    /// # Panics
    ///
    /// If a section is open, or the participant belongs to another thread.
    pub fn unbind(&self) {
        let slot = self.own_slot();
        assert!(!self.in_section(), "unbind: finish the open section first");
        // ORD: Release pairs with the Acquire in `bind`.
        slot.own.owner.store(0, Release);
    }

    /// Opens a section, which lasts until the guard is dropped.
    ///
    /// Blocks on leaf locks only (the list's mutex of `locked`; the table's lock, when somebody waits), so it
    /// may be called with other locks held.
    ///
    /// # Panics
    ///
    /// If a section is open already (sections do not nest), or another thread uses this participant.
    #[inline]
    pub fn begin(&self) -> Section<'_, S, D> {
        let (generation, serial) = self.open();
        Section { participant: self, generation, serial, _not_send: PhantomData }
    }

    /// Opens a section without a guard, and returns its generation (see [`Section::generation`]): for kernels whose
    /// sections do not follow a scope.
    /// [`finish_raw`](Self::finish_raw) closes it.
    ///
    /// # Panics
    ///
    /// As [`begin`](Self::begin).
    #[inline]
    pub fn begin_raw(&self) -> u64 {
        self.open().0
    }

    /// Opens a section; returns its generation, and which of the slot's sections it is.
    #[inline]
    fn open(&self) -> (u64, u64) {
        let slot = self.own_slot();
        assert!(
            !self.in_section(),
            "begin: a section is open already (nested, or its guard was forgotten), and sections do not nest"
        );
        let serial = slot.own.counters.serial.add(1);
        // ORD: Relaxed: for this thread, which an interrupt handler, say, may bring back here before we are through.
        slot.own.generation.store(BUSY, Relaxed);
        let domain = &self.domain().common;
        // SAFETY: the slot is this domain's, this thread's alone (INV-DI-7), and no section is open in it.
        let generation = unsafe { D::begin(domain, slot) };
        // ORD: Relaxed: written by the thread that reads it; others see a snapshot.
        slot.own.generation.store(generation, Relaxed);
        (generation, serial)
    }

    /// Closes the section that [`begin_raw`](Self::begin_raw) opened. All that the thread did before happens-before
    /// the return of any wait that waited for this section.
    ///
    /// # Panics
    ///
    /// If no section is open, or another thread uses this participant.
    #[inline]
    pub fn finish_raw(&self) {
        let slot = self.own_slot();
        assert!(self.generation().is_some(), "finish: no section is open");
        // SAFETY: the slot is this thread's alone (INV-DI-7), and its section is open.
        unsafe { self.close(slot) };
    }

    /// # Safety
    ///
    /// The slot is this participant's, nobody else uses it, and its section is open.
    #[inline]
    unsafe fn close(&self, slot: &Slot) {
        // First: should what follows unwind, the guard must not take the section for open.
        slot.own.counters.serial.add(1);
        // ORD: Relaxed: as in `open`.
        slot.own.generation.store(BUSY, Relaxed);
        let domain = &self.domain().common;
        // SAFETY: the slot is this domain's; the rest is the caller's promise.
        unsafe { D::finish(domain, slot) };
        // ORD: Relaxed: written by the thread that reads it; others see a snapshot.
        slot.own.generation.store(0, Relaxed);
    }

    /// The generation of the open section, if one is open.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> Option<u64> {
        // ORD: Relaxed: meaningful to the owning thread, which wrote it.
        match self.slot().own.generation.load(Relaxed) {
            0 | BUSY => None,
            generation => Some(generation),
        }
    }

    /// Whether a section is open, or is just being opened or closed.
    #[inline]
    #[must_use]
    pub fn in_section(&self) -> bool {
        // ORD: Relaxed: as in `generation`.
        self.slot().own.generation.load(Relaxed) != 0
    }

    /// Marks `word` with the open section's generation, or does nothing if no section is open: for code that runs
    /// inside sections as well as outside.
    ///
    /// The caller holds the lock of what the word stands for exclusively; see [`GenerationWord`].
    #[inline]
    pub fn mark(&self, word: &GenerationWord) {
        if let Some(generation) = self.generation() {
            word.raise(generation);
        }
    }

    /// Returns when every section that marked `word` before the call has finished; all that those sections did
    /// happens-before the return. Sections that mark the word later are not waited for.
    ///
    /// If there is nothing to wait for, this reads shared memory and writes none. Otherwise it may park; it blocks on
    /// the open sections, and on the last step of each finish, which looks for waiters.
    ///
    /// Call it with no lock held that an open section might need, and not with interrupts disabled.
    ///
    /// While it is parked, the calling thread lends its priority to the threads of all sections that hold it up, through the
    /// [table](TableScheduler::table) of the scheduler: as long as they are open.
    ///
    /// # Panics
    ///
    /// In debug builds, inside a section: it would wait for itself. In all builds, if it would never end, because a section that
    /// it waits for waits, directly or through others, for the calling thread, without a time limit (see [`wait_or_deadlock`](Self::wait_or_deadlock));
    /// and if `word` holds a generation that this domain has never issued and nothing is open that could issue it: the
    /// word belongs to another domain.
    #[inline]
    pub fn wait(&self, word: &GenerationWord) {
        let target = self.target_of_wait(word);
        let domain = self.domain();
        if domain.watermark() < target {
            let waited = domain.common.wait_for(target, self.counters(), Never);
            if let Err(deadlock) = waited {
                deadlocked(target, &deadlock);
            }
        }
    }

    /// As [`wait`](Self::wait), but returns the cycle because of which the wait would never end, and may be called inside a
    /// section: that is a cycle only if the section, or a later one, has marked `word`.
    ///
    /// ```
    /// # #[cfg(feature = "std")] {
    /// use std::sync::Arc;
    /// use gencount::{Domain, GenerationWord, Hosted, Implementation};
    ///
    /// let domain = Arc::new(Domain::new(Implementation::Lockfree, Hosted));
    /// let participant = domain.join();
    /// let word = GenerationWord::new();
    /// let section = participant.begin();
    /// assert_eq!(participant.wait_or_deadlock(&word), Ok(()));
    /// section.mark(&word);
    /// let deadlock = participant.wait_or_deadlock(&word).unwrap_err();
    /// assert_eq!(deadlock.length(), 1);
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if a section that is waited for is the calling thread's own, or its thread waits, directly or through
    /// others, for the calling thread: in this domain, or for a lock of the same table. If one of those waits has a time limit, it is
    /// given up at once instead.
    ///
    /// # Panics
    ///
    /// If `word` belongs to another domain, as [`wait`](Self::wait).
    pub fn wait_or_deadlock(&self, word: &GenerationWord) -> Result<(), Deadlock> {
        let target = self.begin_wait(word);
        let domain = self.domain();
        if domain.watermark() < target {
            domain.common.wait_for(target, self.counters(), Never)?;
        }
        Ok(())
    }

    /// What every wait begins with that cannot return an error: the generation that it waits for.
    #[inline]
    pub(crate) fn target_of_wait(&self, word: &GenerationWord) -> u64 {
        debug_assert!(
            !(self.in_section() && self.is_current()),
            "wait: called inside a section (or one whose guard was forgotten), which would wait for itself"
        );
        self.begin_wait(word)
    }

    #[inline]
    fn begin_wait(&self, word: &GenerationWord) -> u64 {
        self.counters().wait_calls.add(1);
        let target = word.get();
        self.domain().common.point();
        target
    }

    #[inline]
    pub(crate) fn counters(&self) -> &OwnCounters {
        &self.slot().own.counters
    }

    /// Whether [`wait`](Self::wait) would return without waiting; if so, it is over: all that the sections did that had
    /// marked `word` happens-before the return. Never blocks, and may be called inside a section.
    ///
    /// Compared with [`Domain::is_complete`] it also completes what a stopped thread has left half-done.
    #[inline]
    #[must_use]
    pub fn try_wait(&self, word: &GenerationWord) -> bool {
        self.counters().wait_calls.add(1);
        let target = word.get();
        let domain = self.domain();
        domain.common.point();
        domain.watermark() >= target || domain.common.reaches(target)
    }
}

impl<S: TableScheduler, D: Dispatch> Drop for Participant<S, D> {
    fn drop(&mut self) {
        let slot = self.slot();
        if self.generation().is_some() {
            // Should the scheduler refuse this thread, and unwind: then the domain stays, as the open section does.
            #[cfg(feature = "alloc")]
            let stays = ManuallyDrop::new(self.shared.clone());
            self.domain().common.adopt(slot);
            #[cfg(feature = "alloc")]
            drop(ManuallyDrop::into_inner(stays));
            slot.own.counters.forgotten.add(1);
            // SAFETY: `&mut self` shows that nobody else uses the participant; the section is open.
            unsafe { self.close(slot) };
        }
        if self.in_section() {
            // A begin or finish that unwound has left the slot in an unknown state: it is not used again.
            let domain = &self.domain().common;
            domain.scheduler().table().locked(|table| domain.take_back(table, slot));
        } else {
            // SAFETY: the slot is this participant's, which is going away, and no section is open.
            unsafe { self.domain().common.leave(self.slot) };
        }
    }
}

impl<S: TableScheduler, D: Dispatch> fmt::Debug for Participant<S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Participant").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

/// An open section: what is marked in it is not complete before it is dropped.
///
/// It stays on the thread that opened it.
#[must_use = "the section is finished as soon as its guard is dropped"]
pub struct Section<'a, S: TableScheduler, D: Dispatch = Dynamic> {
    participant: &'a Participant<S, D>,
    generation: u64,
    /// Which of the slot's sections this is: generations need not differ.
    serial: u64,
    _not_send: PhantomData<*mut ()>,
}

impl<S: TableScheduler, D: Dispatch> Section<'_, S, D> {
    /// Whether this is the section that is open in the slot: not if `finish_raw` closed it.
    ///
    /// The slot's generation, which was written a moment ago behind a locked instruction, would take longer to read.
    #[inline]
    fn is_open(&self) -> bool {
        self.participant.slot().own.counters.serial.get() == self.serial
    }

    /// The section's generation, which is above 0: the watermark stays below it as long as the section is open.
    ///
    /// With [`Sharded`](crate::Implementation::Sharded), sections may have the same one.
    #[inline]
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Marks `word`: whoever waits on it from now on waits for this section.
    ///
    /// The caller holds the lock of what the word stands for exclusively; see [`GenerationWord`].
    ///
    /// # Panics
    ///
    /// In debug builds, if [`finish_raw`](Participant::finish_raw) has closed the section: nobody would wait for the mark.
    #[inline]
    pub fn mark(&self, word: &GenerationWord) {
        debug_assert!(self.is_open(), "mark: the section has been finished already");
        word.raise(self.generation);
    }
}

impl<S: TableScheduler, D: Dispatch> Drop for Section<'_, S, D> {
    #[inline]
    fn drop(&mut self) {
        if self.is_open() {
            debug_assert!(
                self.participant.is_current(),
                "a section's guard is dropped by a thread that did not begin it"
            );
            // SAFETY: the section is open, says its number; so the thread that began it is inside neither begin nor finish, which both
            // count the number up first. It gets into neither before this is through, for the slot says that it is busy; and no
            // other thread passes `own_slot` (INV-DI-7). The guard is not `Send`: if this is another thread (of a scheduler whose
            // threads take turns on one of the host's), it runs where that one would.
            unsafe { self.participant.close(self.participant.slot()) };
        }
    }
}

impl<S: TableScheduler, D: Dispatch> fmt::Debug for Section<'_, S, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Section").field("generation", &self.generation).finish()
    }
}
