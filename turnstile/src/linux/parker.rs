//! A parker on a futex of its own (futex(2)).

use std::time::Instant;

use crate::Parker;
use crate::parker::Token;
use crate::primitive::AtomicU32;

/// A [`Parker`] of four bytes. No lock is taken on the way, so nobody less urgent can hold it.
#[derive(Debug)]
pub struct FutexParker(Token);

impl FutexParker {
    fn sleep(&self, deadline: Option<Instant>) {
        self.0.take(|word| {
            let limit = deadline.map(|deadline| {
                let left = deadline.saturating_duration_since(Instant::now());
                libc::timespec {
                    tv_sec: left.as_secs().try_into().unwrap_or(libc::time_t::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            let limit = limit.as_ref().map_or(core::ptr::null(), core::ptr::from_ref);
            // SAFETY: the limit is null or a local.
            unsafe { futex(word, libc::FUTEX_WAIT, Token::PARKED, limit) };
        });
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

    const NEW: Self = Self(Token::none());

    fn park(&self) {
        self.sleep(None);
    }

    fn park_until(&self, deadline: Instant) {
        self.sleep(Some(deadline));
    }

    fn unpark(&self) {
        // SAFETY: null is no limit.
        self.0.leave(|word| unsafe { futex(word, libc::FUTEX_WAKE, 1, core::ptr::null()) });
    }
}
