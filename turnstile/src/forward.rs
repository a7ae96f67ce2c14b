//! References, shared pointers and tables as schedulers: each passes every call on to the one scheduler behind it.

use crate::{LendingScheduler, PiTurnstiles, Priority, Scheduler, ThreadId, TimedScheduler};

/// Makes `$on` a scheduler of all the kinds that `$to` is one of.
macro_rules! forward {
    ([$($generics:tt)*] $on:ty => $to:ty, $this:ident => $scheduler:expr) => {
        // SAFETY: every method is the scheduler's behind it, called on that same scheduler.
        unsafe impl<$($generics)*> Scheduler for $on
        where
            $to: Scheduler,
        {
            type RawLock = <$to as Scheduler>::RawLock;

            #[inline]
            fn current(&self) -> ThreadId {
                let $this = self;
                $scheduler.current()
            }

            #[inline]
            fn priority(&self, thread: ThreadId) -> Priority {
                let $this = self;
                $scheduler.priority(thread)
            }

            #[inline]
            fn park(&self) {
                let $this = self;
                $scheduler.park();
            }

            #[inline]
            fn unpark(&self, thread: ThreadId) {
                let $this = self;
                $scheduler.unpark(thread);
            }

            #[inline]
            fn point(&self) {
                let $this = self;
                $scheduler.point();
            }

            #[inline]
            fn relax(&self, pauses: u32) {
                let $this = self;
                $scheduler.relax(pauses);
            }
        }

        // SAFETY: as above.
        unsafe impl<$($generics)*> LendingScheduler for $on
        where
            $to: LendingScheduler,
        {
            fn own_priority(&self, thread: ThreadId) -> Priority {
                let $this = self;
                $scheduler.own_priority(thread)
            }

            fn lend(&self, thread: ThreadId, priority: Priority) {
                let $this = self;
                $scheduler.lend(thread, priority);
            }

            fn unlend(&self, thread: ThreadId) {
                let $this = self;
                $scheduler.unlend(thread);
            }

            fn is_unsettled(&self) -> bool {
                let $this = self;
                $scheduler.is_unsettled()
            }

            fn settle(&self) {
                let $this = self;
                $scheduler.settle();
            }
        }

        // SAFETY: as above.
        unsafe impl<$($generics)*> TimedScheduler for $on
        where
            $to: TimedScheduler,
        {
            type Instant = <$to as TimedScheduler>::Instant;
            type Duration = <$to as TimedScheduler>::Duration;

            fn after(&self, duration: Self::Duration) -> Option<Self::Instant> {
                let $this = self;
                $scheduler.after(duration)
            }

            fn is_past(&self, deadline: Self::Instant) -> bool {
                let $this = self;
                $scheduler.is_past(deadline)
            }

            fn park_until(&self, deadline: Self::Instant) {
                let $this = self;
                $scheduler.park_until(deadline);
            }
        }
    };
}

forward!([S: ?Sized] &S => S, this => (**this));
#[cfg(feature = "std")]
forward!([S: ?Sized] std::sync::Arc<S> => S, this => (**this));
forward!([S: LendingScheduler, const CHAINS: usize] PiTurnstiles<S, CHAINS> => S, this => PiTurnstiles::scheduler(this));
