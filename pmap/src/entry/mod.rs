//! Page-table entries: the value, and the live word that hardware writes too.
//!
//! Hardware sets the accessed and dirty bits of a live entry at any moment (Intel SDM vol. 3, 4.8). A
//! store that overwrites the word with a value computed from an earlier load loses such a bit, and with
//! it a page's only sign of being modified. `Slot` therefore offers no such store: a live entry is
//! taken, exchanged, stripped of bits or updated by compare-exchange, and every operation returns what
//! was really there.
//!
//! Algorithms name bits by what they mean ([`Bits`]); which bits of the word they are is up to the entry's
//! [`Format`], a type.

mod bits;
mod format;
#[cfg(test)]
mod tests;
mod value;

pub use bits::{
    ACCESSED, Bits, DIRTY, GLOBAL, LARGE, MANAGED, NO_EXECUTE, PRESENT, PROMOTED, USER, WIRED, WRITABLE,
};
pub use format::{Ept, EptEmulated, FRAME_MASK, Format, Layout, Rvi, X86};
pub use value::Entry;

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::Frame;
use crate::machine::Machine;

/// A word of a page table in use, on a machine.
///
/// All orderings are SeqCst-free: what one CPU's page-table store must be ordered against (the active
/// set, the invalidation request) is ordered by fences in the code that reads those.
pub(crate) struct Slot<'s, M, F = X86> {
    machine: &'s M,
    word: &'s AtomicU64,
    /// The table that the word is in.
    table: Frame,
    format: PhantomData<F>,
}

impl<M, F> Clone for Slot<'_, M, F> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<M, F> Copy for Slot<'_, M, F> {}

impl<'s, M: Machine, F: Format> Slot<'s, M, F> {
    pub(crate) fn new(machine: &'s M, table: Frame, word: &'s AtomicU64) -> Self {
        Self { machine, word, table, format: PhantomData }
    }

    /// The table that the word is in.
    pub(crate) fn table(self) -> Frame {
        self.table
    }

    /// The entry as it is now; hardware may add accessed and dirty bits at any time.
    pub(crate) fn load(self) -> Entry<F> {
        self.machine.point();
        // ORD: Acquire pairs with the Release half of every store below: who sees a table entry sees the
        // table's contents.
        Entry::from_word(self.word.load(Ordering::Acquire))
    }

    /// Makes an entry where none is. Nobody but the holder of the pmap lock writes an invalid entry, so a
    /// plain store is enough.
    pub(crate) fn create(self, entry: Entry<F>) {
        self.machine.point();
        // ORD: Relaxed; a check of what the lock guarantees.
        debug_assert_eq!(self.word.load(Ordering::Relaxed), 0, "create over a live entry loses its bits");
        // ORD: Release pairs with the walkers' Acquire loads, see `load`.
        self.word.store(entry.word(), Ordering::Release);
    }

    /// Destroys the entry and returns it with its final accessed and dirty bits.
    #[must_use = "accessed and dirty bits are lost with the entry"]
    pub(crate) fn take(self) -> Entry<F> {
        self.machine.point();
        // ORD: AcqRel, as load and store.
        Entry::from_word(self.word.swap(0, Ordering::AcqRel))
    }

    /// Replaces the entry and returns the old one with its final accessed and dirty bits.
    #[must_use = "accessed and dirty bits are lost with the entry"]
    pub(crate) fn exchange(self, entry: Entry<F>) -> Entry<F> {
        self.machine.point();
        // ORD: AcqRel, as load and store.
        Entry::from_word(self.word.swap(entry.word(), Ordering::AcqRel))
    }

    /// Clears `bits` and returns the entry as it was before.
    pub(crate) fn clear(self, bits: Bits) -> Entry<F> {
        debug_assert_eq!(F::LAYOUT.zeros(bits), 0, "only bits that are set when they hold");
        self.machine.point();
        // ORD: AcqRel, as load and store.
        Entry::from_word(self.word.fetch_and(!F::LAYOUT.ones(bits), Ordering::AcqRel))
    }

    /// Applies `change` until it goes in undisturbed; `None` from it leaves the entry alone. Returns the
    /// entry that was replaced, if one was.
    pub(crate) fn update(self, mut change: impl FnMut(Entry<F>) -> Option<Entry<F>>) -> Option<Entry<F>> {
        let mut old = self.load();
        loop {
            let new = change(old)?;
            self.machine.point();
            // ORD: AcqRel and Acquire, as load and store.
            match self.word.compare_exchange_weak(old.word(), new.word(), Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(old),
                Err(now) => old = Entry::from_word(now),
            }
        }
    }
}
