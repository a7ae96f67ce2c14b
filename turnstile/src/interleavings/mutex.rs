//! `RawPiMutex`: exclusion, no lost wake-up, lending to each owner in turn, time limits, cycles (INV-M-1 to INV-M-4).

use std::sync::Arc;
use std::vec::Vec;

use lock_api::{GuardNoSend, RawMutex as _, RawMutexFair as _, RawMutexTimed as _};

use super::scheduler::{Checked, spawn};
use super::{Fault, Guarded, explore, found};
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

impl Shared {
    fn new() -> Arc<Self> {
        let shared = Self { mutex: RawPiMutex::INIT, guarded: Guarded::default() };
        // Makes the word, which loom wants done before threads use it.
        assert!(!shared.mutex.is_locked());
        Arc::new(shared)
    }

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

    fn use_once(&self, way: Way) {
        let entered = match way {
            Way::Wait | Way::Fair => Some(self.mutex.lock()),
            Way::Try => self.mutex.try_lock(),
            Way::TimeLimit => self.mutex.try_lock_for(()),
        };
        if entered.is_none() {
            return;
        }
        self.guarded.write();
        self.waiters_lend_to_me();
        // SAFETY: locked above, by this thread.
        unsafe {
            match way {
                Way::Fair => self.mutex.unlock_fair(GuardNoSend::new()),
                _ => self.mutex.unlock(GuardNoSend::new()),
            }
        }
    }
}

/// Threads of these priorities, the first being the main one of priority 1, each with its ways in.
fn contend(
    threads: &'static [(u8, &'static [Way])],
    mine: &'static [Way],
) -> impl Fn() + Send + Sync + 'static {
    move || {
        let shared = Shared::new();
        let others: Vec<_> = threads
            .iter()
            .map(|(own, ways)| {
                let shared = shared.clone();
                spawn(*own, move || ways.iter().for_each(|way| shared.use_once(*way)))
            })
            .collect();
        mine.iter().for_each(|way| shared.use_once(*way));
        others.into_iter().for_each(|other| other.join().unwrap());
        assert!(!shared.mutex.is_locked(), "nobody is inside any more");
        // A bit that is left over costs the next one a way through the table, and goes.
        shared.use_once(Way::Wait);
    }
}

use Way::{Fair, TimeLimit, Try, Wait};

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
        let both = Arc::new([Shared::new(), Shared::new()]);
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

/// Who queues without setting the waiters' bit is forgotten by an unlock that does not look (INV-M-2).
#[test]
fn without_the_waiters_bit_a_wake_up_is_lost() {
    assert!(found(Fault::NoWaitersBit, 2, contend(&[(2, &[Wait])], &[Wait])));
}

/// Who hands over without naming the new owner leaves the others lending to nobody (INV-M-2).
#[test]
fn without_the_claim_waiters_lend_to_nobody() {
    assert!(found(Fault::NotClaimed, 2, contend(&[(2, &[Wait]), (3, &[Wait])], &[Fair])));
}

/// An unlock that does not release: a race on what is protected (INV-M-1), for loom only.
#[cfg(turnstile_loom)]
#[test]
fn without_release_what_is_protected_races() {
    assert!(found(Fault::UnlockRelaxed, 2, contend(&[(2, &[Wait])], &[Wait])));
}
