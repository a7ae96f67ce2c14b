//! Participants in delayed invalidation: each thread has its own, all in one domain.

use core::sync::atomic::{AtomicUsize, Ordering};

use gencount::GenerationWord;

use super::meeting::Over;
use super::rule::Rule;
use super::suite::Suite;
use crate::cpuset::MAX_CPUS;
use crate::machine::Machine;

pub(super) struct Threads {
    /// Where each seat's participant is.
    places: [AtomicUsize; MAX_CPUS],
    word: GenerationWord,
}

/// In a pair's meeting: the section is open and has marked; the other has looked.
const MARKED: u32 = 1;
const LOOKED: u32 = 2;
const IDLE: u32 = 0;

impl Threads {
    pub(super) const fn new() -> Self {
        Self { places: [const { AtomicUsize::new(0) }; MAX_CPUS], word: GenerationWord::new() }
    }

    pub(super) fn check<M: Machine>(
        &self,
        suite: &Suite<'_, M>,
        seat: usize,
        round: &mut usize,
    ) -> Result<(), Over> {
        let machine = suite.system.machine();
        let (meeting, count) = (&suite.meeting, machine.cpu_count());
        let place = || core::ptr::from_ref(machine.participant()).addr();
        let mine = place();
        // ORD: Relaxed, here and below; read after a meeting.
        self.places[seat].store(mine, Ordering::Relaxed);
        meeting.meet(machine, round, count)?;
        if (0..16).any(|_| place() != mine) {
            return Err(meeting.found(Rule::ParticipantMoves, None));
        }
        let others = self.places[..count].iter().enumerate().filter(|(other, _)| *other != seat);
        if others.into_iter().any(|(_, other)| other.load(Ordering::Relaxed) == mine) {
            return Err(meeting.found(Rule::ParticipantShared, None));
        }
        // Nobody may trust a mark of another one's until its section is over.
        for other in 1..count {
            meeting.meet(machine, round, count)?;
            if seat == other {
                let section = machine.participant().begin();
                section.mark(&self.word);
                meeting.enter_stage(MARKED);
                meeting.until(|| machine.relax(), || meeting.stage() == LOOKED)?;
                drop(section);
                meeting.enter_stage(IDLE);
            } else if seat == 0 {
                meeting.until(|| machine.relax(), || meeting.stage() == MARKED)?;
                if machine.participant().try_wait(&self.word) {
                    return Err(meeting.found(Rule::ParticipantDomains, None));
                }
                meeting.enter_stage(LOOKED);
                machine.participant().wait(&self.word);
                meeting.until(|| machine.relax(), || meeting.stage() == IDLE)?;
            }
        }
        meeting.meet(machine, round, count)
    }
}
