//! Random sequences of operations against a model of a dozen lines.

use gencount::{GenerationWord, Implementation};
use proptest::prelude::*;

use crate::support::domain;

const PARTICIPANTS: usize = 5;
const WORDS: usize = 3;

#[derive(Clone, Debug)]
enum Action {
    /// Begins a section, or finishes the one that is open.
    Toggle(usize),
    Mark(usize, usize),
    /// Leaves (finishing an open section) and joins again.
    Rejoin(usize),
    /// Waits for the word, if that cannot block.
    Wait(usize, usize),
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => (0..PARTICIPANTS).prop_map(Action::Toggle),
        3 => (0..PARTICIPANTS, 0..WORDS).prop_map(|(participant, word)| Action::Mark(participant, word)),
        1 => (0..PARTICIPANTS).prop_map(Action::Rejoin),
        2 => (0..PARTICIPANTS, 0..WORDS).prop_map(|(participant, word)| Action::Wait(participant, word)),
    ]
}

/// What the contract says, with everything in plain sight.
#[derive(Default)]
struct Model {
    /// `sharded`: sections share the clock's value, and those who ask move it and the watermark.
    sharded: bool,
    clock: u64,
    reached: u64,
    begun: u64,
    open: [Option<u64>; PARTICIPANTS],
    words: [u64; WORDS],
    longest: u64,
}

impl Model {
    fn new(implementation: Implementation) -> Self {
        let sharded = implementation == Implementation::Sharded;
        Self { sharded, clock: u64::from(sharded), ..Self::default() }
    }

    fn begin(&mut self, at: usize) -> u64 {
        self.begun += 1;
        self.clock += u64::from(!self.sharded);
        self.open[at] = Some(self.clock);
        if !self.sharded {
            self.longest = self.longest.max(self.open.iter().flatten().count() as u64);
        }
        self.clock
    }

    /// All below the oldest open section are finished.
    fn settled(&self) -> u64 {
        let last = self.clock - u64::from(self.sharded);
        self.open.iter().flatten().min().map_or(last, |oldest| last.min(oldest - 1))
    }

    fn watermark(&self) -> u64 {
        if self.sharded { self.reached } else { self.settled() }
    }

    /// Whether the word is complete; asking may move things.
    fn is_complete(&mut self, word: usize) -> bool {
        if self.watermark() < self.words[word] && self.sharded {
            self.clock = self.clock.max(self.words[word] + 1);
            self.reached = self.reached.max(self.settled());
        }
        self.watermark() >= self.words[word]
    }
}

pub(crate) fn agrees_with_the_model(implementation: Implementation) {
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(actions in proptest::collection::vec(action(), 1..120))| {
        let domain = domain(implementation);
        let mut participants: Vec<_> = (0..PARTICIPANTS).map(|_| domain.join()).collect();
        let words: [GenerationWord; WORDS] = Default::default();
        let mut model = Model::new(implementation);
        let mut waits = 0;
        for action in actions {
            match action {
                Action::Toggle(at) => match model.open[at].take() {
                    Some(_) => participants[at].finish_raw(),
                    None => {
                        prop_assert_eq!(participants[at].begin_raw(), model.begin(at));
                    }
                },
                Action::Mark(at, word) => {
                    participants[at].mark(&words[word]);
                    if let Some(generation) = model.open[at] {
                        model.words[word] = model.words[word].max(generation);
                    }
                }
                Action::Rejoin(at) => {
                    model.open[at] = None;
                    let old = participants.remove(at);
                    drop(old);
                    participants.insert(at, domain.join());
                }
                Action::Wait(at, word) => {
                    if model.open[at].is_none() && model.is_complete(word) {
                        participants[at].wait(&words[word]);
                        waits += 1;
                    }
                }
            }
            prop_assert_eq!(domain.watermark(), model.watermark());
            for (participant, open) in participants.iter().zip(&model.open) {
                prop_assert_eq!(participant.generation(), *open);
            }
            for (at, word) in words.iter().enumerate() {
                prop_assert_eq!(word.get(), model.words[at]);
                prop_assert_eq!(domain.is_complete(word), model.is_complete(at));
            }
            prop_assert_eq!(domain.watermark(), model.watermark());
        }
        let counters = domain.counters();
        prop_assert_eq!(counters.di_blocks, model.begun);
        prop_assert_eq!(counters.di_wait_calls, waits);
        prop_assert_eq!(counters.invl_wait, 0);
        prop_assert_eq!(counters.invl_max_qlen, model.longest);
        prop_assert_eq!(counters.invl_start_restart + counters.invl_finish_restart, 0);
    });
}
