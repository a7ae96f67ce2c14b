//! Failures on demand: allocations of frames that find none, attempts to lock that do not succeed.
//!
//! Both may happen at any time, so a program must be right with the first of them failing, with the second, and so
//! on. A test counts through: it arms the n-th, plays its scene, and goes on to n + 1 until a scene ends before the n-th is reached.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::machine::SimMachine;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fallible {
    /// The machine hands out a frame to the pmap: [`Machine::allocate_frame`](crate::Machine::allocate_frame).
    Allocation,
    /// Somebody tries to take a [`Mutex`](super::Mutex) of this machine's CPUs without waiting.
    TryLock,
}

impl Fallible {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Allocation, Self::TryLock];
}

/// One kind's countdown.
#[derive(Debug, Default)]
struct Countdown {
    /// Attempts until one fails; 0 is never.
    left: AtomicU64,
    /// Those after it fail, too.
    stays: AtomicBool,
    failed: AtomicU64,
}

impl Countdown {
    fn arm(&self, nth: u64, stays: bool) {
        self.stays.store(stays, Ordering::Relaxed); // ORD: Relaxed; armed before the scene, nothing hangs on it
        self.failed.store(0, Ordering::Relaxed); // ORD: as above
        self.left.store(nth, Ordering::Relaxed); // ORD: as above
    }

    /// Whether this attempt fails.
    #[inline]
    fn strikes(&self) -> bool {
        // ORD: Relaxed; a count.
        self.left.load(Ordering::Relaxed) != 0 && self.count()
    }

    #[cold]
    fn count(&self) -> bool {
        let stays = self.stays.load(Ordering::Relaxed); // ORD: Relaxed; as in `arm`
        let next = |left: u64| if left == 1 && stays { Some(1) } else { left.checked_sub(1) };
        // ORD: Relaxed, both; a count.
        let before = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        let strikes = before == Ok(1);
        self.failed.fetch_add(u64::from(strikes), Ordering::Relaxed); // ORD: Relaxed; a count
        strikes
    }
}

/// The faults of one machine.
#[derive(Debug, Default)]
pub(super) struct Faults {
    allocations: Countdown,
    try_locks: Countdown,
}

impl Faults {
    fn of(&self, what: Fallible) -> &Countdown {
        match what {
            Fallible::Allocation => &self.allocations,
            Fallible::TryLock => &self.try_locks,
        }
    }

    /// Whether the attempt that is about to be made fails.
    #[inline]
    pub(super) fn strikes(&self, what: Fallible) -> bool {
        self.of(what).strikes()
    }
}

impl SimMachine {
    /// Makes the `nth` attempt from now on fail, where 1 is the next one; if `stays`, all later ones, too. With 0 nothing
    /// fails any more. Returns how many have failed since this was last called.
    ///
    /// Frames for the layer above, [`allocate_data_frame`](Self::allocate_data_frame), do not count.
    pub fn fail(&self, what: Fallible, nth: u64, stays: bool) -> u64 {
        let countdown = self.faults.of(what);
        let failed = countdown.failed.load(Ordering::Relaxed); // ORD: Relaxed; a count
        countdown.arm(nth, stays);
        failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_fails_and_those_after_it_if_wanted() {
        let strikes = |nth, stays| {
            let faults = Faults::default();
            faults.of(Fallible::TryLock).arm(nth, stays);
            assert!(!faults.strikes(Fallible::Allocation), "each kind counts for itself");
            [(); 5].map(|()| faults.strikes(Fallible::TryLock))
        };
        assert_eq!(strikes(0, true), [false; 5]);
        assert_eq!(strikes(1, false), [true, false, false, false, false]);
        assert_eq!(strikes(3, false), [false, false, true, false, false]);
        assert_eq!(strikes(3, true), [false, false, true, true, true]);
    }
}
