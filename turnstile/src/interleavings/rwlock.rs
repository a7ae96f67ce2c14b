//! `RawPiRwLock`: exclusion, no lost wake-up, and the slots: every reader inside is lent to while a writer waits (INV-W-2), and every
//! hold is released exactly once (INV-W-3, which `execution` checks at its end).

use std::sync::Arc;
use std::vec::Vec;

use lock_api::{RawRwLock as _, RawRwLockTimed as _};

use super::scheduler::{Checked, spawn};
use super::{Fault, Guarded, explore, found};
use crate::{LockScheduler as _, Queue, RawPiRwLock, Scheduler as _};

struct Shared {
    lock: RawPiRwLock<Checked>,
    guarded: Guarded,
}

#[derive(Clone, Copy)]
enum Way {
    Read,
    TryRead,
    ReadInTime,
    Write,
    TryWrite,
    WriteInTime,
}

use Way::{Read, ReadInTime, TryRead, TryWrite, Write, WriteInTime};

impl Shared {
    fn new() -> Arc<Self> {
        let shared = Self { lock: RawPiRwLock::INIT, guarded: Guarded::default() };
        // Makes the word, which loom wants done before threads use it.
        assert!(!shared.lock.is_locked());
        Arc::new(shared)
    }

    /// A writer that waits lends to this thread, which is inside (INV-W-2).
    fn a_writer_lends_to_me(&self) {
        let first = Checked::table().locked(|table| {
            let first = table.first(self.lock.address(), Queue::Exclusive)?;
            Some((first.priority, Checked.priority(Checked.current())))
        });
        if let Some((writer, mine)) = first {
            assert!(mine >= writer, "the writer does not lend to a reader inside");
        }
    }

    fn use_once(&self, way: Way) {
        let share = match way {
            Read => Some(self.lock.lock_shared()),
            TryRead => self.lock.try_lock_shared(),
            ReadInTime => self.lock.try_lock_shared_for(()),
            Write | TryWrite | WriteInTime => None,
        };
        if let Some(share) = share {
            self.guarded.read();
            self.a_writer_lends_to_me();
            // SAFETY: locked above, by this thread.
            return unsafe { self.lock.unlock_shared(share) };
        }
        let guard = match way {
            Write => Some(self.lock.lock_exclusive()),
            TryWrite => self.lock.try_lock_exclusive(),
            WriteInTime => self.lock.try_lock_exclusive_for(()),
            Read | TryRead | ReadInTime => None,
        };
        if let Some(guard) = guard {
            self.guarded.write();
            // SAFETY: locked above, by this thread.
            unsafe { self.lock.unlock_exclusive(guard) };
        }
    }
}

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
        assert!(!shared.lock.is_locked(), "nobody is inside any more");
        shared.use_once(Write);
    }
}

#[test]
fn a_reader_and_a_writer() {
    explore(20, contend(&[(2, &[Write])], &[Read]));
    explore(20, contend(&[(2, &[Read])], &[Write]));
}

#[test]
fn a_time_limit_against_a_hand_over() {
    explore(20, contend(&[(2, &[WriteInTime])], &[Read]));
    explore(20, contend(&[(2, &[ReadInTime])], &[Write]));
}

#[test]
fn two_readers_and_a_writer() {
    explore(2, contend(&[(2, &[Write]), (3, &[Read])], &[Read]));
    explore(2, contend(&[(2, &[TryWrite]), (3, &[TryRead])], &[Read]));
}

#[cfg(turnstile_shuttle)]
#[test]
fn six_threads() {
    explore(
        0,
        contend(
            &[
                (1, &[Read, TryWrite, Write]),
                (2, &[Read, ReadInTime, Read]),
                (2, &[Write, Read]),
                (3, &[WriteInTime, TryRead, Read]),
                (4, &[Read, Write]),
            ],
            &[Read, WriteInTime, Read],
        ),
    );
}

/// A reader that writes its slot only after it has entered is missed by a writer that looks in between (INV-W-2).
#[test]
fn a_slot_that_is_written_late_is_missed() {
    assert!(found(Fault::SlotLate, 2, contend(&[(2, &[Write])], &[Read])));
}

/// A slot that is read and then cleared loses the mark that a writer sets in between (one that waits for the other reader), and the hold
/// stays for ever (INV-W-3).
#[test]
fn a_slot_that_is_cleared_in_two_steps_keeps_its_hold() {
    assert!(found(Fault::ClearedInTwoSteps, 2, contend(&[(2, &[Write]), (3, &[Read])], &[Read])));
}
