//! `RawPiMutex`: exclusion, no lost wake-up, lending to each owner in turn, time limits, cycles (INV-M-1 to INV-M-4).

use std::sync::Arc;

use lock_api::{GuardNoSend, RawMutex as _, RawMutexFair as _, RawMutexTimed as _};

use super::scheduler::{Checked, spawn};
use super::{Fault, Guarded, Subject, contend_for, explore, fresh, noticed};
use crate::{Address, LockScheduler as _, RawPiMutex, Scheduler as _};

/// A mutex and what it protects.
struct Shared {
    mutex: RawPiMutex<Checked>,
    guarded: Guarded,
}

/// How a thread gets in, and out.
#[derive(Clone, Copy)]
enum Way {
    Wait,
    Try,
    TimeLimit,
    Fair,
}

use Way::{Fair, TimeLimit, Try, Wait};

impl Shared {
    /// Those who wait lend to the owner, which is this thread (INV-M-2).
    fn waiters_lend_to_me(&self) {
        let me = Checked.current();
        let nothing = crate::Edge {
            thread: me,
            address: Address::new(0),
            queue: crate::Queue::Exclusive,
            token: 0,
            priority: crate::Priority::LOWEST,
            owner: None,
            depth: 0,
        };
        let mut room = [nothing; 8];
        let count = Checked::table().edges(&mut room);
        for edge in room[..count].iter().filter(|edge| edge.address == self.mutex.address()) {
            assert_eq!(edge.owner, Some(me), "a waiter does not lend to the owner");
        }
    }
}

impl Subject for Shared {
    type Way = Way;

    const LAST: Way = Way::Wait;

    fn new() -> Self {
        Self { mutex: RawPiMutex::INIT, guarded: Guarded::default() }
    }

    fn is_locked(&self) -> bool {
        self.mutex.is_locked()
    }

    fn use_once(&self, way: Way) {
        let entered = match way {
            Wait | Fair => Some(self.mutex.lock()),
            Try => self.mutex.try_lock(),
            TimeLimit => self.mutex.try_lock_for(()),
        };
        if entered.is_none() {
            return;
        }
        self.guarded.write();
        self.waiters_lend_to_me();
        // SAFETY: locked above, by this thread.
        unsafe {
            match way {
                Fair => self.mutex.unlock_fair(GuardNoSend::new()),
                _ => self.mutex.unlock(GuardNoSend::new()),
            }
        }
    }
}

/// As [`contend_for`], for this lock.
fn contend(
    threads: &'static [(u8, &'static [Way])],
    mine: &'static [Way],
) -> impl Fn() + Send + Sync + 'static {
    contend_for::<Shared>(threads, mine)
}

#[test]
fn two_threads() {
    explore(20, contend(&[(2, &[Wait])], &[Wait]));
}

#[test]
fn equals_and_a_fair_unlock() {
    explore(20, contend(&[(1, &[Wait, Wait])], &[Fair]));
}

#[test]
fn a_time_limit_against_a_hand_over() {
    explore(20, contend(&[(2, &[TimeLimit])], &[Wait]));
    explore(20, contend(&[(2, &[Wait])], &[TimeLimit]));
}

#[test]
fn three_threads() {
    explore(2, contend(&[(2, &[Wait]), (3, &[Wait])], &[Wait]));
    explore(2, contend(&[(1, &[Try]), (2, &[TimeLimit])], &[Wait]));
}

#[cfg(turnstile_shuttle)]
#[test]
fn six_threads() {
    explore(
        0,
        contend(
            &[
                (1, &[Wait, Try, Wait]),
                (2, &[Wait, TimeLimit, Fair]),
                (2, &[TimeLimit, Wait]),
                (3, &[Fair, Wait, Try]),
                (4, &[Wait, Wait]),
            ],
            &[Wait, Fair, TimeLimit],
        ),
    );
}

/// Each thread holds one mutex and wants the other's: at least one of them learns that it would wait for ever, and lets go.
#[test]
fn a_cycle_is_refused_to_somebody() {
    explore(20, || {
        let both = Arc::new([fresh::<Shared>(), fresh::<Shared>()]);
        let take = |both: &[Arc<Shared>; 2], first: usize| {
            let (first, second) = (&both[first], &both[1 - first]);
            let _ = first.mutex.lock();
            let refused = match second.mutex.lock_or_deadlock() {
                Ok(_) => {
                    second.guarded.write();
                    // SAFETY: locked above.
                    unsafe { second.mutex.unlock(GuardNoSend::new()) };
                    false
                }
                Err(deadlock) => {
                    assert_eq!(deadlock.length(), 2);
                    true
                }
            };
            // SAFETY: locked above.
            unsafe { first.mutex.unlock(GuardNoSend::new()) };
            refused
        };
        let there = both.clone();
        let other = spawn(2, move || {
            take(&there, 1);
        });
        take(&both, 0);
        other.join().unwrap();
    });
}

/// The same, if one of the two has a time limit: the other one is never refused, and goes on when that one has let go.
#[test]
fn a_time_limit_on_a_cycle_gives_way() {
    explore(20, || {
        let both = Arc::new([fresh::<Shared>(), fresh::<Shared>()]);
        let there = both.clone();
        let limited = spawn(2, move || {
            let first = there[1].mutex.lock();
            there[0].use_once(TimeLimit);
            // SAFETY: locked above.
            unsafe { there[1].mutex.unlock(first) };
        });
        let first = both[0].mutex.lock();
        both[1].use_once(Wait);
        // SAFETY: locked above.
        unsafe { both[0].mutex.unlock(first) };
        limited.join().unwrap();
    });
}

/// Who queues without setting the waiters' bit is forgotten by an unlock that does not look (INV-M-2).
#[test]
fn without_the_waiters_bit_a_wake_up_is_lost() {
    noticed(Fault::NoWaitersBit, "deadlock", 2, contend(&[(2, &[Wait])], &[Wait]));
}

/// Who hands over without naming the new owner leaves the others lending to nobody (INV-M-2).
#[test]
fn without_the_claim_waiters_lend_to_nobody() {
    noticed(
        Fault::NotClaimed,
        "a waiter does not lend to the owner",
        2,
        contend(&[(2, &[Wait]), (3, &[Wait])], &[Fair]),
    );
}

/// An unlock that does not release: a race on what is protected (INV-M-1), for loom only.
#[cfg(turnstile_loom)]
#[test]
fn without_release_what_is_protected_races() {
    noticed(Fault::UnlockRelaxed, "", 2, contend(&[(2, &[Wait])], &[Wait]));
}
