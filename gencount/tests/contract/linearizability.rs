//! Real threads, more of them than cores, whose operations are recorded; the records must be possible.
//!
//! What this cannot see: the clock of the record is one that all threads change, so it orders what the domain ought to order. The
//! tests of `history` have no such clock.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use gencount::{Domain, GenerationWord, Hosted, Implementation, Participant};

use crate::record::{Answer, History, Impossible, Question, Section, Span, check};
use crate::support::{Random, domain, for_a_while, threads, within_its_time};

/// Operations of a thread in one round.
const OPERATIONS: u64 = 400;
const PAGES: u64 = 3;

/// A page: its lock, under which it is marked, and its word.
#[derive(Default)]
struct Page {
    lock: Mutex<()>,
    word: GenerationWord,
}

/// What a thread needs.
struct Recorder<'r> {
    domain: &'r Domain<Hosted>,
    participant: Participant<Hosted>,
    pages: &'r [Page],
    clock: &'r AtomicU64,
    random: Random,
    history: History,
}

impl Recorder<'_> {
    /// Takes the time of an operation.
    fn span<T>(&self, operation: impl FnOnce() -> T) -> (Span, T) {
        let from = self.clock.fetch_add(1, SeqCst);
        let result = operation();
        (Span { from, to: self.clock.fetch_add(1, SeqCst) }, result)
    }

    fn section(&mut self) {
        let (begin, generation) = self.span(|| self.participant.begin_raw());
        for _ in 0..self.random.below(3) {
            let page = &self.pages[self.random.below(PAGES) as usize];
            let _lock = page.lock.lock().expect("no panic");
            self.participant.mark(&page.word);
        }
        if self.random.below(4) == 0 {
            std::thread::yield_now();
        }
        let (finish, ()) = self.span(|| self.participant.finish_raw());
        self.history.sections.push(Section { generation, begin, finish });
    }

    fn ask(&mut self) {
        let kind = self.random.below(6);
        let word = &self.pages[self.random.below(PAGES) as usize].word;
        // The word may be raised before the domain reads it: a yes is one for this at least, a no for that after it at most.
        let least = word.get();
        let (span, complete) = self.span(|| match kind {
            0 => {
                self.participant.wait(word);
                true
            }
            1 => self.participant.wait_timeout(word, Duration::from_micros(50)),
            2 => self.participant.try_wait(word),
            _ => self.domain.is_complete(word),
        });
        let target = if complete { least } else { word.get() };
        self.history.questions.push(Question { span, answer: Answer::Complete { target, complete } });
        let (span, watermark) = self.span(|| self.domain.watermark());
        self.history.questions.push(Question { span, answer: Answer::Watermark(watermark) });
    }

    /// All of this thread's operations.
    fn run(mut self) -> History {
        for _ in 0..OPERATIONS {
            if self.random.below(3) == 0 {
                self.ask();
            } else {
                self.section();
            }
        }
        self.history
    }
}

/// One round in a new domain.
fn record(implementation: Implementation, seed: u64) -> History {
    let domain = domain(implementation);
    // From 1: the check looks at the moment before.
    let clock = AtomicU64::new(1);
    let pages: [Page; PAGES as usize] = Default::default();
    let mut all = History::default();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads())
            .map(|number| {
                let recorder = Recorder {
                    domain: &domain,
                    participant: domain.join(),
                    pages: &pages,
                    clock: &clock,
                    random: Random(seed * 1000 + number as u64 + 1),
                    history: History::default(),
                };
                scope.spawn(|| recorder.run())
            })
            .collect();
        for thread in threads {
            let one = thread.join().expect("no panic");
            all.sections.extend(one.sections);
            all.questions.extend(one.questions);
        }
    });
    all
}

pub(crate) fn histories_are_possible(implementation: Implementation) {
    within_its_time(move || {
        let shares = implementation == Implementation::Sharded;
        let (mut rounds, mut incomplete, mut overlapping) = (0, 0, 0);
        for_a_while(|| {
            rounds += 1;
            let history = record(implementation, rounds);
            if let Err(broken) = check(&history, shares) {
                panic!("{implementation}, round {rounds}: {broken:?}");
            }
            incomplete += history
                .questions
                .iter()
                .filter(|one| matches!(one.answer, Answer::Complete { complete: false, .. }))
                .count();
            let mut ends: Vec<_> =
                history.sections.iter().map(|one| (one.begin.to, one.finish.from)).collect();
            ends.sort_unstable();
            overlapping += ends.windows(2).filter(|pair| pair[1].0 < pair[0].1).count();
        });
        println!(
            "{implementation}: {rounds} rounds, {incomplete} answers of no, {overlapping} overlapping sections"
        );
        assert!(incomplete > 10 && overlapping > 100, "the histories are too tame");
    });
}

/// What the check is for: a history that was recorded, with one operation's result changed, is not possible any more.
pub(crate) fn altered_histories_are_impossible(implementation: Implementation) {
    let shares = implementation == Implementation::Sharded;
    let history = record(implementation, 1);
    let impossible = |history: &History| check(history, shares).expect_err("it cannot have happened").0;

    // A watermark that counts what has finished, in whatever order.
    let mut counted = history.clone();
    for question in &mut counted.questions {
        let finished = history.sections.iter().filter(|one| one.finish.to < question.span.from).count();
        question.answer = Answer::Watermark(finished as u64);
    }
    assert_eq!(impossible(&counted), Impossible::TooEarly);

    // One that never moves, and words that are never complete.
    let mut stuck = history.clone();
    let end = Span { from: u64::MAX - 2, to: u64::MAX - 1 };
    let never = Answer::Complete { target: 1, complete: false };
    stuck.questions = vec![Question { span: end, answer: never }];
    assert_eq!(impossible(&stuck), Impossible::TooLate);
    stuck.questions[0].answer = Answer::Watermark(0);
    assert_eq!(
        check(&stuck, shares).is_ok(),
        shares,
        "asking moves the watermark of `sharded`, finishing does not"
    );

    // One that goes back: of `sharded`, since the others' is then too late as well.
    let mut back = history.clone();
    let again = Span { from: u64::MAX - 4, to: u64::MAX - 3 };
    back.questions.push(Question { span: again, answer: Answer::Complete { target: 1, complete: true } });
    back.questions.push(Question { span: end, answer: Answer::Watermark(0) });
    let expected = if shares { Impossible::WentBack } else { Impossible::TooLate };
    assert_eq!(impossible(&back), expected);

    // Two sections, one after the other, that got each other's generation.
    let mut swapped = history;
    swapped.sections.sort_unstable_by_key(|one| one.generation);
    let last = swapped.sections.len() - 1;
    let (first, other) = (swapped.sections[0].generation, swapped.sections[last].generation);
    assert!(first < other);
    (swapped.sections[0].generation, swapped.sections[last].generation) = (other, first);
    assert_eq!(impossible(&swapped), Impossible::GenerationOrder);
}
