//! A spin lock for what interrupt handlers use as well: held with interrupts disabled, for a few
//! instructions, by nobody who waits for another CPU. It needs no scheduler and no per-CPU data.

use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, Ordering};

use super::interrupts::Disabled;

/// A value that one CPU uses at a time, with its interrupts disabled.
pub(crate) struct InterruptLock<T> {
    locked: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: `with` is the only way to the value and lets one CPU in at a time, of whatever thread.
unsafe impl<T: Send> Sync for InterruptLock<T> {}

impl<T> InterruptLock<T> {
    /// A lock that nobody holds.
    pub(crate) const fn new(value: T) -> Self {
        Self { locked: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    /// Runs `f` on the value. `f` must not come back here with the same lock: it would wait for itself.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        loop {
            let disabled = Disabled::new();
            // ORD: Acquire pairs with the Release below of the CPU that held the lock before.
            if !self.locked.swap(true, Ordering::Acquire) {
                // SAFETY: the lock is ours, and an interrupt cannot come in between.
                let result = f(unsafe { &mut *self.value.get() });
                // ORD: Release pairs with the Acquire above of the next CPU.
                self.locked.store(false, Ordering::Release);
                return result;
            }
            // Another CPU may take the lock again and again before this one sees it free: its clock goes on meanwhile.
            drop(disabled);
            // ORD: only a hint that the exchange is worth trying.
            while self.locked.load(Ordering::Relaxed) {
                spin_loop();
            }
        }
    }

    /// Frees the lock, whoever holds it. For a kernel that is stopping and must still print.
    ///
    /// # Safety
    ///
    /// Who holds the lock never goes on, or has nothing to lose.
    pub(crate) unsafe fn force_unlock(&self) {
        // ORD: pairs with nothing: the holder is not waited for.
        self.locked.store(false, Ordering::Relaxed);
    }
}
