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
    issued: u64,
    open: [Option<u64>; PARTICIPANTS],
    words: [u64; WORDS],
    longest: u64,
}

impl Model {
    /// All below the oldest open section are finished.
    fn watermark(&self) -> u64 {
        self.open.iter().flatten().min().map_or(self.issued, |oldest| oldest - 1)
    }
}

pub(crate) fn agrees_with_the_model(implementation: Implementation) {
    let config = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(actions in proptest::collection::vec(action(), 1..120))| {
        let domain = domain(implementation);
        let mut participants: Vec<_> = (0..PARTICIPANTS).map(|_| domain.join()).collect();
        let words: [GenerationWord; WORDS] = Default::default();
        let mut model = Model::default();
        let mut waits = 0;
        for action in actions {
            match action {
                Action::Toggle(at) => match model.open[at].take() {
                    Some(_) => participants[at].finish_raw(),
                    None => {
                        model.issued += 1;
                        model.open[at] = Some(model.issued);
                        model.longest = model.longest.max(model.open.iter().flatten().count() as u64);
                        prop_assert_eq!(participants[at].begin_raw(), model.issued);
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
                    if model.open[at].is_none() && model.watermark() >= model.words[word] {
                        participants[at].wait(&words[word]);
                        waits += 1;
                    }
                }
            }
            prop_assert_eq!(domain.watermark(), model.watermark());
            for (participant, open) in participants.iter().zip(&model.open) {
                prop_assert_eq!(participant.generation(), *open);
            }
            for (word, &marked) in words.iter().zip(&model.words) {
                prop_assert_eq!(word.get(), marked);
                prop_assert_eq!(domain.is_complete(word), marked <= model.watermark());
            }
        }
        let counters = domain.counters();
        prop_assert_eq!(counters.di_blocks, model.issued);
        prop_assert_eq!(counters.di_wait_calls, waits);
        prop_assert_eq!(counters.invl_wait, 0);
        prop_assert_eq!(counters.invl_max_qlen, model.longest);
        prop_assert_eq!(counters.invl_start_restart + counters.invl_finish_restart, 0);
    });
}
