//! A scheduler that decides, from a seed or from a string of bytes, which thread runs: one at a time, switching at scheduling
//! points. The library's own tests, the property tests and the fuzz target share it.
//!
//! Threads are real, but only the one that holds the baton runs. At every [`Scheduler::point`] and in every park the
//! baton may go to another; which one, and how eagerly, the seed or the bytes decide, so a run repeats. Time is the number of points
//! that all threads have passed, and runs ahead to the next deadline when all are parked. If all threads that are left are parked for
//! good, they are stuck: they are unwound, and the run says so.
//!
//! What this cannot see: reorderings of a weak memory model (the baton orders everything), and switches between two
//! points, which includes all that happens under the table's lock but for what the library's own tests see of lending.

mod lock;

use core::cell::Cell;
use core::num::NonZeroUsize;
use std::boxed::Box;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread_local;
use std::vec::Vec;

use turnstile::{Hosted, LendingScheduler, PiTurnstiles, Priority, Scheduler, ThreadId, TimedScheduler};

use self::lock::StepLock;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Status {
    Runnable,
    Parked,
    /// Waits for the lock at this address.
    Blocked(usize),
    /// Stopped by the test, until all others are done or stuck.
    Frozen,
    Done,
}

/// Where decisions come from.
enum Choices {
    Seed {
        random: u64,
        /// The baton goes to a random thread at one in so many points.
        eagerness: u64,
    },
    /// Each byte is one decision, large ones for a switch. When they have run out, each thread runs as far as it can.
    Bytes { bytes: Vec<u8>, at: usize },
}

impl Choices {
    /// The next number of a xorshift generator (Marsaglia, "Xorshift RNGs", 2003), or the next byte.
    fn next(&mut self) -> Option<u64> {
        match self {
            Self::Seed { random, .. } => {
                *random ^= *random << 13;
                *random ^= *random >> 7;
                *random ^= *random << 17;
                Some(random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11)
            }
            Self::Bytes { bytes, at } => {
                let byte = bytes.get(*at).copied().map(u64::from);
                *at += 1;
                byte
            }
        }
    }

    /// Whether to switch at this point.
    fn switches(&mut self) -> bool {
        let next = self.next();
        match self {
            Self::Seed { eagerness, .. } => next.is_some_and(|next| next.is_multiple_of(*eagerness)),
            Self::Bytes { .. } => next.is_some_and(|next| next >= 160),
        }
    }

    /// One of so many.
    fn choose(&mut self, of: usize) -> usize {
        self.next().unwrap_or(0) as usize % of
    }
}

struct State {
    choices: Choices,
    status: Vec<Status>,
    tokens: Vec<bool>,
    /// Each thread's own priority, and what is lent to it.
    own: Vec<Priority>,
    loans: Vec<Option<Priority>>,
    /// Who is no member of a domain, and whether such a thread was lent to.
    strangers: Vec<bool>,
    lent_to_strangers: bool,
    /// Until when each parked thread stays so at most.
    deadlines: Vec<Option<u64>>,
    points: Vec<u64>,
    /// Points passed by all threads, and time that passed while all were parked.
    clock: u64,
    running: Option<usize>,
    /// The thread that is to be frozen, and at which of its points.
    freeze: Option<(usize, u64)>,
    outcome: Outcome,
    /// Threads run freely, to unwind or to end.
    over: bool,
}

/// How a run ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Outcome {
    /// All that were left were parked.
    pub(super) stuck: bool,
    /// The thread that was to be frozen reached its point.
    pub(super) frozen: bool,
    /// All but the frozen thread were done or parked, and at least one was parked.
    pub(super) stuck_behind_frozen: bool,
}

/// The one table of a run's threads.
pub(super) type Table = PiTurnstiles<Arc<Steps>>;

/// A thread's place in a run's lists; beyond them for one from outside.
fn number(thread: ThreadId) -> usize {
    thread.get().get() - 1
}

/// The scheduler of one run.
pub(super) struct Steps {
    state: Mutex<State>,
    turn: Condvar,
    /// What has to hold at every point: called by the thread that holds the baton.
    check: OnceLock<Box<dyn Fn() + Send + Sync>>,
}

/// More points than any run has whose threads get through.
const ENDLESS: u64 = 1_000_000;

/// What a stuck thread unwinds with.
struct Stuck;

thread_local! {
    /// The current thread's number in its run, or none outside of a run.
    static NUMBER: Cell<Option<usize>> = const { Cell::new(None) };
}

impl State {
    /// Lets those run whose deadline has come.
    fn expire(&mut self) {
        for (status, deadline) in self.status.iter_mut().zip(&self.deadlines) {
            if *status == Status::Parked && deadline.is_some_and(|deadline| deadline <= self.clock) {
                *status = Status::Runnable;
            }
        }
    }

    /// Gives the baton to one of the runnable threads, or ends the run if there is none.
    fn pass(&mut self) {
        if !self.status.contains(&Status::Runnable)
            && let Some(next) = self.deadlines.iter().flatten().min()
        {
            self.clock = self.clock.max(*next);
            self.expire();
        }
        let runnable: Vec<_> =
            (0..self.status.len()).filter(|&thread| self.status[thread] == Status::Runnable).collect();
        let parked = self.status.contains(&Status::Parked);
        if !runnable.is_empty() {
            let choice = self.choices.choose(runnable.len());
            self.running = Some(runnable[choice]);
        } else if let Some(frozen) = self.status.iter().position(|&status| status == Status::Frozen) {
            self.outcome.stuck_behind_frozen = parked;
            self.status[frozen] = Status::Runnable;
            self.running = Some(frozen);
        } else {
            self.outcome.stuck |= parked;
            self.over = true;
            self.running = None;
        }
    }
}

impl Steps {
    /// A scheduler for `threads` threads; every decision follows from `seed`.
    pub(super) fn new(seed: u64, threads: usize) -> Arc<Self> {
        let mut choices = Choices::Seed {
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            eagerness: [2, 3, 6, 12][(seed % 4) as usize],
        };
        for _ in 0..4 {
            choices.next();
        }
        Self::with_choices(choices, threads)
    }

    /// A scheduler for `threads` threads; each decision is one of the bytes.
    pub(super) fn of_bytes(bytes: &[u8], threads: usize) -> Arc<Self> {
        Self::with_choices(Choices::Bytes { bytes: bytes.to_vec(), at: 0 }, threads)
    }

    fn with_choices(choices: Choices, threads: usize) -> Arc<Self> {
        let state = State {
            choices,
            status: std::vec![Status::Runnable; threads],
            tokens: std::vec![false; threads],
            own: std::vec![Priority::NORMAL; threads],
            loans: std::vec![None; threads],
            strangers: std::vec![false; threads],
            lent_to_strangers: false,
            deadlines: std::vec![None; threads],
            points: std::vec![0; threads],
            clock: 0,
            running: None,
            freeze: None,
            outcome: Outcome::default(),
            over: false,
        };
        Arc::new(Self { state: Mutex::new(state), turn: Condvar::new(), check: OnceLock::new() })
    }

    /// From now on `check` is called at every point.
    pub(super) fn check_at_points(&self, check: impl Fn() + Send + Sync + 'static) {
        assert!(self.check.set(Box::new(check)).is_ok(), "set once");
    }

    /// Gives a thread a priority of its own other than the normal one.
    pub(super) fn set_own_priority(&self, thread: usize, priority: Priority) {
        self.lock().own[thread] = priority;
    }

    /// What is lent to a thread.
    pub(super) fn loan(&self, thread: usize) -> Option<Priority> {
        self.lock().loans[thread]
    }

    /// Says whether a thread is a member of no domain at the moment, and must not be lent to.
    pub(super) fn set_stranger(&self, thread: usize, stranger: bool) {
        self.lock().strangers[thread] = stranger;
    }

    /// Whether a thread was lent to that was no member.
    pub(super) fn lent_to_strangers(&self) -> bool {
        self.lock().lent_to_strangers
    }

    /// Lets others run until the lock at address `key` may be free.
    fn block(&self, key: usize) {
        let mut state = self.lock();
        match NUMBER.get() {
            Some(number) if !state.over => {
                state.status[number] = Status::Blocked(key);
                state.pass();
                self.turn.notify_all();
                state = self.await_turn(state, number);
                state.status[number] = Status::Runnable;
            }
            _ => {
                drop(state);
                std::thread::yield_now();
            }
        }
    }

    /// Lets those run who wait for the lock at address `key`.
    fn unblock(&self, key: usize) {
        for status in &mut self.lock().status {
            if *status == Status::Blocked(key) {
                *status = Status::Runnable;
            }
        }
    }

    /// Freezes `thread` at its `point`-th scheduling point, until all others are done or stuck.
    pub(super) fn freeze(&self, thread: usize, point: u64) {
        self.lock().freeze = Some((thread, point));
    }

    /// Whether the thread that is to be frozen has reached its point.
    pub(super) fn has_frozen(&self) -> bool {
        self.lock().outcome.frozen
    }

    /// How many scheduling points `thread` has passed.
    pub(super) fn points(&self, thread: usize) -> u64 {
        self.lock().points[thread]
    }

    /// A table for this scheduler's threads, which is a scheduler for domains.
    pub(super) fn table(self: &Arc<Self>) -> Arc<Table> {
        Arc::new(PiTurnstiles::new(Arc::clone(self)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the baton.
    fn await_turn<'a>(&'a self, mut state: MutexGuard<'a, State>, number: usize) -> MutexGuard<'a, State> {
        while state.running != Some(number) && !state.over {
            state = self.turn.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state
    }

    /// Parks a thread, until the deadline at most.
    fn sleep(&self, number: usize, deadline: Option<u64>) {
        let mut state = self.lock();
        if !core::mem::take(&mut state.tokens[number]) && !state.over {
            state.status[number] = Status::Parked;
            state.deadlines[number] = deadline;
            state.expire();
            state.pass();
            self.turn.notify_all();
            state = self.await_turn(state, number);
            state.status[number] = Status::Runnable;
            state.deadlines[number] = None;
            state.tokens[number] = false;
        }
        if state.over {
            drop(state);
            std::panic::resume_unwind(Box::new(Stuck));
        }
    }

    /// Runs the bodies, one thread each, to their ends.
    pub(super) fn run(self: &Arc<Self>, bodies: Vec<Box<dyn FnOnce() + Send>>) -> Outcome {
        let threads: Vec<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(number, body)| {
                let steps = Arc::clone(self);
                std::thread::spawn(move || {
                    NUMBER.set(Some(number));
                    lock::enter(&steps);
                    drop(steps.await_turn(steps.lock(), number));
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                    let mut state = steps.lock();
                    state.status[number] = Status::Done;
                    if result.as_ref().is_err_and(|panic| !panic.is::<Stuck>()) {
                        // A failed assertion: let the others unwind.
                        state.over = true;
                    } else if !state.over {
                        state.pass();
                    }
                    steps.turn.notify_all();
                    drop(state);
                    result
                })
            })
            .collect();
        self.lock().pass();
        self.turn.notify_all();
        for thread in threads {
            if let Ok(Err(panic)) = thread.join()
                && !panic.is::<Stuck>()
            {
                std::panic::resume_unwind(panic);
            }
        }
        self.lock().outcome
    }
}

// SAFETY: numbers are given once each, by `run`; threads outside of a run have the ids of `Hosted`, shifted beyond all
// numbers. `StepLock` excludes. Nothing calls a table, and only `park` unwinds.
unsafe impl Scheduler for Steps {
    type RawLock = StepLock;

    fn current(&self) -> ThreadId {
        match NUMBER.get() {
            Some(number) => ThreadId::new(NonZeroUsize::MIN.saturating_add(number)),
            None => ThreadId::new(Hosted.current().get().saturating_add(1 << 20)),
        }
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        let lent = self.lock().loans.get(number(thread)).copied().flatten();
        lent.map_or(self.own_priority(thread), |lent| lent.max(self.own_priority(thread)))
    }

    fn park(&self) {
        match NUMBER.get() {
            Some(number) => self.sleep(number, None),
            None => Hosted.park(),
        }
    }

    fn unpark(&self, thread: ThreadId) {
        let number = number(thread);
        let mut state = self.lock();
        if number < state.status.len() {
            state.tokens[number] = true;
            if state.status[number] == Status::Parked {
                state.status[number] = Status::Runnable;
            }
        }
    }

    fn point(&self) {
        let Some(number) = NUMBER.get() else { return };
        // A thread that unwinds has failed already, and drops what it had on its way.
        if std::thread::panicking() {
            return;
        }
        if let Some(check) = self.check.get()
            && !self.lock().over
        {
            check();
        }
        let mut state = self.lock();
        if state.over {
            return;
        }
        state.points[number] += 1;
        state.clock += 1;
        assert!(state.clock < ENDLESS, "thread {number} does not get through");
        state.expire();
        if state.freeze == Some((number, state.points[number])) {
            state.outcome.frozen = true;
            state.status[number] = Status::Frozen;
        } else if !state.choices.switches() {
            return;
        }
        state.pass();
        if state.running != Some(number) {
            self.turn.notify_all();
            drop(self.await_turn(state, number));
        }
    }
}

// SAFETY: keeps numbers, under a lock that is held for no longer than that.
unsafe impl LendingScheduler for Steps {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        self.lock().own.get(number(thread)).copied().unwrap_or_default()
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        let mut state = self.lock();
        let number = number(thread);
        if number < state.loans.len() {
            state.loans[number] = Some(priority);
            state.lent_to_strangers |= state.strangers[number];
        }
    }

    fn unlend(&self, thread: ThreadId) {
        if let Some(loan) = self.lock().loans.get_mut(number(thread)) {
            *loan = None;
        }
    }
}

// SAFETY: a deadline is a number of the clock, which only rises.
unsafe impl TimedScheduler for Steps {
    type Instant = u64;
    type Duration = u64;

    fn after(&self, duration: u64) -> Option<u64> {
        self.lock().clock.checked_add(duration)
    }

    fn is_past(&self, deadline: u64) -> bool {
        self.lock().clock >= deadline
    }

    fn park_until(&self, deadline: u64) {
        match NUMBER.get() {
            Some(number) => self.sleep(number, Some(deadline)),
            None => Hosted.park(),
        }
    }
}
