//! The simulated uniprocessor: fixed priorities, preemption at every scheduling point, a clock that ticks at each.
//!
//! Threads of the host carry the simulated ones, but only the one that has the processor runs.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering::*};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use turnstile::{LendingScheduler, Priority, Scheduler, ThreadId, TimedScheduler};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Ready,
    Parked { until: Option<u64> },
    Done,
}

struct Thread {
    own: u8,
    lent: Option<u8>,
    mode: Mode,
    token: bool,
}

#[derive(Default)]
struct State {
    threads: Vec<Thread>,
    running: Option<usize>,
    clock: u64,
    stuck: bool,
}

pub(crate) struct Machine {
    state: Mutex<State>,
    switched: Condvar,
    honours_loans: bool,
}

std::thread_local! {
    static NUMBER: Cell<usize> = const { Cell::new(usize::MAX) };
}

fn name(number: usize) -> ThreadId {
    ThreadId::new(NonZeroUsize::new(number + 1).unwrap())
}

fn number(thread: ThreadId) -> usize {
    thread.get().get() - 1
}

impl Machine {
    pub(crate) fn new(honours_loans: bool) -> Self {
        Self { state: Mutex::default(), switched: Condvar::new(), honours_loans }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    fn effective(&self, thread: &Thread) -> u8 {
        let lent = thread.lent.filter(|_| self.honours_loans);
        thread.own.max(lent.unwrap_or(0))
    }

    /// Gives the processor to the most urgent ready thread, the lowest number among equals.
    fn dispatch(&self, state: &mut State) {
        loop {
            let clock = state.clock;
            for thread in &mut state.threads {
                if matches!(thread.mode, Mode::Parked { until: Some(until) } if until <= clock) {
                    thread.mode = Mode::Ready;
                }
            }
            let ready = (0..state.threads.len()).filter(|number| state.threads[*number].mode == Mode::Ready);
            state.running =
                ready.max_by_key(|number| (self.effective(&state.threads[*number]), usize::MAX - number));
            if state.running.is_some() {
                break;
            }
            let next = state.threads.iter().filter_map(|thread| match thread.mode {
                Mode::Parked { until } => until,
                _ => None,
            });
            match next.min() {
                Some(next) => state.clock = next,
                None => {
                    // Everybody is done, or parked for ever.
                    state.stuck = state.threads.iter().any(|thread| thread.mode != Mode::Done);
                    break;
                }
            }
        }
        self.switched.notify_all();
    }

    fn wait_for_processor(&self, mut state: MutexGuard<'_, State>) {
        let me = NUMBER.get();
        while state.running != Some(me) && !state.stuck {
            state = self.switched.wait(state).unwrap();
        }
        assert!(!state.stuck, "all threads are parked for ever");
    }

    pub(crate) fn now(&self) -> u64 {
        self.state().clock
    }

    /// Computes for so many ticks, at whatever priority it has.
    pub(crate) fn work(&self, ticks: u64) {
        for _ in 0..ticks {
            self.point();
        }
    }

    pub(crate) fn sleep(&self, ticks: u64) {
        let until = self.now() + ticks;
        while self.now() < until {
            self.park_until(until);
        }
    }

    pub(crate) fn set_own(&self, thread: ThreadId, own: u8) {
        self.state().threads[number(thread)].own = own;
    }

    pub(crate) fn lent(&self, thread: ThreadId) -> Option<u8> {
        self.state().threads[number(thread)].lent
    }

    pub(crate) fn nothing_is_lent(&self) -> bool {
        self.state().threads.iter().all(|thread| thread.lent.is_none())
    }

    /// Runs the bodies as threads with these priorities until all are done.
    pub(crate) fn run(&'static self, bodies: Vec<(u8, Box<dyn FnOnce() + Send>)>) {
        let threads =
            bodies.iter().map(|(own, _)| Thread { own: *own, lent: None, mode: Mode::Ready, token: false });
        self.state().threads = threads.collect();
        let carriers: Vec<_> = bodies
            .into_iter()
            .enumerate()
            .map(|(number, (_, body))| {
                let machine = self;
                std::thread::spawn(move || {
                    NUMBER.set(number);
                    machine.wait_for_processor(machine.state());
                    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
                    let mut state = machine.state();
                    state.threads[number].mode = Mode::Done;
                    state.stuck |= result.is_err();
                    machine.dispatch(&mut state);
                    drop(state);
                    if let Err(panic) = result {
                        std::panic::resume_unwind(panic);
                    }
                })
            })
            .collect();
        self.dispatch(&mut self.state());
        for carrier in carriers {
            carrier.join().unwrap();
        }
    }
}

/// On one processor that is not taken away under it, this lock is never contended (INV-L-7).
pub(crate) struct Uncontended(AtomicBool);

// SAFETY: it excludes by refusing.
unsafe impl lock_api::RawMutex for Uncontended {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = lock_api::GuardNoSend;

    fn lock(&self) -> Self::Guard {
        self.try_lock().expect("no scheduling point under the table's lock")
    }

    fn try_lock(&self) -> Option<Self::Guard> {
        (!self.0.swap(true, Acquire)).then(lock_api::GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: Self::Guard) {
        self.0.store(false, Release);
    }

    fn is_locked(&self) -> bool {
        self.0.load(Relaxed)
    }
}

// SAFETY: numbers are given by `run`; tokens are kept under the state's mutex; nothing calls a table. Only `park` and points
// that follow a failure unwind.
unsafe impl Scheduler for Machine {
    type RawLock = Uncontended;

    fn current(&self) -> ThreadId {
        name(NUMBER.get())
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        Priority::new(self.effective(&self.state().threads[number(thread)]))
    }

    fn park(&self) {
        self.park_until(u64::MAX);
    }

    fn unpark(&self, thread: ThreadId) {
        let mut state = self.state();
        let thread = &mut state.threads[number(thread)];
        thread.token = true;
        if matches!(thread.mode, Mode::Parked { .. }) {
            thread.mode = Mode::Ready;
        }
    }

    fn point(&self) {
        let mut state = self.state();
        state.clock += 1;
        self.dispatch(&mut state);
        self.wait_for_processor(state);
    }
}

// SAFETY: as above.
unsafe impl LendingScheduler for Machine {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        Priority::new(self.state().threads[number(thread)].own)
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        self.state().threads[number(thread)].lent = Some(priority.level());
    }

    fn unlend(&self, thread: ThreadId) {
        self.state().threads[number(thread)].lent = None;
    }
}

// SAFETY: as above.
unsafe impl TimedScheduler for Machine {
    type Instant = u64;
    type Duration = u64;

    fn after(&self, duration: u64) -> Option<u64> {
        self.now().checked_add(duration)
    }

    fn is_past(&self, deadline: u64) -> bool {
        self.now() >= deadline
    }

    fn park_until(&self, deadline: u64) {
        let me = NUMBER.get();
        let mut state = self.state();
        if !std::mem::take(&mut state.threads[me].token) {
            state.threads[me].mode = Mode::Parked { until: (deadline != u64::MAX).then_some(deadline) };
            self.dispatch(&mut state);
            self.wait_for_processor(state);
            self.state().threads[me].token = false;
        }
    }
}

/// Fails instead of hanging.
pub(crate) fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (done, finished) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    if finished.recv_timeout(limit) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
        panic!("still running after {limit:?}");
    }
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}
