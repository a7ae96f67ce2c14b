//! Breadth-first search over all reachable states, each visited once.

use std::fmt;

use crate::encoding::LARGEST_PAYLOAD;
use crate::model::{Cell, MARK, MAX_THREADS, Mutation, NULL, Operation, PayloadSteps, Rules, State, Thread};
use crate::properties::{Violation, check, ended_unmet, solo};

/// What is searched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Configuration {
    /// Threads that append and remove their node, again and again.
    pub(crate) threads: usize,
    /// How often each does so.
    pub(crate) rounds: u8,
    /// Further threads that call `complete_removals`, and how often each does.
    pub(crate) completers: usize,
    pub(crate) completions: u8,
    pub(crate) n: PayloadSteps,
    pub(crate) rules: Rules,
}

impl Configuration {
    pub(crate) const fn new(threads: usize, rounds: u8) -> Self {
        Self {
            threads,
            rounds,
            completers: 0,
            completions: 0,
            n: PayloadSteps::UpTo(1),
            rules: Rules { mutation: None, limit: None },
        }
    }

    pub(crate) const fn completers(self, completers: usize, completions: u8) -> Self {
        Self { completers, completions, ..self }
    }

    pub(crate) const fn n(self, n: PayloadSteps) -> Self {
        Self { n, ..self }
    }

    pub(crate) const fn mutation(self, mutation: Mutation) -> Self {
        Self { rules: Rules { mutation: Some(mutation), ..self.rules }, ..self }
    }

    /// Payloads run out after this one.
    pub(crate) const fn limit(self, limit: u8) -> Self {
        Self { rules: Rules { limit: Some(limit), ..self.rules }, ..self }
    }

    pub(crate) fn start(&self) -> State {
        assert!(self.threads + self.completers <= MAX_THREADS);
        let most = self.rules.limit.unwrap_or(self.threads as u8 * self.rounds * self.n.largest());
        assert!(most + self.n.largest() <= LARGEST_PAYLOAD);
        let mut cells = [Cell { payload: 0, link: MARK }; MAX_THREADS + 1];
        cells[0].link = NULL;
        let threads = core::array::from_fn(|t| {
            if t < self.threads {
                Thread::start(Operation::Append, self.rounds, self.rules)
            } else if t < self.threads + self.completers {
                Thread::start(Operation::Complete, self.completions, self.rules)
            } else {
                Thread::DONE
            }
        });
        State { cells, threads }
    }
}

/// What an exhaustive search without a violation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    /// Distinct states, modulo the names of threads.
    pub(crate) states: usize,
    /// Steps taken.
    pub(crate) transitions: usize,
    /// The most steps that a thread needed alone, from any state, to the end of its operation.
    pub(crate) longest_solo: u32,
    /// Removes that ended without having met their own node, because another thread had unlinked it.
    pub(crate) helped: usize,
}

/// A violation and a shortest way to it.
pub(crate) struct Counterexample {
    pub(crate) violation: Violation,
    /// The states on the way. Threads may change names from one to the next.
    pub(crate) trace: Vec<State>,
}

impl fmt::Debug for Counterexample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:?} after {} steps:", self.violation, self.trace.len() - 1)?;
        for state in &self.trace {
            for cell in &state.cells {
                let mark = if cell.link & MARK == 0 { "" } else { "*" };
                write!(f, "({:2} ->{}{mark:1}) ", cell.payload, cell.link & !MARK)?;
            }
            for thread in &state.threads {
                if thread.operation != Operation::Done {
                    write!(f, "| {:?}.{:?} {} ", thread.operation, thread.step, thread.value)?;
                    write!(f, "@{}{:?}", thread.here, (thread.seen.payload, thread.seen.link))?;
                    write!(f, "{:?} ", (thread.next.payload, thread.next.link))?;
                }
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

/// The states found, in the order in which they were found; also the queue of those still to be expanded.
struct Found {
    states: Vec<u128>,
    /// From which state each was found first.
    parents: Vec<u32>,
    /// Open addressing. A slot is 0, or the upper half of the hash and the index in `states` plus 1. The whole state is
    /// compared, so the hash can cost time, never a state.
    slots: Vec<u64>,
}

impl Found {
    fn new() -> Self {
        Self { states: Vec::new(), parents: Vec::new(), slots: vec![0; 1 << 16] }
    }

    fn hash(word: u128) -> u64 {
        // Two odd constants without a pattern (from the golden ratio and the square root of 2).
        let product = u128::from(word as u64 ^ 0x9e37_79b9_7f4a_7c15)
            * u128::from((word >> 64) as u64 ^ 0x6a09_e667_f3bc_c909);
        (product as u64) ^ (product >> 64) as u64
    }

    /// Adds a state; says whether it is new.
    fn insert(&mut self, word: u128, parent: u32) -> bool {
        if self.states.len() * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let hash = Self::hash(word);
        let mask = self.slots.len() - 1;
        let tag = hash >> 32 << 32;
        let mut slot = hash as usize & mask;
        loop {
            match self.slots[slot] {
                0 => break,
                taken if taken >> 32 << 32 == tag && self.states[(taken as u32 - 1) as usize] == word => {
                    return false;
                }
                _ => slot = (slot + 1) & mask,
            }
        }
        self.states.push(word);
        self.parents.push(parent);
        self.slots[slot] = tag | self.states.len() as u64;
        true
    }

    fn grow(&mut self) {
        self.slots = vec![0; self.slots.len() * 2];
        let mask = self.slots.len() - 1;
        for (index, &word) in self.states.iter().enumerate() {
            let hash = Self::hash(word);
            let mut slot = hash as usize & mask;
            while self.slots[slot] != 0 {
                slot = (slot + 1) & mask;
            }
            self.slots[slot] = (hash >> 32 << 32) | (index as u64 + 1);
        }
    }

    fn trace(&self, mut index: u32, last: State) -> Vec<State> {
        let mut trace = vec![last];
        loop {
            trace.push(State::decode(self.states[index as usize]));
            if index == 0 {
                break;
            }
            index = self.parents[index as usize];
        }
        trace.reverse();
        trace
    }
}

/// Visits every reachable state of a configuration and checks all properties.
///
/// # Errors
/// The first violation found, by a shortest way.
pub(crate) fn search(configuration: &Configuration) -> Result<Clean, Counterexample> {
    let Configuration { rules, n: payload_steps, .. } = *configuration;
    // A mutated algorithm must be caught by the four properties, not by the lemmas that their proof uses.
    let lemmas = rules.mutation.is_none();
    let start = configuration.start();
    let mut found = Found::new();
    let mut clean = Clean { states: 0, transitions: 0, longest_solo: 0, helped: 0 };
    found.insert(start.canonical(), 0);
    for t in 0..MAX_THREADS {
        let fail = |violation| Counterexample { violation, trace: vec![start] };
        clean.longest_solo = clean.longest_solo.max(solo(&start, t, payload_steps, rules).map_err(fail)?);
    }
    let mut index = 0;
    while (index as usize) < found.states.len() {
        let before = State::decode(found.states[index as usize]);
        for t in 0..MAX_THREADS {
            let choices = before.choices(t, payload_steps);
            for n in choices.clone() {
                let after = before.advance(t, n, rules);
                clean.transitions += 1;
                clean.helped += usize::from(ended_unmet(&before, &after, t));
                let verdict = check(&before, &after, t, lemmas);
                let verdict = verdict.and_then(|()| {
                    if !found.insert(after.canonical(), index) {
                        return Ok(0);
                    }
                    // A thread's run alone from here was checked from the state before if nothing that it can see
                    // changed; the stepping thread's own if it merely goes on with the same operation.
                    let mut longest = 0;
                    for other in 0..MAX_THREADS {
                        let known = if other == t {
                            n == 1
                                && before.threads[t].rounds == after.threads[t].rounds
                                && before.threads[t].operation == after.threads[t].operation
                        } else {
                            before.cells == after.cells
                        };
                        if !known {
                            longest = longest.max(solo(&after, other, payload_steps, rules)?);
                        }
                    }
                    Ok(longest)
                });
                match verdict {
                    Ok(steps) => clean.longest_solo = clean.longest_solo.max(steps),
                    Err(violation) => {
                        return Err(Counterexample { violation, trace: found.trace(index, after) });
                    }
                }
            }
        }
        index += 1;
    }
    clean.states = found.states.len();
    Ok(clean)
}
