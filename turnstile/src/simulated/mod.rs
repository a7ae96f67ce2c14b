//! A simulated machine for deterministic tests: one processor, threads with fixed priorities, and a clock of its own.
//!
//! Its threads are coroutines on one thread of the host. The processor changes hands at [scheduling points](crate::Scheduler::point)
//! and where a thread parks, and nowhere else, so a run depends on nothing but the program and on who is chosen there: it can be repeated,
//! recorded, and shrunk. Time is counted in ticks: one passes at each scheduling point, and when everybody sleeps the clock
//! jumps to the first deadline.
//!
//! [`Machine::run`] chooses as a real-time system does, the most urgent first. [`Machine::run_with`] leaves the choice to
//! a closure (a seeded generator, say), [`Machine::resume`] to whoever calls it.
//!
//! What it cannot show: races between processors, and weak memory.

mod lock;
mod scheduler;

use core::cell::{Cell, RefCell, RefMut};
use core::fmt;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use std::rc::Rc;
use std::thread_local;
use std::vec::Vec;

use corosensei::{Coroutine, CoroutineResult, Yielder};

pub use self::lock::RawUncontendedMutex;
use crate::{Priority, ThreadId};

/// What a thread of a [`Machine`] is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It runs, or would if it were chosen.
    Ready,
    /// It waits for its token, or for a tick of the clock.
    Parked {
        /// When it gives up, if ever.
        until: Option<u64>,
    },
    /// Its body has returned or panicked.
    Done,
}

/// Nobody could run any more, and these threads were not done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stuck {
    /// Parked for ever.
    pub threads: Vec<ThreadId>,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("parked for ever: threads")?;
        self.threads.iter().try_for_each(|thread| write!(f, " {}", thread.get()))
    }
}

impl core::error::Error for Stuck {}

/// Where a thread's body finds the way back to the machine once it runs.
type WayBack = Rc<Cell<Option<NonNull<Yielder<(), ()>>>>>;

struct Thread {
    own: Priority,
    loan: Option<Priority>,
    state: State,
    token: bool,
    /// When it became ready: first come, first served among equals.
    ready_since: u64,
    way_back: WayBack,
    /// Nothing while it runs, and once it is done.
    body: Option<Coroutine<(), (), ()>>,
}

#[derive(Default)]
struct Inside {
    threads: Vec<Thread>,
    running: Option<usize>,
    clock: u64,
    /// How often a thread became ready.
    readied: u64,
}

/// A processor and its threads; see the [module](self).
///
/// Shared with the tables that schedule on it as a reference or an `Arc`. It belongs to the thread of the host that made it, and
/// panics on any other.
///
/// ```
/// use std::sync::Arc;
/// use turnstile::simulated::Machine;
/// use turnstile::{Address, Decision, PiTurnstiles, Priority, Queue};
///
/// let machine = Arc::new(Machine::new());
/// let table = Arc::new(PiTurnstiles::<_, 4>::new(machine.clone()));
/// let here = Address::new(0x1000);
///
/// let low = machine.spawn(Priority::new(1), {
///     let (machine, table) = (machine.clone(), table.clone());
///     move || {
///         machine.sleep(10);
///         // By now the other thread waits, and lends.
///         assert_eq!(machine.loan(turnstile::Scheduler::current(&*machine)), Some(Priority::new(9)));
///         table.wake_all(here, Queue::Exclusive);
///     }
/// });
/// machine.spawn(Priority::new(9), {
///     let table = table.clone();
///     move || drop(table.block(here, Queue::Exclusive, 0, |_| Decision::WaitFor(low)))
/// });
/// assert_eq!(machine.run(), Ok(()));
/// assert_eq!(machine.loan(low), None);
/// ```
pub struct Machine {
    home: std::thread::ThreadId,
    honours_loans: bool,
    inside: RefCell<Inside>,
}

// SAFETY: all that is not constant is reached through `inside()`, which panics on another thread than the one that made the machine, and
// in `drop`, which on another thread forgets the coroutines instead of unwinding them there.
unsafe impl Send for Machine {}
// SAFETY: as above.
unsafe impl Sync for Machine {}

thread_local! {
    /// The machine whose thread runs on this thread of the host; machines may be nested.
    static INNERMOST: Cell<*const Machine> = const { Cell::new(core::ptr::null()) };
}

fn name(number: usize) -> ThreadId {
    ThreadId::new(NonZeroUsize::MIN.saturating_add(number))
}

fn number(thread: ThreadId) -> usize {
    thread.get().get() - 1
}

impl Machine {
    /// A machine without threads, on which loans have effect.
    #[must_use]
    pub fn new() -> Self {
        Self::with(true)
    }

    /// A machine on which loans are noted and have no effect: what it takes longer for, lending is good for.
    #[must_use]
    pub fn ignoring_loans() -> Self {
        Self::with(false)
    }

    fn with(honours_loans: bool) -> Self {
        Self { home: std::thread::current().id(), honours_loans, inside: RefCell::default() }
    }

    fn inside(&self) -> RefMut<'_, Inside> {
        assert!(
            std::thread::current().id() == self.home,
            "a simulated machine stays on the thread that made it"
        );
        self.inside.borrow_mut()
    }

    /// Adds a thread of that priority. It begins with `body` when it is first chosen.
    pub fn spawn(&self, own: Priority, body: impl FnOnce() + 'static) -> ThreadId {
        let way_back = WayBack::default();
        let body = Coroutine::new({
            let way_back = way_back.clone();
            move |yielder: &Yielder<(), ()>, ()| {
                way_back.set(Some(NonNull::from(yielder)));
                body();
            }
        });
        let mut inside = self.inside();
        let thread = Thread {
            own,
            loan: None,
            state: State::Ready,
            token: false,
            ready_since: inside.readied,
            way_back,
            body: Some(body),
        };
        inside.readied += 1;
        inside.threads.push(thread);
        name(inside.threads.len() - 1)
    }

    /// Runs `thread` until it reaches a scheduling point, parks, or ends. A panic in its body comes out of here.
    ///
    /// # Panics
    ///
    /// If the thread is not [ready](Self::ready), or this is called by a thread of the machine.
    pub fn resume(&self, thread: ThreadId) {
        let mut inside = self.inside();
        assert!(inside.running.is_none(), "one thread at a time");
        inside.wake_sleepers();
        let entry = inside.threads.get_mut(number(thread)).filter(|entry| entry.state == State::Ready);
        let mut body = entry.and_then(|entry| entry.body.take()).expect("a thread that is ready");
        inside.running = Some(number(thread));
        drop(inside);

        let back = Back { machine: self, outer: INNERMOST.replace(self), number: number(thread) };
        let result = body.resume(());
        if let CoroutineResult::Yield(()) = result {
            self.inside().threads[back.number].body = Some(body);
        }
    }

    /// The threads that could run now, in the order in which they became ready.
    #[must_use]
    pub fn ready(&self) -> Vec<ThreadId> {
        let mut inside = self.inside();
        inside.wake_sleepers();
        inside.ready()
    }

    /// Runs the most urgent ready thread, again and again, in order of arrival among equals, until all are done.
    ///
    /// # Errors
    ///
    /// [`Stuck`] if some are parked for ever.
    pub fn run(&self) -> Result<(), Stuck> {
        self.run_with(|ready| {
            let inside = self.inside();
            let urgency = |thread: &ThreadId| inside.urgency(self.honours_loans, *thread);
            // The first of the largest, where `max_by_key` takes the last.
            ready.iter().copied().rev().max_by_key(urgency).expect("somebody is ready")
        })
    }

    /// As [`run`](Self::run), with `choose` choosing from the threads that are [ready](Self::ready).
    ///
    /// # Errors
    ///
    /// [`Stuck`] if some are parked for ever.
    pub fn run_with(&self, mut choose: impl FnMut(&[ThreadId]) -> ThreadId) -> Result<(), Stuck> {
        loop {
            let ready = self.ready();
            if ready.is_empty() {
                let mut inside = self.inside();
                let deadlines = inside.threads.iter().filter_map(|thread| match thread.state {
                    State::Parked { until } => until,
                    State::Ready | State::Done => None,
                });
                match deadlines.min() {
                    Some(first) => inside.clock = first,
                    None => return inside.all_done(),
                }
            } else {
                self.resume(choose(&ready));
            }
        }
    }

    /// What a thread is doing; one that is running is ready.
    #[must_use]
    pub fn state(&self, thread: ThreadId) -> State {
        let mut inside = self.inside();
        inside.wake_sleepers();
        inside.threads.get(number(thread)).map_or(State::Done, |thread| thread.state)
    }

    /// What is lent to a thread.
    #[must_use]
    pub fn loan(&self, thread: ThreadId) -> Option<Priority> {
        self.inside().threads.get(number(thread)).and_then(|thread| thread.loan)
    }

    /// Gives a thread another priority of its own. Tables want to [know](crate::PiTurnstiles::priority_changed).
    pub fn set_own_priority(&self, thread: ThreadId, own: Priority) {
        if let Some(thread) = self.inside().threads.get_mut(number(thread)) {
            thread.own = own;
        }
    }

    /// The time, in ticks.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.inside().clock
    }

    /// Lets so many ticks pass at once.
    pub fn advance(&self, ticks: u64) {
        self.inside().clock += ticks;
    }

    /// For a thread of the machine: computes for so many ticks, if nobody takes the processor away.
    pub fn work(&self, ticks: u64) {
        for _ in 0..ticks {
            self.pass();
        }
    }

    /// For a thread of the machine: does nothing for so many ticks.
    pub fn sleep(&self, ticks: u64) {
        let until = self.now() + ticks;
        while self.now() < until {
            self.wait(Some(until));
        }
    }

    /// A tick passes, and the processor may change hands. Does nothing if no thread of the machine calls.
    fn pass(&self) {
        let mut inside = self.inside();
        if inside.running.is_some() {
            inside.clock += 1;
            drop(inside);
            self.suspend();
        }
    }

    /// Takes the token, or gives the processor up until it is there or the clock says so.
    fn wait(&self, until: Option<u64>) {
        let mut inside = self.inside();
        let me = inside.running.expect("only a thread of the machine can park");
        if !core::mem::take(&mut inside.threads[me].token) {
            inside.threads[me].state = State::Parked { until };
            drop(inside);
            self.suspend();
            self.inside().threads[me].token = false;
        }
    }

    fn suspend(&self) {
        let inside = self.inside();
        let me = inside.running.expect("a thread of the machine runs");
        let way_back = inside.threads[me].way_back.get().expect("it has begun");
        drop(inside);
        assert!(core::ptr::eq(INNERMOST.get(), self), "a thread of another machine runs inside this one's");
        // SAFETY: this is the innermost machine, and `me` its running thread: so this is the stack of the coroutine that the pointer
        // came from, which is alive and holds the `Yielder` as long as it has not ended.
        unsafe { way_back.as_ref() }.suspend(());
    }
}

impl Inside {
    fn make_ready(&mut self, number: usize) {
        self.threads[number].state = State::Ready;
        self.threads[number].ready_since = self.readied;
        self.readied += 1;
    }

    /// Makes ready whoever slept until now, the earliest deadline first.
    fn wake_sleepers(&mut self) {
        let clock = self.clock;
        let mut due: Vec<_> = (0..self.threads.len())
            .filter_map(|number| match self.threads[number].state {
                State::Parked { until: Some(until) } if until <= clock => Some((until, number)),
                _ => None,
            })
            .collect();
        due.sort_unstable();
        due.into_iter().for_each(|(_, number)| self.make_ready(number));
    }

    fn ready(&self) -> Vec<ThreadId> {
        let mut ready: Vec<_> =
            (0..self.threads.len()).filter(|number| self.threads[*number].state == State::Ready).collect();
        ready.sort_unstable_by_key(|number| self.threads[*number].ready_since);
        ready.into_iter().map(name).collect()
    }

    fn urgency(&self, honours_loans: bool, thread: ThreadId) -> Priority {
        self.threads.get(number(thread)).map_or(Priority::LOWEST, |thread| {
            thread.loan.filter(|_| honours_loans).map_or(thread.own, |loan| loan.max(thread.own))
        })
    }

    fn all_done(&self) -> Result<(), Stuck> {
        let threads: Vec<_> = (0..self.threads.len())
            .filter(|number| self.threads[*number].state != State::Done)
            .map(name)
            .collect();
        if threads.is_empty() { Ok(()) } else { Err(Stuck { threads }) }
    }
}

/// A thread has the processor; it comes back when this is dropped, in unwinding too.
struct Back<'a> {
    machine: &'a Machine,
    outer: *const Machine,
    number: usize,
}

impl Drop for Back<'_> {
    fn drop(&mut self) {
        INNERMOST.set(self.outer);
        let mut inside = self.machine.inside();
        inside.running = None;
        let thread = &mut inside.threads[self.number];
        if thread.body.is_none() {
            thread.state = State::Done;
        }
    }
}

impl Default for Machine {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Machine").field("honours_loans", &self.honours_loans).finish_non_exhaustive()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let threads = core::mem::take(&mut self.inside.get_mut().threads);
        if std::thread::current().id() == self.home {
            // Their stacks are unwound, one by one, with the machine still whole: what they hold may call it.
            for thread in threads {
                drop(thread.body);
            }
        } else {
            core::mem::forget(threads);
        }
    }
}
