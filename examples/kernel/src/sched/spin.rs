//! Spin locks: interrupts of the CPU are off while one is held.
//!
//! So a holder is neither preempted nor interrupted, and holds the lock for a bounded time. It never waits for another CPU to
//! serve a shootdown. Whoever waits for the lock does so with interrupts as they were: a shootdown reaches it meanwhile.

use core::sync::atomic::{AtomicBool, Ordering};

use lock_api::{GuardNoSend, RawMutex};
use x86_64::instructions::interrupts;

use super::switch;

/// A spin lock over a `T`.
pub(crate) type SpinLock<T> = lock_api::Mutex<RawSpinLock, T>;

/// The lock of [`SpinLock`].
pub(crate) struct RawSpinLock(AtomicBool);

/// What is to be restored when a spin lock is released: whether interrupts were on.
pub(crate) struct Saved {
    enabled: bool,
    /// The flag is this CPU's.
    _not_send: GuardNoSend,
}

impl Saved {
    /// Interrupts go on at the unlock: for a thread's first step, which begins with a lock that another thread took.
    pub(super) fn enabled() -> Self {
        Self { enabled: true, _not_send: GuardNoSend::new() }
    }
}

// SAFETY: only a swap from false to true enters (Acquire), and the unlock stores false (Release). Nothing here unwinds.
unsafe impl RawMutex for RawSpinLock {
    const INIT: Self = Self(AtomicBool::new(false));

    type Guard = Saved;

    fn lock(&self) -> Saved {
        loop {
            if let Some(saved) = self.try_lock() {
                return saved;
            }
            while self.is_locked() {
                core::hint::spin_loop();
            }
        }
    }

    fn try_lock(&self) -> Option<Saved> {
        let enabled = interrupts::are_enabled();
        interrupts::disable();
        // ORD: Acquire pairs with the Release of `unlock`.
        if self.0.swap(true, Ordering::Acquire) {
            if enabled {
                interrupts::enable();
            }
            return None;
        }
        Some(Saved { enabled, _not_send: GuardNoSend::new() })
    }

    unsafe fn unlock(&self, saved: Saved) {
        // ORD: Release pairs with the Acquire of `try_lock`.
        self.0.store(false, Ordering::Release);
        if saved.enabled {
            switch::enable_interrupts();
        }
    }

    fn is_locked(&self) -> bool {
        // ORD: Relaxed: a hint; entering is a swap.
        self.0.load(Ordering::Relaxed)
    }
}
