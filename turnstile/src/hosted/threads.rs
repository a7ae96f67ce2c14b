//! The registry of hosted threads: an id, a priority and a parking token for each.
//!
//! A thread gets a record at its first call, and gives it back when its thread-local values are destroyed. Records lie
//! in blocks that double in size and are never freed, so an id can always be looked up without a lock, and unparking a
//! thread that has ended touches valid memory.
//!
//! An id is the record's place and the number of its use, so a record's next thread has another id. Other
//! thread-local values may be destroyed after the record was given back: their destructors still run under the old
//! id, which by then may find no record; the thread does not park any more then, it yields. Ids come again
//! after 2^28 threads on one record (64-bit hosts).

use core::cell::Cell;
use core::num::NonZeroUsize;
use std::boxed::Box;
use std::sync::{Mutex, PoisonError};
use std::thread_local;
use std::time::Instant;
use std::vec::Vec;

use crossbeam_utils::CachePadded;

use super::HostedParker;
use crate::primitive::{Acquire, AtomicPtr, AtomicU8, AtomicUsize, Relaxed, Release};
use crate::{Parker as _, Priority, ReadHolds, ThreadId};

/// What the registry keeps for a thread.
pub(crate) struct Record {
    /// The id of the thread that uses the record, or used it last.
    user: AtomicUsize,
    parker: HostedParker,
    priority: AtomicU8,
    /// The priority that is lent to the thread; 0 for none.
    lent: AtomicU8,
    /// Per scheduler, because holds belong to one table: the portable one's.
    pub(crate) read_holds: ReadHolds,
    #[cfg(all(feature = "linux-rt", target_os = "linux"))]
    pub(crate) real_time: crate::linux::RealTime,
}

/// Records in the first block; block `k` has this many times 2^k.
const FIRST: usize = 64;
/// Enough blocks for more threads than any system can have.
const BLOCKS: usize = 32;

/// The blocks, filled from the front; a null pointer ends them.
static BLOCK_TABLE: [AtomicPtr<CachePadded<Record>>; BLOCKS] =
    [const { AtomicPtr::new(core::ptr::null_mut()) }; BLOCKS];

/// Which ids are given out.
struct Registry {
    free: Vec<usize>,
    /// The smallest index that was never given out.
    fresh: usize,
}

static REGISTRY: Mutex<Registry> = Mutex::new(Registry { free: Vec::new(), fresh: 0 });

/// The block and the place in it of the record with `index`, and the block's length.
fn locate(index: usize) -> (usize, usize, usize) {
    let block = (index / FIRST + 1).ilog2() as usize;
    let start = FIRST * ((1 << block) - 1);
    (block, index - start, FIRST << block)
}

/// Bits of an id that say which record; the number of the use stands above them.
const INDEX_BITS: u32 = usize::BITS / 2;
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
/// Bits of an id; the rest is left to those who keep an id and some flags in one word.
const ID_MASK: usize = usize::MAX >> 4;

/// The index of the record that an id names.
fn index(id: NonZeroUsize) -> Option<usize> {
    (id.get() & INDEX_MASK).checked_sub(1)
}

/// The record of a thread, or nothing if another thread has it by now or nobody ever had.
pub(crate) fn record(thread: ThreadId) -> Option<&'static Record> {
    let id = thread.get();
    // ORD: Relaxed: a thread finds its own id here because it stored it; for others' a stale answer is a late one.
    place(index(id)?).filter(|record| record.user.load(Relaxed) == id.get())
}

fn place(index: usize) -> Option<&'static Record> {
    let (block, place, _) = locate(index);
    // ORD: Acquire pairs with the Release store in `register`, which publishes the block's records.
    let records = BLOCK_TABLE.get(block)?.load(Acquire);
    if records.is_null() {
        return None;
    }
    // SAFETY: a block that was published has the length that `locate` computes, `place` is below it, and blocks
    // are never freed.
    Some(unsafe { &*records.add(place) })
}

/// Calls `visit` with every record that has had a user, and with the id of the latest.
pub(crate) fn each(visit: &mut dyn FnMut(ThreadId, &'static Record)) {
    for record in (0..).map_while(place) {
        // ORD: Relaxed: who looks for what a thread did with its record is ordered after that, and it stored the id before.
        if let Some(id) = NonZeroUsize::new(record.user.load(Relaxed)) {
            visit(ThreadId::new(id), record);
        }
    }
}

/// Takes a record for the current thread.
#[cold]
fn register() -> ThreadId {
    let mut registry = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner);
    let index = registry.free.pop().unwrap_or_else(|| {
        let index = registry.fresh;
        let (block, place, length) = locate(index);
        if place == 0 {
            let records: Box<[CachePadded<Record>]> = (0..length)
                .map(|_| {
                    CachePadded::new(Record {
                        user: AtomicUsize::new(0),
                        parker: HostedParker::NEW,
                        priority: AtomicU8::new(Priority::NORMAL.level()),
                        lent: AtomicU8::new(0),
                        read_holds: ReadHolds::new(),
                        #[cfg(all(feature = "linux-rt", target_os = "linux"))]
                        real_time: crate::linux::RealTime::new(),
                    })
                })
                .collect();
            // ORD: Release pairs with the Acquire load in `record`.
            BLOCK_TABLE[block].store(Box::leak(records).as_mut_ptr(), Release);
        }
        registry.fresh = index + 1;
        index
    });
    // The first use has number 0. The registry's lock orders the uses of a record.
    let user = place(index).map(|record| &record.user);
    // ORD: Relaxed, both: see `record`.
    let id = match user.map_or(0, |user| user.load(Relaxed)) {
        0 => index + 1,
        last => last.wrapping_add(INDEX_MASK + 1) & ID_MASK,
    };
    if let Some(user) = user {
        user.store(id, Relaxed); // ORD: see `record`
    }
    drop(registry);
    let thread = ThreadId::new(NonZeroUsize::MIN.saturating_add(id - 1));
    set_priority(thread, Priority::NORMAL);
    set_lent(thread, Priority::LOWEST);
    CURRENT.set(thread.get().get());
    // Fails while the thread's destructors run: then the record is not given back, and stays unused for ever.
    let _ = RETURN.try_with(|_| ());
    thread
}

/// Gives the thread's record back when the thread ends.
struct Return;

impl Drop for Return {
    fn drop(&mut self) {
        #[cfg(all(feature = "linux-rt", target_os = "linux"))]
        crate::linux::forget_current();
        // Destructors that run after this one keep the id and must not sleep on the record.
        GONE.set(true);
        if let Some(index) = NonZeroUsize::new(CURRENT.get()).and_then(index) {
            REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).free.push(index);
        }
    }
}

thread_local! {
    /// The thread's id, or 0 before its first call. Needs no destructor, so it can be read as long as the thread runs.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    static RETURN: Return = const { Return };
    /// Whether the thread has given its record back.
    static GONE: Cell<bool> = const { Cell::new(false) };
}

/// The current thread.
#[inline]
pub(crate) fn current() -> ThreadId {
    match NonZeroUsize::new(CURRENT.get()) {
        Some(id) => ThreadId::new(id),
        None => register(),
    }
}

/// Whether the current thread has given its record back: what still runs on it must not write there.
#[cfg(all(feature = "linux-rt", target_os = "linux"))]
pub(crate) fn is_gone() -> bool {
    GONE.get()
}

pub(super) fn priority(thread: ThreadId) -> Priority {
    // ORD: Relaxed: a number on its own.
    record(thread).map_or(Priority::NORMAL, |record| Priority::new(record.priority.load(Relaxed)))
}

pub(super) fn set_priority(thread: ThreadId, priority: Priority) {
    if let Some(record) = record(thread) {
        // ORD: Relaxed: a number on its own.
        record.priority.store(priority.level(), Relaxed);
    }
}

pub(super) fn lent(thread: ThreadId) -> Priority {
    // ORD: Relaxed: a number on its own.
    record(thread).map_or(Priority::LOWEST, |record| Priority::new(record.lent.load(Relaxed)))
}

pub(super) fn set_lent(thread: ThreadId, priority: Priority) {
    if let Some(record) = record(thread) {
        // ORD: Relaxed: a number on its own.
        record.lent.store(priority.level(), Relaxed);
    }
}

/// Parks until the token is there, or until `deadline`; may return early.
pub(super) fn park(deadline: Option<Instant>) {
    let Some(record) = record(current()).filter(|_| !GONE.get()) else {
        return std::thread::yield_now();
    };
    match deadline {
        Some(deadline) => record.parker.park_until(deadline),
        None => record.parker.park(),
    }
}

pub(super) fn unpark(thread: ThreadId) {
    if let Some(record) = record(thread) {
        record.parker.unpark();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_contiguous() {
        let mut expected = (0, 0);
        for index in 0..10_000 {
            let (block, place, length) = locate(index);
            assert_eq!((block, place), expected);
            assert_eq!(length, FIRST << block);
            expected = if place + 1 == length { (block + 1, 0) } else { (block, place + 1) };
        }
    }

    #[test]
    fn unknown_ids_are_ignored() {
        for id in [NonZeroUsize::MAX, NonZeroUsize::new(1 << 40).unwrap()] {
            let stranger = ThreadId::new(id);
            assert!(record(stranger).is_none());
            unpark(stranger);
            assert_eq!(priority(stranger), Priority::NORMAL);
        }
    }

    #[test]
    fn ids_are_unique_among_the_living_and_given_again() {
        let here = current();
        assert_eq!(here, current());
        let barrier = std::sync::Barrier::new(20);
        let mut ids: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..20)
                .map(|_| {
                    scope.spawn(|| {
                        let id = current();
                        barrier.wait();
                        id
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        ids.push(here);
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 21);
        // A thousand threads one after the other need few records.
        for _ in 0..1000 {
            std::thread::spawn(current).join().unwrap();
        }
        assert!(REGISTRY.lock().unwrap().fresh < 500);
    }

    /// A thread-local value that is destroyed after the record was given back sees the old id, and nobody else has it.
    #[test]
    fn an_id_outlives_its_record() {
        struct Late(std::sync::mpsc::Sender<(ThreadId, ThreadId, ThreadId)>, Cell<Option<ThreadId>>);
        impl Drop for Late {
            fn drop(&mut self) {
                assert!(GONE.get(), "the test means a destructor that runs after the registry's");
                let next = std::thread::spawn(current).join().unwrap();
                park(None);
                self.0.send((self.1.get().unwrap(), current(), next)).unwrap();
            }
        }
        thread_local!(static LATE: core::cell::OnceCell<Late> = const { core::cell::OnceCell::new() });
        let (send, receive) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Destructors run in the order of first use reversed or not, as the host likes: this one is registered last.
            LATE.with(|late| {
                let id = current();
                let _ = late.set(Late(send, Cell::new(Some(id))));
            });
        })
        .join()
        .unwrap();
        let (before, after, other) = receive.recv().unwrap();
        assert_eq!(before, after);
        assert_ne!(before, other);
    }

    #[test]
    fn a_token_given_before_the_park_is_not_lost() {
        unpark(current());
        unpark(current());
        park(None);
        let here = current();
        let other = std::thread::spawn(move || unpark(here));
        park(None);
        other.join().unwrap();
    }
}
