//! Finding the sections that hold somebody up, and the holds that are registered for them.

use core::cell::Cell;
use core::ptr::NonNull;

use turnstile::{Deadlock, Hold, Locked, TableScheduler};

use crate::common::Common;
use crate::fault::Fault;
use crate::primitive::Relaxed;
use crate::slot::Slot;

/// A slot's part in lending, beside its loan word. Under the table's lock.
pub(crate) struct Lending {
    hold: Hold,
    /// The level at which the section was last found open.
    level: Cell<u64>,
    /// Whether it is in a list, and which slot comes after it.
    listed: Cell<bool>,
    next: Cell<Option<NonNull<Slot>>>,
}

impl Lending {
    pub(crate) const fn new() -> Self {
        Self { hold: Hold::new(), level: Cell::new(0), listed: Cell::new(false), next: Cell::new(None) }
    }
}

/// The slots that one look has found.
struct Found(Cell<Option<NonNull<Slot>>>);

impl Found {
    fn add(&self, slot: &Slot, level: u64) {
        // A walk that starts again meets a slot again.
        slot.lending.level.set(level);
        if !slot.lending.listed.replace(true) {
            slot.lending.next.set(self.0.replace(Some(slot.pointer())));
        }
    }

    fn take(&self) -> Option<&Slot> {
        // SAFETY: slots live as long as the domain (INV-DI-6), which whoever has the list borrows.
        let slot = unsafe { self.0.get()?.as_ref() };
        self.0.set(slot.lending.next.take());
        slot.lending.listed.set(false);
        Some(slot)
    }
}

impl<S: TableScheduler> Common<S> {
    /// Registers a hold for every open section of a level of at most `up_to` that has none. Somebody who waits for that or is
    /// about to is in the waiter count, since before the table's lock was taken (see [`lending`](crate::lending)).
    ///
    /// Sets `again` if the watermark was advanced on the way: a waiter does not queue then, and owes a
    /// [`wake_as_helper`](Self::wake_as_helper).
    ///
    /// # Errors
    ///
    /// [`Deadlock`] if the owner of such a section waits, directly or through others, for somebody who waits for the
    /// section. All other holds are registered.
    pub(crate) fn lend(
        &self,
        table: &mut Locked<'_, S::Threads, 64>,
        up_to: u64,
        again: &mut bool,
    ) -> Result<(), Deadlock> {
        if [Fault::NoLending, Fault::NoRecheck, Fault::WaiterUnregistered]
            .iter()
            .any(|fault| self.omits(*fault))
        {
            return Ok(());
        }
        let found = Found(Cell::new(None));
        *again |= (self.operations.each_open)(self, &|slot, level| {
            if level <= up_to && !self.is_lent(table, slot) {
                found.add(slot, level);
            }
        });
        let mut refused = None;
        while let Some(slot) = found.take() {
            self.point_under_lock();
            if let Err(deadlock) = self.register(table, slot) {
                refused = Some(deadlock);
            }
        }
        // The refused one is open still: its owner is blocked, and whoever else may close it has made itself the owner before.
        refused.map_or(Ok(()), Err)
    }

    /// Whether the slot's hold is registered.
    pub(crate) fn is_lent(&self, table: &Locked<'_, S::Threads, 64>, slot: &Slot) -> bool {
        // SAFETY: the slots' holds are used with the table of the domain's scheduler only.
        unsafe { table.is_registered(&slot.lending.hold) }
    }

    /// Registers the slot's hold, which is not registered, at the level that was found, and sets its word.
    fn register(&self, table: &mut Locked<'_, S::Threads, 64>, slot: &Slot) -> Result<(), Deadlock> {
        // An open section has an owner, who cannot leave before the lock is free.
        let Some(owner) = slot.own.owner() else { return Ok(()) };
        let level = slot.lending.level.get();
        // SAFETY: the hold is used with this table only, and was found unregistered under this hold of the lock. It
        // stays at its place: its slot lives as long as the domain (INV-DI-6), and the section's finish releases it
        // before the participant can leave (INV-DI-12).
        unsafe { table.hold(&slot.lending.hold, self.wait_address(), owner, level)? };
        slot.own.loan.set(level);
        Ok(())
    }

    /// Makes the calling thread, which is about to close the section in `slot`, its owner, and the one who is lent to on account
    /// of it. Were that still the thread that opened it, which may do and wait for whatever it likes meanwhile, its waits
    /// could seem to close cycles through a section that is closed.
    pub(crate) fn adopt(&self, slot: &Slot) {
        let current = self.scheduler().current().get().get();
        // ORD: Relaxed: the participant came to this thread with all that was done with it.
        if slot.own.owner.load(Relaxed) == current {
            return;
        }
        self.scheduler().table().locked(|table| {
            let lent = self.is_lent(table, slot);
            self.take_back(table, slot);
            // ORD: Relaxed: lenders read it under the table's lock.
            slot.own.owner.store(current, Relaxed);
            if lent {
                // This thread is not blocked, so there is no cycle, hence no error.
                let _ = self.register(table, slot);
            }
        });
    }

    /// Takes back what is lent to the slot's owner on account of its section, if anything is.
    pub(crate) fn take_back(&self, table: &mut Locked<'_, S::Threads, 64>, slot: &Slot) {
        // SAFETY: the slots' holds are used with the table of the domain's scheduler only.
        if unsafe { table.release(&slot.lending.hold) } {
            slot.own.loan.clear();
        }
    }
}
