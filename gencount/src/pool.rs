//! A domain's slots: all that ever served it, and which of them are free.
//!
//! Slots that the domain made go round between participants through a free list. None is freed before the domain
//! is dropped, when neither a participant nor a walk can remain (INV-DI-6).

use core::ptr::NonNull;

use crate::counters::Counters;
use crate::slot::Slot;

/// A slot's place in its pool; guarded by the pool's lock.
pub(crate) struct Membership {
    /// The slot that was added before this one. Written once, when this one is added; the scan of `sharded` reads it
    /// without the lock.
    pub(crate) next: Option<NonNull<Slot>>,
    #[cfg(feature = "alloc")]
    next_free: Option<NonNull<Slot>>,
}

impl Membership {
    pub(crate) const fn new() -> Self {
        Self {
            next: None,
            #[cfg(feature = "alloc")]
            next_free: None,
        }
    }
}

/// The slots of a domain; lives behind the pool's lock.
pub(crate) struct Pool {
    all: Option<NonNull<Slot>>,
    #[cfg(feature = "alloc")]
    free: Option<NonNull<Slot>>,
}

// SAFETY: slots are Send and Sync, and a pool's slots live as long as the pool (INV-DI-6).
unsafe impl Send for Pool {}

impl Pool {
    pub(crate) const fn new() -> Self {
        Self {
            all: None,
            #[cfg(feature = "alloc")]
            free: None,
        }
    }

    /// Adds a slot. The pool keeps the pointer as it is: the slot may be freed through it.
    ///
    /// # Safety
    ///
    /// The slot is in no pool, and lives as long as this one.
    pub(crate) unsafe fn add(&mut self, slot: NonNull<Slot>) {
        // SAFETY: the caller holds this pool's lock through `&mut self`, and no other pool has the slot.
        unsafe { (*slot.as_ref().membership.get()).next = self.all };
        self.all = Some(slot);
    }

    /// Takes a free slot.
    #[cfg(feature = "alloc")]
    pub(crate) fn take(&mut self) -> Option<NonNull<Slot>> {
        let slot = self.free?;
        // SAFETY: slots of the pool are alive (INV-DI-6); the caller holds its lock through `&mut self`.
        self.free = unsafe { (*slot.as_ref().membership.get()).next_free };
        Some(slot)
    }

    /// Gives a slot back.
    ///
    /// # Safety
    ///
    /// The slot is in this pool and was taken.
    #[cfg(feature = "alloc")]
    pub(crate) unsafe fn give_back(&mut self, slot: NonNull<Slot>) {
        // SAFETY: the caller holds the lock of the slot's pool through `&mut self`.
        unsafe { (*slot.as_ref().membership.get()).next_free = self.free };
        self.free = Some(slot);
    }

    /// All counters added up.
    pub(crate) fn counters(&self) -> Counters {
        self.slots().fold(Counters::default(), |mut sum, slot| {
            sum += slot.own.counters.read();
            sum
        })
    }

    /// Every slot.
    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        let mut at = self.all;
        core::iter::from_fn(move || {
            // SAFETY: slots of the pool are alive (INV-DI-6).
            let slot = unsafe { at?.as_ref() };
            // SAFETY: whoever has the pool holds its lock.
            at = unsafe { (*slot.membership.get()).next };
            Some(slot)
        })
    }
}

#[cfg(feature = "alloc")]
impl Drop for Pool {
    fn drop(&mut self) {
        let mut at = self.all;
        while let Some(slot) = at {
            // SAFETY: slots of the pool are alive, and `&mut self` excludes everybody else.
            at = unsafe { (*slot.as_ref().membership.get()).next };
            // SAFETY: as above.
            if unsafe { slot.as_ref() }.boxed {
                // SAFETY: this very pointer came from `Box::into_raw` (INV-DI-6), in this pool once, and the pool is dropped with its domain: no
                // participant and no walk remains, for both borrow or share the domain (INV-DI-6).
                drop(unsafe { alloc::boxed::Box::from_raw(slot.as_ptr()) });
            }
        }
    }
}
