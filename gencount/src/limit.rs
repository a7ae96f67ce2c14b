//! How long a wait may last: for ever, or until a moment that the scheduler's clock knows.

use turnstile::{
    Address, Deadlock, Decision, Ending, LendingScheduler, Locked, PiTurnstiles, Queue, TableScheduler,
    TimedScheduler,
};

use crate::participant::Participant;
use crate::selection::Dispatch;
use crate::waiting::deadlocked;
use crate::word::GenerationWord;

/// The end of a wait that is given up, if there is one.
pub(crate) trait Limit<T: LendingScheduler>: Copy {
    /// Whether it has been reached.
    fn is_past(self, table: &PiTurnstiles<T>) -> bool;

    /// Blocks in the table until it is reached: [`PiTurnstiles::block`] or [`PiTurnstiles::block_until`], on the shared queue.
    fn block(
        self,
        table: &PiTurnstiles<T>,
        address: Address,
        token: u64,
        decide: impl FnOnce(&mut Locked<'_, T, 64>) -> Decision,
    ) -> Result<Ending, Deadlock>;
}

/// No limit.
#[derive(Clone, Copy)]
pub(crate) struct Never;

impl<T: LendingScheduler> Limit<T> for Never {
    #[inline]
    fn is_past(self, _: &PiTurnstiles<T>) -> bool {
        false
    }

    fn block(
        self,
        table: &PiTurnstiles<T>,
        address: Address,
        token: u64,
        decide: impl FnOnce(&mut Locked<'_, T, 64>) -> Decision,
    ) -> Result<Ending, Deadlock> {
        table.block(address, Queue::Shared, token, decide)
    }
}

/// A moment.
#[derive(Clone, Copy)]
struct Until<I>(I);

impl<T: LendingScheduler + TimedScheduler> Limit<T> for Until<T::Instant> {
    fn is_past(self, table: &PiTurnstiles<T>) -> bool {
        table.scheduler().is_past(self.0)
    }

    fn block(
        self,
        table: &PiTurnstiles<T>,
        address: Address,
        token: u64,
        decide: impl FnOnce(&mut Locked<'_, T, 64>) -> Decision,
    ) -> Result<Ending, Deadlock> {
        table.block_until(address, Queue::Shared, token, self.0, decide)
    }
}

impl<S: TableScheduler, D: Dispatch> Participant<S, D>
where
    S::Threads: TimedScheduler,
{
    /// As [`wait`](Self::wait), but gives up after `timeout`; says whether the wait is over. Nothing is left behind by a
    /// wait that gave up: what it lent has been taken back. A timeout beyond the clock's range is none. A wait that could
    /// not end but by its limit, because of a cycle (see [`wait_or_deadlock`](Self::wait_or_deadlock)), gives up at once: when it
    /// begins, or when somebody who has no limit closes the cycle.
    ///
    /// For schedulers whose table's scheduler has a clock ([`TimedScheduler`]).
    ///
    /// ```
    /// # #[cfg(feature = "std")] {
    /// use std::{sync::Arc, time::Duration};
    /// use gencount::{Domain, GenerationWord, Hosted, Implementation};
    ///
    /// let domain = Arc::new(Domain::new(Implementation::Sharded, Hosted));
    /// let worker = domain.join();
    /// let word = GenerationWord::new();
    /// let in_time = || domain.join().wait_timeout(&word, Duration::from_millis(5));
    /// let section = worker.begin();
    /// section.mark(&word);
    /// assert!(!std::thread::scope(|scope| scope.spawn(in_time).join().unwrap()));
    /// drop(section);
    /// assert!(in_time());
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait), on a cycle only if there is no limit.
    pub fn wait_timeout(
        &self,
        word: &GenerationWord,
        timeout: <S::Threads as TimedScheduler>::Duration,
    ) -> bool {
        let target = self.target_of_wait(word);
        let domain = self.domain();
        if domain.watermark() >= target {
            return true;
        }
        match domain.scheduler().table().scheduler().after(timeout) {
            Some(deadline) => {
                domain.common.wait_for(target, self.counters(), Until(deadline)).unwrap_or(false)
            }
            None => domain
                .common
                .wait_for(target, self.counters(), Never)
                .unwrap_or_else(|deadlock| deadlocked(target, &deadlock)),
        }
    }
}
