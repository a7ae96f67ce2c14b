//! A reader-writer lock of one word that lends to its writer, and to its readers.
//!
//! # Protocol
//!
//! The word is 0; or the writer's id; or the number of readers; and a bit that says that there may be waiters. Without that bit all is done
//! by compare-exchanges on the word (and, for readers, a slot of their own, see `holds`). With it, every change of the word is made under the
//! table's lock, and so is setting it.
//!
//! A lock with waiters is always handed over, by the last to leave: to the most urgent writer, if it is at least as urgent as the
//! most urgent reader; else to all readers that are more urgent than it. A writer that becomes a reader lets in those same readers. While writers wait, a reader that comes by enters only if it is more
//! urgent than they are.

mod api;

use core::fmt;
use core::marker::PhantomData;

use lock_api::{GuardNoSend, RawRwLock as _};

use super::{LockScheduler, ReadHolds};
use crate::fault::{Fault, omits};
use crate::primitive::{AcqRel, Acquire, AtomicUsize, Relaxed, Release};
use crate::{Address, Deadlock, Decision, Ending, Locked, Queue, ThreadId, Waiting};

/// Set while there may be waiters.
const WAITERS: usize = 1;
/// Set while the rest of the word counts readers.
const READERS: usize = 2;
/// One reader.
const ONE: usize = 4;
/// The token of a reader that found no free slot.
const NO_SLOT: u64 = u64::MAX;

/// A scheduler that knows which locks its threads hold for reading.
///
/// # Safety
///
/// 1. [`read_holds`](Self::read_holds) gives each thread that is alive a record of its own, always the same.
/// 2. [`each_thread`](Self::each_thread) visits the record of every thread that has ever called `read_holds` before (of those that have ended
///    it may leave out).
pub unsafe trait ReaderScheduler: LockScheduler {
    /// The record of a thread that has used this scheduler's locks, or is the current one.
    fn read_holds(&self, thread: ThreadId) -> Option<&'static ReadHolds>;

    /// Calls `visit` with every thread and its record. Called with the table's lock held.
    fn each_thread(&self, visit: &mut dyn FnMut(ThreadId, &'static ReadHolds));
}

/// A share in a [`RawPiRwLock`]: which of its thread's slots stands for it.
pub struct Share {
    slot: Option<usize>,
    /// Holds belong to threads.
    _thread: GuardNoSend,
}

impl Share {
    fn new(slot: Option<usize>) -> Self {
        Self { slot, _thread: GuardNoSend::new() }
    }
}

/// A reader-writer lock for [`lock_api::RwLock`] that inherits priorities, in one word.
///
/// Waiting writers lend to the readers, for up to eight locks that a thread holds for reading at once; holds beyond are counted
/// ([`ReadHolds::unlent`]), and inherit nothing. Waiting readers lend to the writer, or with the waiting writers to the other readers.
/// Unlocking is fair always. A reader that locks again while a more urgent or equal writer waits is a [`Deadlock`], reported as such.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use turnstile::{Hosted, RawPiRwLock};
///
/// static NAMES: lock_api::RwLock<RawPiRwLock<Hosted>, Vec<&str>> = lock_api::RwLock::new(Vec::new());
/// NAMES.write().push("Sha");
/// assert_eq!(NAMES.read().len(), 1);
/// # }
/// ```
pub struct RawPiRwLock<S: ReaderScheduler> {
    word: AtomicUsize,
    scheduler: PhantomData<fn() -> S>,
}

type Table<'a, S> = Locked<'a, S, 64>;

/// Blocks on a queue with a token and a decision, with or without a time limit.
trait Blocking<S: ReaderScheduler>:
    Fn(Queue, u64, &mut dyn FnMut(&mut Table<'_, S>) -> Decision) -> Result<Ending, Deadlock>
{
}

impl<S: ReaderScheduler, F> Blocking<S> for F where
    F: Fn(Queue, u64, &mut dyn FnMut(&mut Table<'_, S>) -> Decision) -> Result<Ending, Deadlock>
{
}

impl<S: ReaderScheduler> RawPiRwLock<S> {
    pub(crate) fn address(&self) -> Address {
        Address::of(&self.word)
    }

    /// The address as it stands in readers' slots.
    fn place(&self) -> usize {
        core::ptr::from_ref(&self.word).addr()
    }

    fn me() -> ThreadId {
        S::table().scheduler().current()
    }

    fn holds(thread: ThreadId) -> Option<&'static ReadHolds> {
        S::table().scheduler().read_holds(thread)
    }

    fn block(&self) -> impl Blocking<S> {
        |queue, token, decide: &mut dyn FnMut(&mut Table<'_, S>) -> Decision| {
            S::table().block(self.address(), queue, token, decide)
        }
    }

    /// Sets the waiters' bit on `word`; says whether the word was still that.
    fn announce(&self, word: usize) -> bool {
        // ORD: Acquire pairs with the Release of the readers' exchanges, so that their slots are visible; Relaxed on failure.
        self.word.compare_exchange(word, word | WAITERS, Acquire, Relaxed).is_ok()
    }

    /// Registers the holds of all readers inside.
    fn lend_to_readers(&self, table: &mut Table<'_, S>) {
        S::table().scheduler().each_thread(&mut |thread, holds| holds.lend(thread, self.place(), table));
    }

    #[inline]
    fn enter_shared(&self) -> bool {
        // ORD: Relaxed: what is done about it is a compare-exchange.
        let mut word = self.word.load(Relaxed);
        while word == 0 || word & (READERS | WAITERS) == READERS {
            let entered = (word | READERS) + ONE;
            // ORD: Acquire pairs with the Release of who left; Release publishes the slot to `announce`. Relaxed on failure.
            match self.word.compare_exchange_weak(word, entered, AcqRel, Relaxed) {
                Ok(_) => return true,
                Err(now) => word = now,
            }
        }
        false
    }

    fn share_quickly(&self) -> Option<Share> {
        let holds = Self::holds(Self::me());
        let place = Some(self.place()).filter(|_| !omits(Fault::SlotLate));
        let slot = holds.and_then(|holds| holds.reserve(place));
        if self.enter_shared() {
            if let (Some(holds), Some(slot), true) = (holds, slot, omits(Fault::SlotLate)) {
                holds.occupy(slot, self.place());
            }
            return Some(Share::new(slot));
        }
        self.clear(holds, slot);
        None
    }

    /// Clears a slot, and takes back what was lent for it.
    #[inline]
    fn clear(&self, holds: Option<&'static ReadHolds>, slot: Option<usize>) {
        if let (Some(holds), Some(slot)) = (holds, slot)
            && holds.clear(slot)
        {
            S::table().locked(|table| holds.release(slot, table));
        }
    }

    fn decide_shared(
        &self,
        me: ThreadId,
        holds: Option<&'static ReadHolds>,
        slot: Option<usize>,
        table: &mut Table<'_, S>,
    ) -> Decision {
        loop {
            // ORD: Relaxed: what is done about it is a compare-exchange.
            let word = self.word.load(Relaxed);
            let owner = word & !WAITERS;
            let writer = table.first(self.address(), Queue::Exclusive);
            let may_enter = owner == 0
                || owner & READERS != 0
                    && writer.is_none_or(|writer| writer.priority < S::table().scheduler().priority(me));
            if may_enter {
                let awaited = usize::from(table.is_awaited(self.address()));
                // ORD: as in `enter_shared`.
                if self
                    .word
                    .compare_exchange(word, ((owner | READERS) + ONE) | awaited, AcqRel, Relaxed)
                    .is_err()
                {
                    continue;
                }
                if let (Some(holds), Some(slot)) = (holds, slot) {
                    holds.occupy(slot, self.place());
                    if awaited != 0 {
                        holds.lend(me, self.place(), table);
                    }
                }
                return Decision::Proceed;
            }
            if word & WAITERS == 0 && !self.announce(word) {
                continue;
            }
            if owner & READERS == 0 {
                return S::from_word(owner).map_or(Decision::Wait, Decision::WaitFor);
            }
            return Decision::Wait;
        }
    }

    #[cold]
    fn share_slowly(&self, block: impl Blocking<S>) -> Result<Option<Share>, Deadlock> {
        let me = Self::me();
        let holds = Self::holds(me);
        let slot = holds.and_then(|holds| holds.reserve(None));
        let token = slot.map_or(NO_SLOT, |slot| slot as u64);
        let ending = loop {
            match block(Queue::Shared, token, &mut |table| self.decide_shared(me, holds, slot, table)) {
                Ok(Ending::Cancelled) => {}
                ending => break ending,
            }
        };
        match ending {
            Ok(Ending::NotBlocked | Ending::Woken) => Ok(Some(Share::new(slot))),
            Ok(_) => {
                self.clear(holds, slot);
                Ok(None)
            }
            Err(deadlock) => {
                self.clear(holds, slot);
                Err(deadlock)
            }
        }
    }

    #[inline]
    fn take_free(&self, me: ThreadId) -> bool {
        // ORD: Acquire pairs with the Release of who left; Relaxed on failure: nothing is read then.
        self.word.compare_exchange(0, S::to_word(me), Acquire, Relaxed).is_ok()
    }

    fn decide_exclusive(&self, me: ThreadId, table: &mut Table<'_, S>) -> Decision {
        loop {
            // ORD: Relaxed: what is done about it is a compare-exchange.
            let word = self.word.load(Relaxed);
            let owner = word & !WAITERS;
            if owner == 0 {
                let awaited = table.is_awaited(self.address());
                // ORD: Acquire pairs with the Release of who left; Relaxed on failure: nothing is read then.
                if self
                    .word
                    .compare_exchange(word, S::to_word(me) | usize::from(awaited), Acquire, Relaxed)
                    .is_ok()
                {
                    // The thread that takes it does not wait, so there is no cycle, hence no error.
                    let _ = table.claim(self.address(), Some(me));
                    return Decision::Proceed;
                }
                continue;
            }
            if word & WAITERS == 0 && !self.announce(word) {
                continue;
            }
            if owner & READERS == 0 {
                return S::from_word(owner).map_or(Decision::Wait, Decision::WaitFor);
            }
            self.lend_to_readers(table);
            return Decision::Wait;
        }
    }

    #[cold]
    fn take_slowly(&self, me: ThreadId, block: impl Blocking<S>) -> Result<bool, Deadlock> {
        loop {
            match block(Queue::Exclusive, 0, &mut |table| self.decide_exclusive(me, table))? {
                Ending::NotBlocked | Ending::Woken => return Ok(true),
                Ending::TimedOut => {
                    self.make_way();
                    return Ok(false);
                }
                Ending::Cancelled => {}
            }
        }
    }

    /// A writer has given up: the readers that waited for its sake alone join those inside.
    fn make_way(&self) {
        S::table().locked(|table| {
            // ORD: Relaxed: with the waiters' bit set, the word changes under the table's lock only.
            let word = self.word.load(Relaxed);
            if word & (READERS | WAITERS) == READERS | WAITERS {
                let readers = self.admit(table.first(self.address(), Queue::Exclusive), table);
                self.publish((word & !WAITERS) + readers, table);
            }
        });
    }

    /// Under the table's lock, with nobody inside any more: gives the lock to whoever is next.
    fn hand_over(&self, table: &mut Table<'_, S>) {
        let here = self.address();
        table.disown(here);
        let writer = table.first(here, Queue::Exclusive);
        let reader = table.first(here, Queue::Shared);
        let owner = match (writer, reader) {
            (Some(writer), reader) if reader.is_none_or(|reader| reader.priority <= writer.priority) => {
                table.wake(here, Queue::Exclusive, 1);
                // A thread that was just woken does not wait, so there is no cycle, hence no error.
                let _ = table.claim(here, Some(writer.thread));
                S::to_word(writer.thread)
            }
            (writer, Some(_)) => self.admit(writer, table) | READERS,
            (None, None) | (Some(_), None) => 0,
        };
        self.publish(owner, table);
    }

    /// Under the table's lock, with no writer inside: takes the readers off that are more urgent than the writer that waits. Returns what
    /// they add to the word.
    fn admit(&self, writer: Option<Waiting>, table: &mut Table<'_, S>) -> usize {
        let woken = table.wake_where(self.address(), Queue::Shared, usize::MAX, |reader| {
            let enters = writer.is_none_or(|writer| writer.priority < reader.priority);
            if enters
                && let (Some(holds), Ok(slot)) = (Self::holds(reader.thread), usize::try_from(reader.token))
                && reader.token != NO_SLOT
            {
                holds.occupy(slot, self.place());
            }
            enters
        });
        woken.count * ONE
    }

    /// Under the table's lock: who is inside from now on. Waiting writers lend to readers.
    fn publish(&self, owner: usize, table: &mut Table<'_, S>) {
        let awaited = table.is_awaited(self.address());
        // ORD: Release pairs with the Acquire of whoever enters; those who were woken learn of it by their waking.
        self.word.store(owner | usize::from(awaited), Release);
        if awaited && owner & READERS != 0 {
            self.lend_to_readers(table);
        }
    }

    /// The writer becomes a reader, and with it the readers that are more urgent than the writers that wait.
    #[cold]
    fn downgrade_slowly(&self) {
        S::table().locked(|table| {
            let here = self.address();
            table.disown(here);
            let readers = ONE + self.admit(table.first(here, Queue::Exclusive), table);
            self.publish(readers | READERS, table);
        });
    }

    #[cold]
    fn leave_shared_slowly(&self, holds: Option<&'static ReadHolds>, slot: Option<usize>) {
        S::table().locked(|table| {
            loop {
                // ORD: Relaxed: what is done about it is a compare-exchange.
                let word = self.word.load(Relaxed);
                let left = word - ONE;
                let left = if left & !WAITERS == READERS { left & WAITERS } else { left };
                // ORD: Release pairs with the Acquire of whoever enters, and Acquire with the other readers' Release, for
                // whom this one hands over. Relaxed on failure.
                if self.word.compare_exchange(word, left, AcqRel, Relaxed).is_err() {
                    continue;
                }
                if let (Some(holds), Some(slot)) = (holds, slot)
                    && holds.clear(slot)
                {
                    holds.release(slot, table);
                }
                if left == WAITERS {
                    self.hand_over(table);
                }
                return;
            }
        });
    }
}

impl<S: ReaderScheduler> fmt::Debug for RawPiRwLock<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawPiRwLock")
            .field("locked", &self.is_locked())
            .field("exclusive", &self.is_locked_exclusive())
            .finish()
    }
}
