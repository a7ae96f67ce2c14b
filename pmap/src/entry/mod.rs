//! Page-table entries: the value, and the live word that hardware writes too.
//!
//! Hardware sets the accessed and dirty bits of a live entry at any moment (Intel SDM vol. 3, 4.8). A
//! store that overwrites the word with a value computed from an earlier load loses such a bit, and with
//! it a page's only sign of being modified. `Slot` therefore offers no such store: a live entry is
//! taken, exchanged, stripped of bits or updated by compare-exchange, and every operation returns what
//! was really there.

mod x86;

pub use x86::{
    ACCESSED, DIRTY, Entry, FRAME_MASK, GLOBAL, LARGE, MANAGED, NO_EXECUTE, PRESENT, USER, WIRED, WRITABLE,
};

use core::sync::atomic::{AtomicU64, Ordering};

use crate::machine::Machine;

/// A word of a page table in use, on a machine.
///
/// All orderings are SeqCst-free: what one CPU's page-table store must be ordered against (the active
/// set, the invalidation request) is ordered by fences in the code that reads those.
pub(crate) struct Slot<'s, M> {
    machine: &'s M,
    word: &'s AtomicU64,
}

impl<M> Clone for Slot<'_, M> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M> Copy for Slot<'_, M> {}

impl<'s, M: Machine> Slot<'s, M> {
    pub(crate) fn new(machine: &'s M, word: &'s AtomicU64) -> Self {
        Self { machine, word }
    }

    /// The entry as it is now; hardware may add accessed and dirty bits at any time.
    pub(crate) fn load(self) -> Entry {
        self.machine.point();
        // ORD: Acquire pairs with the Release half of every store below: who sees a table entry sees the
        // table's contents.
        Entry(self.word.load(Ordering::Acquire))
    }

    /// Makes an entry where none is. Nobody but the holder of the pmap lock writes an invalid entry, so a
    /// plain store is enough.
    pub(crate) fn create(self, entry: Entry) {
        self.machine.point();
        // ORD: Relaxed; a check of what the lock guarantees.
        debug_assert_eq!(self.word.load(Ordering::Relaxed), 0, "create over a live entry loses its bits");
        // ORD: Release pairs with the walkers' Acquire loads, see `load`.
        self.word.store(entry.0, Ordering::Release);
    }

    /// Destroys the entry and returns it with its final accessed and dirty bits.
    pub(crate) fn take(self) -> Entry {
        self.machine.point();
        // ORD: AcqRel, as load and store.
        Entry(self.word.swap(0, Ordering::AcqRel))
    }

    /// Replaces the entry and returns the old one with its final accessed and dirty bits.
    pub(crate) fn exchange(self, entry: Entry) -> Entry {
        self.machine.point();
        // ORD: AcqRel, as load and store.
        Entry(self.word.swap(entry.0, Ordering::AcqRel))
    }

    /// Clears `bits` and returns the entry as it was before.
    pub(crate) fn clear(self, bits: u64) -> Entry {
        self.machine.point();
        // ORD: AcqRel, as load and store.
        Entry(self.word.fetch_and(!bits, Ordering::AcqRel))
    }

    /// Applies `change` until it goes in undisturbed; `None` from it leaves the entry alone. Returns the
    /// entry that was replaced, if one was.
    pub(crate) fn update(self, mut change: impl FnMut(Entry) -> Option<Entry>) -> Option<Entry> {
        let mut old = self.load();
        loop {
            let new = change(old)?;
            self.machine.point();
            // ORD: AcqRel and Acquire, as load and store.
            match self.word.compare_exchange_weak(old.0, new.0, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(old),
                Err(now) => old = Entry(now),
            }
        }
    }
}
