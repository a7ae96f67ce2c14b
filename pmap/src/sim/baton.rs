//! The baton: in deterministic mode only its holder runs.
//!
//! The holder asks at every point whether to go on; a seeded stream decides, and the baton passes to a
//! CPU that can run: one that was merely not chosen, or a parked one whose doorbell has been rung. Now and
//! then a CPU is *stalled*: it is not chosen again for some hundred decisions while any other can run,
//! because many errors need one CPU to stop in a narrow place while the others do a lot.
//!
//! All that CPUs do to each other they do with the baton in hand, so the seed and the program determine
//! the history (INV-M-9), and a hash over it tells whether two runs were the same. If no CPU can run, that is
//! a deadlock, and the machine says so instead of hanging.

use std::fmt::Write as _;
use std::format;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::vec::Vec;

use rand_core::{Rng, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;

use super::doorbell::Doorbell;
use super::turns::Stuck;

/// Points in a row at which CPUs only relaxed: nobody will ever do what they wait for.
const HOPELESS: u64 = 200_000;

/// What a CPU does at a point; part of the history.
#[derive(Clone, Copy, Debug)]
#[repr(u8)]
pub(super) enum Event {
    Point = 1,
    Access = 2,
    Walk = 3,
    Lock = 4,
    Unlock = 5,
    Interrupt = 6,
    Relax = 7,
    Park = 8,
    Frame = 9,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Not running as a thread.
    Absent,
    /// Can go on when it gets the baton.
    Ready,
    /// Waits for its doorbell, for this reason.
    Parked(&'static str),
}

struct State {
    cpus: Vec<Standing>,
    stalled_until: Vec<u64>,
    holder: Option<usize>,
    /// CPUs that must arrive before anybody starts.
    expected: usize,
    /// A set of CPUs was started together and has not all left: nobody outside will ring.
    closed: bool,
    /// The machine is broken: everybody runs, to the next check.
    released: bool,
    rng: Xoshiro256PlusPlus,
    decisions: u64,
    switches: u64,
    relaxed: u64,
    history: u64,
}

/// See the module documentation.
pub(super) struct Baton {
    state: Mutex<State>,
    turns: Vec<Condvar>,
    switch_one_in: u32,
}

impl Baton {
    pub(super) fn new(cpus: usize, seed: u64, switch_one_in: u32) -> Self {
        Self {
            state: Mutex::new(State {
                cpus: std::vec![Standing::Absent; cpus],
                stalled_until: std::vec![0; cpus],
                holder: None,
                expected: 0,
                closed: false,
                released: false,
                rng: Xoshiro256PlusPlus::seed_from_u64(seed ^ 0x6261_746f_6e00_0000),
                decisions: 0,
                switches: 0,
                relaxed: 0,
                history: seed,
            }),
            turns: (0..cpus).map(|_| Condvar::new()).collect(),
            switch_one_in,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next `cpus` arrivals start together.
    pub(super) fn expect(&self, cpus: usize) {
        let mut state = self.state();
        state.expected = cpus;
        state.closed = cpus > 0;
    }

    /// `cpu` begins to run: returns when it has the baton.
    pub(super) fn enter(&self, cpu: usize, bells: &[Doorbell]) {
        let mut state = self.state();
        state.cpus[cpu] = Standing::Ready;
        state.stalled_until[cpu] = 0;
        state.expected = state.expected.saturating_sub(1);
        if state.holder.is_none() && state.expected == 0 {
            let next = state.choose(None, bells).unwrap_or(cpu);
            self.give(&mut state, next);
        }
        self.await_turn(state, cpu);
    }

    /// `cpu`, the holder, ends.
    pub(super) fn leave(&self, cpu: usize, bells: &[Doorbell]) -> Result<(), Stuck> {
        let mut state = self.state();
        state.cpus[cpu] = Standing::Absent;
        if state.cpus.iter().all(|c| *c == Standing::Absent) {
            state.closed = false;
        }
        if state.holder != Some(cpu) {
            return Ok(());
        }
        state.holder = None;
        match state.choose(None, bells) {
            Some(next) => self.give(&mut state, next),
            None if state.closed && !state.released => return Err(state.stuck("deadlock")),
            None => {}
        }
        Ok(())
    }

    /// A point of `cpu`, the holder: perhaps another CPU runs before this returns.
    pub(super) fn point(&self, cpu: usize, event: Event, detail: u64, bells: &[Doorbell]) {
        let mut state = self.state();
        if state.released {
            return;
        }
        state.record(cpu, event, detail);
        state.relaxed = 0;
        let draw = state.rng.next_u64();
        if self.switch_one_in == 0 || !(draw as u32).is_multiple_of(self.switch_one_in) {
            return;
        }
        if (draw >> 32).is_multiple_of(8) {
            let until = state.decisions + 32 + (draw >> 40) % 1024;
            state.stalled_until[cpu] = until;
        }
        self.pass(state, cpu, bells);
    }

    /// `cpu`, the holder, cannot go on by itself but is not parked: somebody else runs, if anybody can.
    pub(super) fn relax(&self, cpu: usize, bells: &[Doorbell]) -> Result<(), Stuck> {
        let mut state = self.state();
        if state.released {
            return Ok(());
        }
        state.record(cpu, Event::Relax, 0);
        state.relaxed += 1;
        if state.relaxed > HOPELESS {
            return Err(state.stuck("livelock"));
        }
        self.pass(state, cpu, bells);
        Ok(())
    }

    /// `cpu`, the holder, waits for its doorbell.
    pub(super) fn park(&self, cpu: usize, why: &'static str, bells: &[Doorbell]) -> Result<(), Stuck> {
        let mut state = self.state();
        if state.released || bells[cpu].take() {
            return Ok(());
        }
        state.record(cpu, Event::Park, 0);
        state.relaxed = 0;
        state.cpus[cpu] = Standing::Parked(why);
        state.holder = None;
        match state.choose(Some(cpu), bells) {
            Some(next) => self.give(&mut state, next),
            None if state.closed => return Err(state.stuck("deadlock")),
            // Somebody outside may ring: `kick`.
            None => {}
        }
        self.await_turn(state, cpu);
        bells[cpu].take();
        Ok(())
    }

    /// A doorbell was rung: if nobody holds the baton, somebody may now be able to.
    pub(super) fn kick(&self, bells: &[Doorbell]) {
        let mut state = self.state();
        if state.holder.is_none()
            && state.expected == 0
            && let Some(next) = state.choose(None, bells)
        {
            self.give(&mut state, next);
        }
    }

    /// Ends determinism: all CPUs run. For a machine that is broken.
    pub(super) fn release(&self) {
        self.state().released = true;
        self.turns.iter().for_each(Condvar::notify_all);
    }

    /// Adds to the history without being a point.
    pub(super) fn record(&self, cpu: usize, event: Event, detail: u64) {
        self.state().record(cpu, event, detail);
    }

    /// Hash over the history, and how often the baton has passed.
    pub(super) fn history(&self) -> (u64, u64) {
        let state = self.state();
        (state.history, state.switches)
    }

    fn pass(&self, mut state: MutexGuard<'_, State>, cpu: usize, bells: &[Doorbell]) {
        if let Some(next) = state.choose(Some(cpu), bells) {
            state.switches += 1;
            self.give(&mut state, next);
            self.await_turn(state, cpu);
        }
    }

    fn give(&self, state: &mut State, cpu: usize) {
        state.holder = Some(cpu);
        state.cpus[cpu] = Standing::Ready;
        self.turns[cpu].notify_one();
    }

    fn await_turn(&self, mut state: MutexGuard<'_, State>, cpu: usize) {
        while state.holder != Some(cpu) && !state.released {
            state = self.turns[cpu].wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl State {
    fn record(&mut self, cpu: usize, event: Event, detail: u64) {
        let word = (cpu as u64) << 56 ^ (event as u64) << 48 ^ detail;
        self.history = (self.history.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        self.decisions += 1;
    }

    /// A CPU that can run, other than `not`.
    fn choose(&mut self, not: Option<usize>, bells: &[Doorbell]) -> Option<usize> {
        let can_run = |state: &Self, cpu: usize| match state.cpus[cpu] {
            Standing::Absent => false,
            Standing::Ready => Some(cpu) != not,
            Standing::Parked(_) => bells[cpu].is_rung(),
        };
        let count = |state: &Self, stalled: bool| {
            (0..state.cpus.len())
                .filter(|cpu| can_run(state, *cpu))
                .filter(|cpu| stalled || state.stalled_until[*cpu] <= state.decisions)
                .count() as u64
        };
        let (awake, all) = (count(self, false), count(self, true));
        let among = if awake > 0 { awake } else { all };
        if among == 0 {
            return None;
        }
        let pick = (self.rng.next_u64() % among) as usize;
        let chosen = (0..self.cpus.len())
            .filter(|cpu| can_run(self, *cpu))
            .filter(|cpu| awake == 0 || self.stalled_until[*cpu] <= self.decisions)
            .nth(pick);
        if let Some(cpu) = chosen {
            self.history = (self.history.rotate_left(9) ^ cpu as u64).wrapping_mul(0x517c_c1b7_2722_0a95);
        }
        chosen
    }

    fn stuck(&self, what: &str) -> Stuck {
        let mut words = format!("{what} after {} decisions:", self.decisions);
        for (cpu, standing) in self.cpus.iter().enumerate() {
            let _ = match standing {
                Standing::Absent => write!(words, " cpu {cpu} has ended;"),
                Standing::Ready => write!(words, " cpu {cpu} relaxes;"),
                Standing::Parked(why) => write!(words, " cpu {cpu} waits in {why};"),
            };
        }
        Stuck(words)
    }
}
