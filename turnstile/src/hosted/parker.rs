//! A parker that sleeps in `parking_lot_core`'s table.

use std::time::Instant;

use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN};

use crate::Parker;
use crate::primitive::{Acquire, AtomicU8, Relaxed, Release};

/// No token, nobody parked.
const EMPTY: u8 = 0;
/// The owner sleeps or is about to.
const PARKED: u8 = 1;
/// The token is there.
const TOKEN: u8 = 2;

/// A [`Parker`] of one byte, on any platform that `parking_lot_core` knows.
///
/// ```
/// use turnstile::{HostedParker, Parker};
///
/// static HERE: HostedParker = HostedParker::NEW;
/// let other = std::thread::spawn(|| HERE.unpark());
/// HERE.park();
/// other.join().unwrap();
/// ```
#[derive(Debug)]
pub struct HostedParker(AtomicU8);

impl HostedParker {
    fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    fn sleep(&self, deadline: Option<Instant>) {
        // ORD: Acquire pairs with the Release swap in `unpark`; Relaxed on failure: the token is taken just below.
        if self.0.compare_exchange(EMPTY, PARKED, Acquire, Relaxed).is_ok() {
            // SAFETY: the key is this object's address, used by nobody else; the closures neither panic nor call into
            // parking_lot_core.
            let _ = unsafe {
                parking_lot_core::park(
                    self.key(),
                    // ORD: Relaxed: runs under the bucket lock, which `unpark` takes after its swap.
                    || self.0.load(Relaxed) == PARKED,
                    || {},
                    |_, _| {},
                    DEFAULT_PARK_TOKEN,
                    deadline,
                )
            };
        }
        // ORD: Acquire pairs with the Release swap in `unpark`.
        self.0.swap(EMPTY, Acquire);
    }
}

impl Parker for HostedParker {
    type Instant = Instant;

    const NEW: Self = Self(AtomicU8::new(EMPTY));

    fn park(&self) {
        self.sleep(None);
    }

    fn park_until(&self, deadline: Instant) {
        self.sleep(Some(deadline));
    }

    fn unpark(&self) {
        // ORD: Release pairs with the Acquire of the owner's swap.
        if self.0.swap(TOKEN, Release) == PARKED {
            // SAFETY: the key is this object's address, used by nobody else; the closure neither panics nor calls into
            // parking_lot_core.
            let _ = unsafe { parking_lot_core::unpark_one(self.key(), |_| DEFAULT_UNPARK_TOKEN) };
        }
    }
}
