//! Recorded histories, and what makes one of them impossible.
//!
//! Every operation has a span: two readings of one clock, taken before the call and after the return. A domain whose operations take
//! effect at one moment each, somewhere within their spans, can only produce histories that [`check`] accepts:
//!
//! 1. Generations: one that begins after another has begun gets a larger one; with `sharded` not a smaller one. The other
//!    implementations issue 1, 2, 3 and so on, each once.
//! 2. Never too early: a watermark, or a word said to be complete, covers only sections whose finish was called before the answer.
//! 3. Never too late: a watermark covers all that lies below the oldest section whose finish had not returned before the question. With
//!    `sharded`, whose watermark moves when somebody asks, a word is not called incomplete without a section that is open meanwhile.
//! 4. Never back: what an answer has covered, every later question covers.
//!
//! The check takes time in proportion to n log n. (It is not a search for an order: the rules are what an order has to satisfy.)

use std::fmt;

/// A stretch of time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Section {
    pub(crate) generation: u64,
    pub(crate) begin: Span,
    pub(crate) finish: Span,
}

/// What was asked, and the answer.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Answer {
    Watermark(u64),
    /// `wait` says yes, `try_wait`, `is_complete` and `wait_timeout` either.
    Complete {
        target: u64,
        complete: bool,
    },
}

impl Answer {
    /// The generation up to which everything is said to have finished.
    fn covers(self) -> u64 {
        match self {
            Self::Watermark(watermark) => watermark,
            Self::Complete { target, complete } => u64::from(complete) * target,
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Question {
    pub(crate) span: Span,
    pub(crate) answer: Answer,
}

/// What happened in one domain, from its first section on.
#[derive(Clone, Default)]
pub(crate) struct History {
    pub(crate) sections: Vec<Section>,
    pub(crate) questions: Vec<Question>,
}

/// Why a history is impossible.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Impossible {
    GenerationOrder,
    TooEarly,
    TooLate,
    WentBack,
}

/// The rule that is broken and the operation that breaks it.
pub(crate) struct Broken(pub(crate) Impossible, String);

impl fmt::Debug for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.0, self.1)
    }
}

/// Running maxima (of `value`) over things in the order of `key`.
struct Running(Vec<(u64, u64)>);

impl Running {
    fn new(things: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut sorted: Vec<_> = things.collect();
        sorted.sort_unstable();
        let mut largest = 0;
        for (_, value) in &mut sorted {
            largest = largest.max(*value);
            *value = largest;
        }
        Self(sorted)
    }

    /// The largest value of all with a key up to this one.
    fn up_to(&self, key: u64) -> u64 {
        let end = self.0.partition_point(|&(other, _)| other <= key);
        end.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// The smallest values over things from a key on.
struct Remaining(Vec<(u64, u64)>);

impl Remaining {
    fn new(things: impl Iterator<Item = (u64, u64)>) -> Self {
        let mut sorted: Vec<_> = things.collect();
        sorted.sort_unstable();
        let mut smallest = u64::MAX;
        for (_, value) in sorted.iter_mut().rev() {
            smallest = smallest.min(*value);
            *value = smallest;
        }
        Self(sorted)
    }

    /// The smallest value of all with a key above this one.
    fn above(&self, key: u64) -> Option<u64> {
        let start = self.0.partition_point(|&(other, _)| other <= key);
        self.0.get(start).map(|&(_, value)| value)
    }
}

/// Whether a domain could have done this; `shares` is said of `sharded`.
pub(crate) fn check(history: &History, shares: bool) -> Result<(), Broken> {
    let History { sections, questions } = history;
    let broken = |rule, what: &dyn fmt::Debug| Err(Broken(rule, format!("{what:?}")));

    let issued = Running::new(sections.iter().map(|one| (one.begin.to, one.generation)));
    for section in sections {
        let before = issued.up_to(section.begin.from - 1);
        if section.generation < before || section.generation == before && !shares {
            return broken(Impossible::GenerationOrder, section);
        }
    }
    let largest = sections.iter().map(|one| one.generation).max().unwrap_or(0);
    if !shares {
        let mut generations: Vec<_> = sections.iter().map(|one| one.generation).collect();
        generations.sort_unstable();
        if !generations.iter().copied().eq(1..=sections.len() as u64) {
            return broken(Impossible::GenerationOrder, &"not each of them once");
        }
    }

    let finishing = Running::new(sections.iter().map(|one| (one.generation, one.finish.from)));
    let unfinished = Remaining::new(sections.iter().map(|one| (one.finish.to, one.generation)));
    let begun = Remaining::new(sections.iter().map(|one| (one.finish.to, one.begin.from)));
    let covered = Running::new(questions.iter().map(|one| (one.span.to, one.answer.covers())));
    for question in questions {
        let Span { from, to } = question.span;
        if finishing.up_to(question.answer.covers()) > to {
            return broken(Impossible::TooEarly, question);
        }
        // All generations up to here had finished before the question.
        let finished = unfinished.above(from).map_or(largest, |oldest| oldest - 1);
        let before = covered.up_to(from - 1);
        let (too_late, back) = match question.answer {
            Answer::Watermark(watermark) => (!shares && watermark < finished, watermark < before),
            Answer::Complete { complete: true, .. } => (false, false),
            Answer::Complete { target, complete: false } => {
                let nobody = begun.above(from).is_none_or(|begun| begun > to);
                (if shares { nobody } else { target <= finished }, target <= before)
            }
        };
        if too_late {
            return broken(Impossible::TooLate, question);
        }
        if back {
            return broken(Impossible::WentBack, question);
        }
    }
    Ok(())
}
