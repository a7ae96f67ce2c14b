//! `locked`: the open sections as a doubly linked list under a leaf mutex.
//!
//! # Protocol
//!
//! The list is ordered by generation, newest at the head. A section begins at the head, one above the newest
//! generation, or above the watermark if nothing is open. A section that finishes gives its generation to the next
//! older one, which thereby stands for both; the oldest one raises the watermark. So the watermark reaches a
//! generation only when every section up to it has finished (INV-DI-1).
//!
//! The watermark is written under the mutex and read without it: a wait with nothing to wait for takes no lock.
//!
//! A finish looks at the waiter count *before* it unlocks, after a full fence, so the look is part of the mutex's
//! critical section; it wakes after it has unlocked (INV-DI-8).

use core::ptr::NonNull;

use lock_api::Mutex;
use turnstile::TableScheduler;

use crate::common::Common;
use crate::operations::Points;
use crate::primitive::{Acquire, AtomicU64, Release};
use crate::slot::Slot;

/// A slot's place in the list; guarded by the list's mutex.
pub(crate) struct Links {
    /// The generation that this section stands for: its own, or that of a newer one that has finished.
    generation: u64,
    newer: Option<NonNull<Slot>>,
    older: Option<NonNull<Slot>>,
}

impl Links {
    pub(crate) const fn new() -> Self {
        Self { generation: 0, newer: None, older: None }
    }
}

/// The state of a domain that uses this implementation.
pub(crate) struct List<R> {
    inner: Mutex<R, Inner>,
    /// Written under the mutex.
    watermark: AtomicU64,
}

struct Inner {
    newest: Option<NonNull<Slot>>,
    len: u64,
}

// SAFETY: the slots are Send and Sync and live as long as the domain (INV-DI-6).
unsafe impl Send for Inner {}

impl<R: lock_api::RawMutex> List<R> {
    pub(crate) const fn new() -> Self {
        Self { inner: Mutex::new(Inner { newest: None, len: 0 }), watermark: AtomicU64::new(0) }
    }
}

/// # Safety
///
/// As [`Operations::begin`](crate::operations::Operations::begin).
#[inline]
pub(crate) unsafe fn begin<S: TableScheduler>(domain: &Common<S>, slot: &Slot) -> u64 {
    domain.point();
    let len;
    let generation;
    {
        let mut list = domain.locked.inner.lock();
        let newest = match list.newest {
            // SAFETY: listed slots are alive (INV-DI-6), and their links are ours while we hold the mutex.
            Some(newest) => unsafe { (*newest.as_ref().shared.links.get()).generation },
            // ORD: Acquire, though the mutex orders it already: read under the lock that it is written under.
            None => domain.locked.watermark.load(Acquire),
        };
        generation = newest.checked_add(1).expect("generations are exhausted: 2^64 sections were begun");
        let older = list.newest.replace(slot.pointer());
        // SAFETY: the slot is the caller's and its links are ours while we hold the mutex.
        unsafe { *slot.shared.links.get() = Links { generation, newer: None, older } };
        if let Some(older) = older {
            // SAFETY: as for `newest`; no reference to these links is live.
            unsafe { (*older.as_ref().shared.links.get()).newer = Some(slot.pointer()) };
        }
        list.len += 1;
        len = list.len;
    }
    slot.own.counters.max_qlen.raise(len);
    generation
}

/// # Safety
///
/// As [`Operations::finish`](crate::operations::Operations::finish).
#[inline]
pub(crate) unsafe fn finish<S: TableScheduler>(domain: &Common<S>, slot: &Slot) {
    domain.point();
    let looks;
    {
        let mut list = domain.locked.inner.lock();
        // SAFETY: the slot is listed, and its links are ours while we hold the mutex.
        let Links { generation, newer, older } =
            core::mem::replace(unsafe { &mut *slot.shared.links.get() }, Links::new());
        match newer {
            // SAFETY: the neighbours of a listed slot are listed, hence alive (INV-DI-6), and their links are ours.
            Some(newer) => unsafe { (*newer.as_ref().shared.links.get()).older = older },
            None => list.newest = older,
        }
        match older {
            Some(older) => {
                // SAFETY: as above.
                let links = unsafe { &mut *older.as_ref().shared.links.get() };
                links.generation = generation;
                links.newer = newer;
            }
            // ORD: Release pairs with the Acquire load in `watermark`. Those who finished earlier and gave their
            // generation to us did so under the mutex, hence before this store (INV-DI-2).
            None => domain.locked.watermark.store(generation, Release),
        }
        list.len -= 1;
        looks = domain.owes_a_look(domain.waiters.any(), slot);
    }
    if looks {
        domain.let_go(slot);
    }
}

#[inline]
pub(crate) fn watermark<S: TableScheduler>(domain: &Common<S>) -> u64 {
    // ORD: Acquire pairs with the Release store in `finish` (INV-DI-2).
    domain.locked.watermark.load(Acquire)
}

/// Nothing is ever left half-done behind a mutex.
pub(crate) fn complete<S: TableScheduler>(_: &Common<S>, _: u64, _: Points) -> bool {
    false
}

pub(crate) fn may_be_issued<S: TableScheduler>(domain: &Common<S>, target: u64) -> bool {
    let idle = domain.locked.inner.lock().newest.is_none();
    // In this order: with nothing open, the watermark is the largest generation ever issued (INV-DI-3).
    !idle || watermark(domain) >= target
}

pub(crate) fn each_open<S: TableScheduler>(domain: &Common<S>, visit: &dyn Fn(&Slot, u64)) -> bool {
    let list = domain.locked.inner.lock();
    let mut at = list.newest;
    while let Some(slot) = at {
        // SAFETY: listed slots are alive (INV-DI-6).
        let slot = unsafe { slot.as_ref() };
        // SAFETY: the links of listed slots are ours while we hold the mutex.
        at = unsafe { (*slot.shared.links.get()).older };
        let before = match at {
            // SAFETY: as above.
            Some(older) => unsafe { (*older.as_ref().shared.links.get()).generation },
            // ORD: Acquire, though the mutex orders it already: read under the lock that it is written under.
            None => domain.locked.watermark.load(Acquire),
        };
        visit(slot, before + 1);
    }
    false
}
