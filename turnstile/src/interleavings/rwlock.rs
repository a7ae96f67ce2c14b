//! `RawPiRwLock`: exclusion, no lost wake-up, and the slots: every reader inside is lent to while a writer waits (INV-W-2), and every
//! hold is released exactly once (INV-W-3, which `execution` checks at its end).

use lock_api::{RawRwLock as _, RawRwLockDowngrade as _, RawRwLockTimed as _};

use super::scheduler::Checked;
use super::{Fault, Guarded, Subject, contend_for, explore, noticed};
use crate::{LockScheduler as _, Queue, RawPiRwLock, Scheduler as _, Share};

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
    Downgrade,
}

use Way::{Downgrade, Read, ReadInTime, TryRead, TryWrite, Write, WriteInTime};

impl Shared {
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

    /// Reads, and leaves.
    fn leave(&self, share: Share) {
        self.guarded.read();
        self.a_writer_lends_to_me();
        // SAFETY: the share is this thread's.
        unsafe { self.lock.unlock_shared(share) };
    }
}

impl Subject for Shared {
    type Way = Way;

    const LAST: Way = Way::Write;

    fn new() -> Self {
        Self { lock: RawPiRwLock::INIT, guarded: Guarded::default() }
    }

    fn is_locked(&self) -> bool {
        self.lock.is_locked()
    }

    fn use_once(&self, way: Way) {
        let share = match way {
            Read => Some(self.lock.lock_shared()),
            TryRead => self.lock.try_lock_shared(),
            ReadInTime => self.lock.try_lock_shared_for(()),
            Write | TryWrite | WriteInTime | Downgrade => None,
        };
        if let Some(share) = share {
            return self.leave(share);
        }
        let guard = match way {
            Write | Downgrade => Some(self.lock.lock_exclusive()),
            TryWrite => self.lock.try_lock_exclusive(),
            WriteInTime => self.lock.try_lock_exclusive_for(()),
            Read | TryRead | ReadInTime => None,
        };
        if let Some(guard) = guard {
            self.guarded.write();
            if matches!(way, Downgrade) {
                // SAFETY: locked above, by this thread.
                let share = unsafe { self.lock.downgrade(guard) };
                self.leave(share);
            } else {
                // SAFETY: locked above, by this thread.
                unsafe { self.lock.unlock_exclusive(guard) };
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
fn a_writer_becomes_a_reader() {
    explore(20, contend(&[(2, &[Read])], &[Downgrade]));
    explore(20, contend(&[(2, &[Write])], &[Downgrade]));
    explore(2, contend(&[(2, &[Write]), (3, &[Read])], &[Downgrade]));
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
                (4, &[Downgrade, Write]),
            ],
            &[Read, WriteInTime, Downgrade],
        ),
    );
}

/// A reader that writes its slot only after it has entered is missed by a writer that looks in between (INV-W-2).
#[test]
fn a_slot_that_is_written_late_is_missed() {
    noticed(Fault::SlotLate, "does not lend to a reader inside", 2, contend(&[(2, &[Write])], &[Read]));
}

/// A slot that is read and then cleared loses the mark that a writer sets in between (one that waits for the other reader), and the hold
/// stays for ever (INV-W-3).
#[test]
fn a_slot_that_is_cleared_in_two_steps_keeps_its_hold() {
    noticed(Fault::ClearedInTwoSteps, " is left ", 2, contend(&[(2, &[Write]), (3, &[Read])], &[Read]));
}
