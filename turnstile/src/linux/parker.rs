//! A parker on a futex of its own (futex(2)).

use std::time::Instant;

use crate::Parker;
use crate::primitive::{Acquire, AtomicU32, Relaxed, Release};

/// No token, nobody parked.
const EMPTY: u32 = 0;
/// The owner sleeps or is about to.
const PARKED: u32 = 1;
/// The token is there.
const TOKEN: u32 = 2;

/// A [`Parker`] of four bytes. No lock is taken on the way, so nobody less urgent can hold it.
#[derive(Debug)]
pub struct FutexParker(AtomicU32);

impl FutexParker {
    fn sleep(&self, deadline: Option<Instant>) {
        // ORD: Acquire pairs with the Release swap in `unpark`; Relaxed on failure: the token is taken just below.
        if self.0.compare_exchange(EMPTY, PARKED, Acquire, Relaxed).is_ok() {
            let limit = deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                libc::timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            let limit = limit.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
            // SAFETY: the word is alive during the call; the limit is null or a local.
            unsafe { futex(&self.0, libc::FUTEX_WAIT, PARKED, limit) };
        }
        // ORD: Acquire pairs with the Release swap in `unpark`.
        self.0.swap(EMPTY, Acquire);
    }
}

/// # Safety
///
/// `limit` is null, or points to a time.
unsafe fn futex(word: &AtomicU32, operation: i32, value: u32, limit: *const libc::timespec) {
    let operation = operation | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is borrowed; the limit is the caller's promise. A failure is a wake-up for no reason.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), operation, value, limit) };
}

impl Parker for FutexParker {
    type Instant = Instant;

    const NEW: Self = Self(AtomicU32::new(EMPTY));

    fn park(&self) {
        self.sleep(None);
    }

    fn park_until(&self, deadline: Instant) {
        self.sleep(Some(deadline));
    }

    fn unpark(&self) {
        // ORD: Release pairs with the Acquire of the owner's swap.
        if self.0.swap(TOKEN, Release) == PARKED {
            // SAFETY: null is no limit.
            unsafe { futex(&self.0, libc::FUTEX_WAKE, 1, core::ptr::null()) };
        }
    }
}
