//! Mutexes: lock and unlock around one addition. One thread shows what an uncontended mutex costs, more threads what a
//! contended one does.

use std::sync::PoisonError;

use crossbeam_utils::CachePadded;
use turnstile::{Hosted, RawPiMutex};

use super::runner::{Contender, Lane, Peer};

/// A mutex around a number.
trait Counter: Sync + Default {
    fn add(&self);
}

impl<R: lock_api::RawMutex + Sync> Counter for lock_api::Mutex<R, u64> {
    #[inline]
    fn add(&self) {
        *self.lock() += 1;
    }
}

impl Counter for std::sync::Mutex<u64> {
    #[inline]
    fn add(&self) {
        *self.lock().unwrap_or_else(PoisonError::into_inner) += 1;
    }
}

/// One mutex for all threads.
#[derive(Default)]
struct Shared<C>(CachePadded<C>);

impl<C: Counter> Peer for Shared<C> {
    const WAITS: bool = false;
    type Lane<'peer>
        = &'peer C
    where
        C: 'peer;

    fn lane(&self, _: usize) -> &C {
        &self.0
    }
}

impl<C: Counter> Lane for &C {
    #[inline]
    fn pair(&mut self) {
        self.add();
    }
}

fn contender<C: Counter + 'static>(name: &'static str) -> Contender {
    Contender::new(name, |_| Shared::<C>::default())
}

pub(super) fn contenders() -> Vec<Contender> {
    vec![
        contender::<lock_api::Mutex<RawPiMutex<Hosted>, u64>>("pi-mutex"),
        contender::<parking_lot::Mutex<u64>>("parking_lot"),
        contender::<std::sync::Mutex<u64>>("std"),
        #[cfg(target_os = "linux")]
        contender::<pthread::Inheriting>("pthread-pi"),
    ]
}

/// The mutex of POSIX threads with PTHREAD_PRIO_INHERIT.
#[cfg(target_os = "linux")]
mod pthread {
    use std::cell::UnsafeCell;
    use std::mem::MaybeUninit;

    use super::Counter;

    /// The mutex, which stays where it was initialised, and the number.
    pub(super) struct Inheriting {
        mutex: Box<UnsafeCell<libc::pthread_mutex_t>>,
        number: UnsafeCell<u64>,
    }

    // SAFETY: the number is touched by the thread alone that holds the mutex, which is made to be shared.
    unsafe impl Sync for Inheriting {}

    impl Default for Inheriting {
        /// # Panics
        /// If the system has no such mutexes.
        fn default() -> Self {
            let mut attributes = MaybeUninit::uninit();
            let mut mutex = Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
            // SAFETY: the attributes are initialised first and destroyed last; the mutex is in nobody else's hands yet, and
            // the box keeps it in its place.
            let result = unsafe {
                libc::pthread_mutexattr_init(attributes.as_mut_ptr());
                let chosen =
                    libc::pthread_mutexattr_setprotocol(attributes.as_mut_ptr(), libc::PTHREAD_PRIO_INHERIT);
                let made = libc::pthread_mutex_init(mutex.get_mut(), attributes.as_ptr());
                libc::pthread_mutexattr_destroy(attributes.as_mut_ptr());
                (chosen, made)
            };
            assert_eq!(result, (0, 0), "this system has no mutexes with PTHREAD_PRIO_INHERIT");
            Self { mutex, number: UnsafeCell::new(0) }
        }
    }

    impl Counter for Inheriting {
        #[inline]
        fn add(&self) {
            // SAFETY: initialised; the number is this thread's between lock and unlock, which cannot fail for a thread that does not hold
            // the mutex, and for one that does.
            unsafe {
                let locked = libc::pthread_mutex_lock(self.mutex.get());
                debug_assert_eq!(locked, 0);
                *self.number.get() += 1;
                let unlocked = libc::pthread_mutex_unlock(self.mutex.get());
                debug_assert_eq!(unlocked, 0);
            }
        }
    }

    impl Drop for Inheriting {
        fn drop(&mut self) {
            // SAFETY: `&mut self` shows that nobody holds it or is about to.
            unsafe { libc::pthread_mutex_destroy(self.mutex.get()) };
        }
    }
}
