//! The thread that does what one recorded CPU did.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use pmap::{VirtAddr, VirtRange};

use super::Replay;
use super::ledger::Stopped;
use super::spaces::Living;
use super::visits::Visits;
use crate::trace::{Action, StreamError, Wait};
use crate::vm::visit;

/// A thread goes back to an earlier place after this many steps on average.
const PEEK_ONE_IN: u64 = 2;
/// … with page faults.
const RELOAD_ONE_IN: u64 = 8;
/// … and tries a store that must be refused.
const POKE_ONE_IN: u64 = 4;

/// The state of such a thread.
pub(super) struct Lane {
    pub(super) replay: Arc<Replay>,
    pub(super) visits: Visits,
    /// The address space that it is in.
    here: Option<Arc<Living>>,
    /// Changes of its ranges that this thread has looked at.
    changes_seen: u64,
}

impl Lane {
    pub(super) fn new(replay: Arc<Replay>, seed: u64) -> Self {
        Self { replay, visits: Visits::new(seed), here: None, changes_seen: 0 }
    }

    /// Goes into a space.
    pub(super) fn enter(&mut self, living: &Arc<Living>) {
        if self.here.as_ref().is_none_or(|here| !Arc::ptr_eq(here, living)) {
            visit::enter(&living.space);
            self.here = Some(living.clone());
            self.changes_seen = living.shadow.lock().changes();
        }
    }

    /// Goes out of the space where it is.
    pub(super) fn leave(&mut self) {
        if self.here.is_some() {
            visit::leave();
            // Only now: who waits for the last reference takes the space apart.
            self.here = None;
        }
    }

    /// Notes that something is not as it must be, and ends the replay.
    pub(super) fn wrong(&self, living: &Living, va: VirtAddr, what: fmt::Arguments<'_>) {
        let page = va.page().0;
        self.replay.vm.violations().note(format_args!("space {}, page {page:#x} {what}", living.number));
        self.replay.ledger.stop();
    }

    /// Takes the steps of a CPU. Anything that is wrong has been noted on return.
    pub(super) fn work(&mut self, cpu: u32) {
        match self.steps(cpu) {
            Ok(()) | Err(Stop::Asked) => {}
            Err(Stop::Unreadable(error)) => {
                self.replay.vm.violations().note(format_args!("the steps of CPU {cpu}: {error}"));
                self.replay.ledger.stop();
            }
        }
        // Nobody may wait for this thread to leave a space.
        self.leave();
    }

    fn steps(&mut self, cpu: u32) -> Result<(), Stop> {
        let replay = self.replay.clone();
        for step in replay.stream.steps(cpu) {
            let step = step?;
            let mut waited = false;
            for wait in step.waits {
                waited |= self.wait(wait)?;
            }
            if waited {
                // What others have just changed may be where this thread has been.
                self.look_around();
            }
            match step.action {
                Action::Activate(number) => match replay.spaces.get(number) {
                    Some(living) => self.enter(&living),
                    // It has ended meanwhile: nothing orders a switch before the end.
                    None => self.leave(),
                },
                Action::Event(event) => {
                    self.event(&event);
                    self.look_around();
                }
            }
            replay.ledger.done(cpu);
            if replay.ledger.is_stopped() {
                return Err(Stop::Asked);
            }
        }
        Ok(())
    }

    /// Waits, and says whether that was necessary. It stays in its space meanwhile, as the CPU has it loaded, unless that is to end.
    fn wait(&mut self, wait: Wait) -> Result<bool, Stop> {
        if self.replay.ledger.is_done(wait) {
            return Ok(false);
        }
        while !self.replay.ledger.spin(wait) {
            let is_ending = || self.here.as_ref().is_some_and(|here| here.is_ending());
            self.replay.ledger.park(wait, is_ending)?;
            if is_ending() {
                self.leave();
            }
        }
        if self.replay.ledger.is_stopped() { Err(Stop::Asked) } else { Ok(true) }
    }

    /// Goes back to earlier places now and then, while others do what they do.
    fn look_around(&mut self) {
        let Some(here) = self.here.clone() else { return };
        self.peek_at_changes(&here);
        if self.visits.one_in(PEEK_ONE_IN) {
            self.peek(&here);
        }
        if self.visits.one_in(RELOAD_ONE_IN) {
            self.reload(&here);
        }
        if self.visits.one_in(POKE_ONE_IN) {
            self.poke(&here);
        }
    }
}

impl Lane {
    /// Looks at places where it has been and where somebody has changed something since it last looked.
    fn peek_at_changes(&mut self, here: &Living) {
        let ranges: Vec<VirtRange> = {
            let shadow = here.shadow.lock();
            let seen = core::mem::replace(&mut self.changes_seen, shadow.changes());
            shadow.changed_since(seen).collect()
        };
        for range in ranges {
            for va in self.visits.recall_in::<8>(here.number, range).into_iter().flatten() {
                self.peek_at(here, va);
            }
        }
    }
}

/// Why a lane ends early.
enum Stop {
    /// Somebody has found something wrong.
    Asked,
    /// The trace is not in order.
    Unreadable(StreamError),
}

impl From<Stopped> for Stop {
    fn from(_: Stopped) -> Self {
        Self::Asked
    }
}

impl From<StreamError> for Stop {
    fn from(error: StreamError) -> Self {
        Self::Unreadable(error)
    }
}
