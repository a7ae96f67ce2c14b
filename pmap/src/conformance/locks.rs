//! The machine's raw locks exclude.

use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use lock_api::{Mutex, RwLock};

use super::meeting::{Meeting, Over};
use super::rule::Rule;
use super::suite::Suite;
use crate::machine::Machine;

/// How often each thread takes each lock.
const ROUNDS: u64 = 500;
/// How long the holder of a lock waits for somebody to come in, in turns of `relax`.
const TURNS: usize = 1 << 12;

/// Two numbers that are equal whenever nobody writes them. Atomics, so that a lock that does not exclude is found, and nothing worse.
#[derive(Default)]
struct Pair(AtomicU64, AtomicU64);

impl Pair {
    /// Counts both on, and gives others time to come in between.
    fn count<M: Machine>(&self, machine: &M) {
        // ORD: Relaxed, here and below; the lock under test orders them.
        let next = self.0.load(Ordering::Relaxed) + 1;
        self.0.store(next, Ordering::Relaxed);
        machine.point();
        (0..16).for_each(|_| core::hint::spin_loop());
        self.1.store(next, Ordering::Relaxed); // ORD: as above
    }

    fn is_whole<M: Machine>(&self, machine: &M) -> bool {
        // ORD: Relaxed, as in `count`.
        let first = self.0.load(Ordering::Relaxed);
        machine.point();
        self.1.load(Ordering::Relaxed) == first // ORD: as above
    }

    fn counts_to(&self, number: u64) -> bool {
        // ORD: Relaxed; after a meeting.
        self.0.load(Ordering::Relaxed) == number
    }
}

pub(super) struct Locks<M: Machine> {
    /// Threads that are about to take a lock which is held, and those that have got it.
    coming: AtomicUsize,
    inside: AtomicUsize,
    mutex: Mutex<M::RawMutex, Pair>,
    rw_lock: RwLock<M::RawRwLock, Pair>,
}

impl<M: Machine> Locks<M> {
    pub(super) fn new() -> Self {
        Self {
            coming: AtomicUsize::new(0),
            inside: AtomicUsize::new(0),
            mutex: Mutex::new(Pair::default()),
            rw_lock: RwLock::new(Pair::default()),
        }
    }

    pub(super) fn check(&self, suite: &Suite<'_, M>, seat: usize, round: &mut usize) -> Result<(), Over> {
        let machine = suite.system.machine();
        let (meeting, count) = (&suite.meeting, machine.cpu_count());
        let is = |so: bool, rule| if so { Ok(()) } else { Err(meeting.found(rule, None)) };
        self.contend(machine, meeting, seat)?;
        meeting.meet(machine, round, count)?;
        let total = ROUNDS * count as u64;
        is(self.mutex.lock().counts_to(total), Rule::MutexExcludes)?;
        is(self.rw_lock.read().counts_to(total), Rule::RwLockExcludes)?;
        meeting.meet(machine, round, count)?;
        self.wait_while_held(machine, meeting, round, seat)?;
        self.try_while_held(machine, meeting, round, seat)
    }

    /// The first thread holds the locks in every way in turn, and the others want them: nobody comes in before it lets go.
    fn wait_while_held(
        &self,
        machine: &M,
        meeting: &Meeting,
        round: &mut usize,
        seat: usize,
    ) -> Result<(), Over> {
        let count = machine.cpu_count();
        for number in 0..3 {
            let rule = if number == 0 { Rule::MutexExcludes } else { Rule::RwLockExcludes };
            meeting.meet(machine, round, count)?;
            if seat == 0 {
                let mutex = (number == 0).then(|| self.mutex.lock());
                let write = (number == 1).then(|| self.rw_lock.write());
                let read = (number == 2).then(|| self.rw_lock.read());
                meeting.meet(machine, round, count)?;
                // ORD: Acquire, here and below; pairs with the Release of who comes.
                let has_come = || self.coming.load(Ordering::Acquire) == (number + 1) * (count - 1);
                meeting.until(|| machine.relax(), has_come)?;
                let is_free = || self.inside.load(Ordering::Acquire) == number * (count - 1); // ORD: as above
                let waits = (0..TURNS).all(|_| {
                    machine.relax();
                    is_free()
                });
                drop((mutex, write, read));
                if !waits {
                    return Err(meeting.found(rule, None));
                }
            } else {
                meeting.meet(machine, round, count)?;
                // ORD: Release pairs with the Acquire above; so does the other one.
                self.coming.fetch_add(1, Ordering::Release);
                let mutex = (number == 0).then(|| self.mutex.lock());
                let read = (number == 1 && seat.is_multiple_of(2)).then(|| self.rw_lock.read());
                let write = (number != 0 && read.is_none()).then(|| self.rw_lock.write());
                self.inside.fetch_add(1, Ordering::Release); // ORD: as above
                drop((mutex, read, write));
            }
        }
        meeting.meet(machine, round, count)
    }

    /// All threads count under the locks.
    fn contend(&self, machine: &M, meeting: &Meeting, seat: usize) -> Result<(), Over> {
        for turn in 0..ROUNDS {
            let guard = self.mutex.lock();
            if !guard.is_whole(machine) {
                return Err(meeting.found(Rule::MutexExcludes, None));
            }
            guard.count(machine);
            drop(guard);
            self.rw_lock.write().count(machine);
            if (turn + seat as u64).is_multiple_of(2) && !self.rw_lock.read().is_whole(machine) {
                return Err(meeting.found(Rule::RwLockExcludes, None));
            }
            if meeting.broken().is_some() {
                return Err(Over);
            }
        }
        Ok(())
    }

    /// The first thread holds the locks in every way in turn, and the others try them.
    fn try_while_held(
        &self,
        machine: &M,
        meeting: &Meeting,
        round: &mut usize,
        seat: usize,
    ) -> Result<(), Over> {
        let count = machine.cpu_count();
        let mut meet = || meeting.meet(machine, round, count);
        let tries: [&dyn Fn() -> Option<Rule>; 3] = [
            &|| self.mutex.try_lock().map(|_| Rule::MutexTryLock),
            &|| {
                let reads = self.rw_lock.try_read().is_some();
                (reads || self.rw_lock.try_write().is_some()).then_some(Rule::RwLockTryLock)
            },
            &|| self.rw_lock.try_write().map(|_| Rule::RwLockTryLock),
        ];
        for (number, tried) in tries.into_iter().enumerate() {
            let mutex = (seat == 0 && number == 0).then(|| self.mutex.lock());
            let write = (seat == 0 && number == 1).then(|| self.rw_lock.write());
            let read = (seat == 0 && number == 2).then(|| self.rw_lock.read());
            meet()?;
            if seat != 0
                && let Some(rule) = tried()
            {
                return Err(meeting.found(rule, None));
            }
            meet()?;
            drop((mutex, write, read));
            meet()?;
        }
        Ok(())
    }
}
