//! Doorbells: how a waiting CPU, or any host thread, sleeps until somebody has news for it.
//!
//! A doorbell is a binary token. Ringing leaves the token; parking takes it, and sleeps while there is
//! none. Whoever has news makes the news visible first and rings then; whoever waits looks at the news
//! after every park and parks again if there are none. So no wake-up is lost, and there is no timer
//! (INV-M-7). Tokens carry no meaning: interrupts, locks, `wake` and `unpark` share one bell per CPU.

use std::boxed::Box;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;

use super::turns::Turns;

const QUIET: u32 = 0;
const RUNG: u32 = 1;
const ASLEEP: u32 = 2;

/// One sleeper's token.
#[derive(Default)]
pub(super) struct Doorbell {
    state: AtomicU32,
    sleeper: Mutex<Option<Thread>>,
}

impl Doorbell {
    /// Leaves the token, and wakes the sleeper if it sleeps in [`park`](Self::park).
    pub(super) fn ring(&self) {
        // ORD: AcqRel; Release gives the news to whoever takes the token, Acquire is for `sleeper`.
        if self.state.swap(RUNG, Ordering::AcqRel) == ASLEEP {
            let sleeper = self.sleeper.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(thread) = &*sleeper {
                thread.unpark();
            }
        }
    }

    /// Takes the token if it is there.
    pub(super) fn take(&self) -> bool {
        // ORD: Acquire pairs with the Release in `ring`.
        self.state.compare_exchange(RUNG, QUIET, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether the token is there.
    pub(super) fn is_rung(&self) -> bool {
        // ORD: Relaxed; a hint, `take` follows.
        self.state.load(Ordering::Relaxed) == RUNG
    }

    /// Sleeps until the token is there, and takes it. One thread at a time.
    pub(super) fn park(&self) {
        if self.take() {
            return;
        }
        *self.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(std::thread::current());
        // ORD: AcqRel; Release publishes `sleeper` to the ringer that finds us asleep.
        let asleep = self.state.compare_exchange(QUIET, ASLEEP, Ordering::AcqRel, Ordering::Relaxed);
        if asleep.is_err() {
            // Rung in the meantime.
            self.take();
            return;
        }
        while !self.take() {
            std::thread::park();
        }
    }
}

/// The doorbells of a machine's CPUs. In deterministic mode nobody sleeps on one: a CPU whose
/// doorbell is quiet is merely not given the turn.
pub(super) struct Doorbells {
    pub(super) bells: Box<[Doorbell]>,
    pub(super) turns: Option<Turns>,
}

impl Doorbells {
    pub(super) fn ring(&self, cpu: usize) {
        self.bells[cpu].ring();
        if let Some(turns) = &self.turns {
            turns.kick(cpu, &self.bells);
        }
    }
}

/// Something that can be rung later, by whoever then has news.
#[derive(Clone)]
pub(super) enum Bell {
    Cpu(Arc<Doorbells>, usize),
    Thread(Arc<Doorbell>),
}

impl Bell {
    pub(super) fn ring(&self) {
        match self {
            Self::Cpu(doorbells, cpu) => doorbells.ring(*cpu),
            Self::Thread(bell) => bell.ring(),
        }
    }

    /// Whether both ring for the same sleeper.
    pub(super) fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu(a, i), Self::Cpu(b, j)) => Arc::ptr_eq(a, b) && i == j,
            (Self::Thread(a), Self::Thread(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_before_the_park_is_kept_and_two_count_as_one() {
        let bell = Doorbell::default();
        bell.ring();
        bell.ring();
        bell.park();
        assert!(!bell.take());
    }

    #[test]
    fn rings_cross_threads() {
        let bell = Arc::new((Doorbell::default(), Doorbell::default()));
        let other = Arc::clone(&bell);
        let thread = std::thread::spawn(move || {
            for _ in 0..2000 {
                other.0.park();
                other.1.ring();
            }
        });
        for _ in 0..2000 {
            bell.0.ring();
            bell.1.park();
        }
        thread.join().unwrap();
    }
}
