//! A mutex over `FUTEX_LOCK_PI`: the kernel lends its owner the priority of whoever waits (futex(2)).

use lock_api::{GuardNoSend, RawMutex};

use super::threads::tid;
use crate::primitive::{Acquire, AtomicU32, Relaxed, Release};

/// A mutex of four bytes, for [`lock_api::Mutex`], whose owner the kernel lends the priority of its waiters.
///
/// The word is the owner's thread number, and the kernel's bit for waiters.
#[derive(Debug)]
pub struct RawFutexPiMutex(AtomicU32);

impl RawFutexPiMutex {
    fn operate(&self, operation: i32) -> bool {
        let operation = operation | libc::FUTEX_PRIVATE_FLAG;
        let no_time = core::ptr::null::<libc::timespec>();
        // SAFETY: the word is alive during the call; the operations used here take no time limit from a null pointer.
        unsafe { libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, 0, no_time) == 0 }
    }

    #[cold]
    fn lock_contended(&self, tid: u32) {
        // An error is an interruption, or the kernel's refusal for want of memory: in both cases, again.
        while !self.operate(libc::FUTEX_LOCK_PI) {
            // ORD: Acquire pairs with the Release of `unlock`; Relaxed on failure: nothing is read then.
            if self.0.compare_exchange(0, tid, Acquire, Relaxed).is_ok() {
                return;
            }
            std::thread::yield_now();
        }
        // ORD: Acquire: the kernel wrote this thread's number after it had taken its predecessor's unlock.
        self.0.load(Acquire);
    }
}

// SAFETY: only a transition from 0 enters (Acquire), the kernel's included, and only the owner leaves, by a transition to 0
// (Release) or through the kernel. Guards cannot be sent: the word names the thread. No operation unwinds.
unsafe impl RawMutex for RawFutexPiMutex {
    const INIT: Self = Self(AtomicU32::new(0));

    type Guard = GuardNoSend;

    #[inline]
    fn lock(&self) -> GuardNoSend {
        let tid = tid();
        // ORD: Acquire pairs with the Release of `unlock`; Relaxed on failure: nothing is read then.
        if self.0.compare_exchange(0, tid, Acquire, Relaxed).is_err() {
            self.lock_contended(tid);
        }
        GuardNoSend::new()
    }

    #[inline]
    fn try_lock(&self) -> Option<GuardNoSend> {
        // ORD: Acquire pairs with the Release of `unlock`; Relaxed on failure: nothing is read then.
        self.0.compare_exchange(0, tid(), Acquire, Relaxed).ok().map(|_| GuardNoSend::new())
    }

    #[inline]
    unsafe fn unlock(&self, _guard: GuardNoSend) {
        // ORD: Release pairs with the Acquire of the next owner; Relaxed on failure: the kernel does it then.
        if self.0.compare_exchange(tid(), 0, Release, Relaxed).is_err() {
            self.operate(libc::FUTEX_UNLOCK_PI);
        }
    }

    #[inline]
    fn is_locked(&self) -> bool {
        // ORD: Relaxed: a snapshot, stale by the time it is returned.
        self.0.load(Relaxed) != 0
    }
}
