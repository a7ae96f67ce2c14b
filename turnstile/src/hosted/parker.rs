//! A parker that sleeps in `parking_lot_core`'s table.

use std::time::Instant;

use parking_lot_core::{DEFAULT_PARK_TOKEN, DEFAULT_UNPARK_TOKEN};

use crate::Parker;
use crate::parker::Token;
use crate::primitive::{AtomicU32, Relaxed};

/// A [`Parker`] of four bytes, on any platform that `parking_lot_core` knows.
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
pub struct HostedParker(Token);

/// The key is the word's address, which nobody else uses.
fn key(word: &AtomicU32) -> usize {
    core::ptr::from_ref(word).addr()
}

impl HostedParker {
    fn sleep(&self, deadline: Option<Instant>) {
        self.0.take(|word| {
            // SAFETY: see `key`; the closures neither panic nor call into parking_lot_core.
            let _ = unsafe {
                parking_lot_core::park(
                    key(word),
                    // ORD: Relaxed: runs under the bucket lock, which `unpark` takes after it has left the token.
                    || word.load(Relaxed) == Token::PARKED,
                    || {},
                    |_, _| {},
                    DEFAULT_PARK_TOKEN,
                    deadline,
                )
            };
        });
    }
}

impl Parker for HostedParker {
    type Instant = Instant;

    const NEW: Self = Self(Token::none());

    fn park(&self) {
        self.sleep(None);
    }

    fn park_until(&self, deadline: Instant) {
        self.sleep(Some(deadline));
    }

    fn unpark(&self) {
        self.0.leave(|word| {
            // SAFETY: see `key`; the closure neither panics nor calls into parking_lot_core.
            let _ = unsafe { parking_lot_core::unpark_one(key(word), |_| DEFAULT_UNPARK_TOKEN) };
        });
    }
}
