//! A one-byte mutex that sleeps in `parking_lot_core`'s queue: the hosted chain lock.
//!
//! Three states, as in Drepper's "Futexes Are Tricky" (2011), the second mutex: free, held, and held with
//! (perhaps) somebody asleep. Whoever goes to sleep sets the third state first; whoever frees it from there wakes
//! one sleeper. The state is looked at again under the parking lot's own lock before a thread sleeps, so no wake-up
//! is lost.

use lock_api::{GuardSend, RawMutex};
use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN, SpinWait};

use crate::primitive::{Acquire, AtomicU8, Relaxed, Release};

const FREE: u8 = 0;
const HELD: u8 = 1;
const CONTENDED: u8 = 2;

/// A mutex of one byte, for [`lock_api::Mutex`], that sleeps when it is contended.
///
/// It knows no owner and inherits no priority, and a thread that arrives may overtake one that sleeps.
#[derive(Debug)]
pub struct RawParkingMutex(AtomicU8);

impl RawParkingMutex {
    fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    #[cold]
    fn lock_contended(&self) {
        let mut spin = SpinWait::new();
        while spin.spin() {
            if self.try_lock().is_some() {
                return;
            }
        }
        // ORD: Acquire pairs with the Release swap in `unlock`.
        while self.0.swap(CONTENDED, Acquire) != FREE {
            // SAFETY: the key is this object's address, used by nobody else; the closures neither panic nor call
            // into parking_lot_core.
            let _ = unsafe {
                parking_lot_core::park(
                    self.key(),
                    // ORD: Relaxed: runs under the bucket lock, which the waker takes after its swap to FREE.
                    || self.0.load(Relaxed) == CONTENDED,
                    || {},
                    |_, _| {},
                    DEFAULT_PARK_TOKEN,
                    None,
                )
            };
        }
    }
}

// SAFETY: only a transition from FREE enters (Acquire), and only the holder makes it FREE (Release), so holders exclude
// each other and each sees what its predecessor did. The guard is stateless: forgetting it leaves the mutex held.
// No operation unwinds.
unsafe impl RawMutex for RawParkingMutex {
    const INIT: Self = Self(AtomicU8::new(FREE));

    type Guard = GuardSend;

    #[inline]
    fn lock(&self) -> GuardSend {
        if self.try_lock().is_none() {
            self.lock_contended();
        }
        GuardSend::new()
    }

    #[inline]
    fn try_lock(&self) -> Option<GuardSend> {
        // ORD: Acquire pairs with the Release swap in `unlock`; Relaxed on failure: nothing is read then.
        self.0.compare_exchange(FREE, HELD, Acquire, Relaxed).ok().map(|_| GuardSend::new())
    }

    #[inline]
    unsafe fn unlock(&self, _guard: GuardSend) {
        // ORD: Release pairs with the Acquire of the next holder.
        if self.0.swap(FREE, Release) == CONTENDED {
            // SAFETY: the key is this object's address, used by nobody else; the closure neither panics nor calls
            // into parking_lot_core.
            let _ = unsafe { parking_lot_core::unpark_one(self.key(), |_| DEFAULT_UNPARK_TOKEN) };
        }
    }

    #[inline]
    fn is_locked(&self) -> bool {
        // ORD: Relaxed: a snapshot, stale by the time it is returned.
        self.0.load(Relaxed) != FREE
    }
}
