//! Waiting with a time limit, on hosted systems.
//!
//! # Protocol
//!
//! As in [`waiting`](crate::waiting), but a timed waiter sleeps on a condition variable of the domain instead of a
//! turnstile: it registers in the same waiter count, looks again under the mutex, and sleeps; whoever wakes the parked
//! waiters takes the mutex after its own effect and wakes those who sleep here. So nothing is lost for the same reason
//! (INV-DI-8), and the only timer is the limit itself.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use turnstile::{Hosted, Scheduler};

use crate::counters::OwnCounters;
use crate::domain::Domain;
use crate::participant::Participant;
use crate::word::GenerationWord;

/// Where a domain's timed waiters sleep.
pub(crate) struct Timed {
    /// How many sleep.
    asleep: Mutex<usize>,
    wake: Condvar,
}

impl Timed {
    pub(crate) const fn new() -> Self {
        Self { asleep: Mutex::new(0), wake: Condvar::new() }
    }

    /// The number is right even if a waiter's re-check has panicked.
    fn lock(&self) -> MutexGuard<'_, usize> {
        self.asleep.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes all: each looks for itself.
    pub(crate) fn wake(&self) {
        if *self.lock() > 0 {
            self.wake.notify_all();
        }
    }
}

impl<S: Scheduler> Domain<S> {
    /// The slow path of [`Participant::wait_timeout`]: whether the watermark reached the target in time.
    #[cold]
    fn wait_until(&self, target: u64, deadline: Option<Instant>, counters: &OwnCounters) -> bool {
        let left = || match deadline {
            None => Some(Duration::MAX),
            Some(deadline) => deadline.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()),
        };
        if self.reaches_soon(target, counters, || left().is_none()) {
            return true;
        }
        let mut slept = false;
        let _registered = self.waiters.register();
        let mut asleep = self.timed.lock();
        let reached = loop {
            let mut advanced = false;
            if !self.must_queue(target, &mut advanced) {
                drop(asleep);
                if advanced {
                    self.wake_as_helper(crate::waiting::Helper::Recheck);
                }
                if self.watermark() >= target {
                    break true;
                }
                asleep = self.timed.lock();
                continue;
            }
            let Some(left) = left() else { break false };
            slept = true;
            *asleep += 1;
            asleep = self.timed.wake.wait_timeout(asleep, left).unwrap_or_else(PoisonError::into_inner).0;
            *asleep -= 1;
        };
        if slept {
            counters.wait_slow.add(1);
        }
        reached
    }
}

impl Participant<Hosted> {
    /// As [`wait`](Self::wait), but gives up after `timeout`; says whether the wait is over. Nothing is left behind by a
    /// wait that gave up. A timeout beyond the clock's range is none.
    ///
    /// ```
    /// use std::{sync::Arc, time::Duration};
    /// use gencount::{Domain, GenerationWord, Hosted, Implementation};
    ///
    /// let domain = Arc::new(Domain::new(Implementation::Sharded, Hosted));
    /// let (worker, other) = (domain.join(), domain.join());
    /// let word = GenerationWord::new();
    /// let section = worker.begin();
    /// section.mark(&word);
    /// assert!(!other.wait_timeout(&word, Duration::from_millis(5)));
    /// drop(section);
    /// assert!(other.wait_timeout(&word, Duration::from_millis(5)));
    /// ```
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    pub fn wait_timeout(&self, word: &GenerationWord, timeout: Duration) -> bool {
        let target = self.target_of_wait(word);
        self.domain().watermark() >= target
            || self.domain().wait_until(target, Instant::now().checked_add(timeout), self.counters())
    }
}
