//! What must hold after every step.

use dcas_queue::Step;

use crate::model::{HEAD, MARK, MAX_THREADS, NULL, Operation, PayloadSteps, Rules, State};

/// A property that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Violation {
    /// INV-Q-1: payloads strictly increase along the queue. (So it has an end.)
    Order,
    /// INV-Q-2: the largest payload ever issued is at the tail, or at the head of the empty queue. Checked as: an
    /// append raises the tail's payload to what it issued, and no other step changes it.
    LargestLost,
    /// INV-Q-3: the head's payload reaches g only when every section that was issued g or less has begun its removal.
    WatermarkPassedOpenSection,
    /// INV-Q-4 (property "progress"): a thread alone does not finish its operation in [`SOLO_BOUND`] steps.
    NoProgress,
    /// INV-Q-6: a pair's payload went down, other than in an append that fails.
    PayloadWentDown,
    /// INV-P-4 and INV-Q-11: a half store to a node in the queue, or an exchange that succeeded on one outside.
    WrongPlace,
    /// INV-P-3: a marked pair changed, other than by its owner's stores.
    NotFrozen,
    /// INV-Q-9: a node is still linked after its `remove` returned.
    StillLinked,
    /// INV-Q-3, the other half: all sections are removed, and the watermark is not the largest payload.
    NotDrained,
}

/// More steps than any operation needs that runs alone: with three nodes the longest takes 20.
pub(crate) const SOLO_BOUND: u32 = 64;

/// The cells linked from the head on, or `None` if the payloads along them do not strictly increase.
fn queue(state: &State) -> Option<([usize; MAX_THREADS + 1], usize)> {
    let mut cells = [HEAD; MAX_THREADS + 1];
    let mut len = 1;
    let mut here = HEAD;
    loop {
        let next = usize::from(state.cells[here].link & !MARK);
        if next == usize::from(NULL) {
            return Some((cells, len));
        }
        // Strict increase bounds the chain by the number of cells.
        if state.cells[next].payload <= state.cells[here].payload {
            return None;
        }
        cells[len] = next;
        len += 1;
        here = next;
    }
}

/// Checks the step that thread `t` took from `before` to `after`, except for progress.
pub(crate) fn check(before: &State, after: &State, t: usize, lemmas: bool) -> Result<(), Violation> {
    let tail = |state: &State| {
        queue(state).map(|(cells, len)| (cells[len - 1], state.cells[cells[len - 1]].payload))
    };
    // Open sections are compared with the head even in a step that changed no cell: the step may have opened one.
    if after.threads.iter().any(|thread| thread.open().is_some_and(|g| after.cells[HEAD].payload >= g)) {
        return Err(Violation::WatermarkPassedOpenSection);
    }
    if after.cells == before.cells {
        return finished(before, after, t, lemmas);
    }
    let (_, old) = tail(before).expect("checked when it was reached");
    let (_, new) = tail(after).ok_or(Violation::Order)?;
    let linked = before.threads[t].step == Step::LinkTail;
    if if linked { new <= old || Some(new) != after.threads[t].open() } else { new != old } {
        return Err(Violation::LargestLost);
    }
    if lemmas {
        placed(before, after, t)?;
    }
    // A failed append puts the payload of the last stay back; nobody ever trusted the other.
    let put_back = before.threads[t].step == Step::RetractPayload;
    if lemmas
        && !put_back
        && core::iter::zip(&before.cells, &after.cells).any(|(old, new)| new.payload < old.payload)
    {
        return Err(Violation::PayloadWentDown);
    }
    finished(before, after, t, lemmas)
}

/// Whether the pair that a step changed was one that such a step may change.
fn placed(before: &State, after: &State, t: usize) -> Result<(), Violation> {
    let (cells, len) = queue(before).expect("checked when it was reached");
    let changed = (0..=MAX_THREADS).filter(|&cell| before.cells[cell] != after.cells[cell]);
    for cell in changed {
        let marked = before.cells[cell].link & MARK != 0;
        let inside = cells[..len].contains(&cell);
        match before.threads[t].step {
            Step::LinkTail | Step::Unlink if marked => return Err(Violation::NotFrozen),
            Step::LinkTail | Step::Unlink | Step::Mark if !inside => return Err(Violation::WrongPlace),
            Step::LinkTail | Step::Unlink | Step::Mark => {}
            _ if inside || cell != t + 1 => return Err(Violation::WrongPlace),
            _ => {}
        }
    }
    Ok(())
}

/// Whether a `remove` of thread `t` ended with this step by coming to the end of the queue: it changed nothing.
pub(crate) fn ended_unmet(before: &State, after: &State, t: usize) -> bool {
    before.threads[t].operation == Operation::Remove
        && after.threads[t].operation != Operation::Remove
        && before.cells == after.cells
}

/// What a `remove` promises on return, and the last one of all.
fn finished(before: &State, after: &State, t: usize, lemmas: bool) -> Result<(), Violation> {
    if before.threads[t].operation != Operation::Remove || after.threads[t].operation == Operation::Remove {
        return Ok(());
    }
    let (cells, len) = queue(after).expect("checked when it was reached");
    if lemmas && cells[..len].contains(&(t + 1)) {
        return Err(Violation::StillLinked);
    }
    let done = |operation| matches!(operation, Operation::Done | Operation::Complete);
    if after.threads.iter().all(|thread| done(thread.operation)) && len != 1 {
        return Err(Violation::NotDrained);
    }
    Ok(())
}

/// Runs thread `t` alone to the end of its operation and returns the number of steps.
pub(crate) fn solo(state: &State, t: usize, n: PayloadSteps, rules: Rules) -> Result<u32, Violation> {
    let mut state = *state;
    let mut steps = 0;
    let rounds = state.threads[t].rounds;
    loop {
        // If it may choose, it takes the smallest: the search comes by the others itself.
        let Some(n) = state.choices(t, n).next() else { return Ok(steps) };
        let operation = state.threads[t].operation;
        state = state.advance(t, n, rules);
        steps += 1;
        if state.threads[t].operation != operation || state.threads[t].rounds != rounds {
            return Ok(steps);
        }
        if steps > SOLO_BOUND {
            return Err(Violation::NoProgress);
        }
    }
}
