//! The threads that could run and do not: a list for each of 256 priorities, and a bit for each list that is not empty.

use core::cell::Cell;

use pmap::CpuId;

use super::thread::{Held, Thread};

const PRIORITIES: usize = 256;

/// A list through the fields `next` and `previous`.
struct List {
    head: Cell<Option<&'static Thread>>,
    tail: Cell<Option<&'static Thread>>,
}

/// The run queue of all CPUs.
pub(super) struct RunQueue {
    lists: [List; PRIORITIES],
    filled: [Cell<u64>; PRIORITIES / 64],
}

/// At which end of its list a thread queues.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It was interrupted in its turn.
    Front,
    /// It has had its turn, or comes anew.
    Back,
}

impl RunQueue {
    pub(super) const fn new() -> Self {
        Self {
            lists: [const { List { head: Cell::new(None), tail: Cell::new(None) } }; PRIORITIES],
            filled: [const { Cell::new(0) }; PRIORITIES / 64],
        }
    }

    /// Queues a thread by its rank.
    pub(super) fn push(&self, held: &Held, thread: &'static Thread, place: Place) {
        let rank = usize::from(thread.scheduling(held).rank.get());
        let list = &self.lists[rank];
        let (previous, next) = match place {
            Place::Front => (None, list.head.get()),
            Place::Back => (list.tail.get(), None),
        };
        thread.scheduling(held).previous.set(previous);
        thread.scheduling(held).next.set(next);
        Self::link(held, list, previous, next, Some(thread), Some(thread));
        self.filled[rank / 64].set(self.filled[rank / 64].get() | 1 << (rank % 64));
    }

    /// Takes a thread out, by the rank by which it queued.
    pub(super) fn remove(&self, held: &Held, thread: &'static Thread) {
        let rank = usize::from(thread.scheduling(held).rank.get());
        let list = &self.lists[rank];
        let (previous, next) = (thread.scheduling(held).previous.take(), thread.scheduling(held).next.take());
        Self::link(held, list, previous, next, next, previous);
        if list.head.get().is_none() {
            self.filled[rank / 64].set(self.filled[rank / 64].get() & !(1 << (rank % 64)));
        }
    }

    /// Lets what stands before a place name `first` as its next, and what stands behind it `last` as its previous one.
    fn link(
        held: &Held,
        list: &List,
        previous: Option<&'static Thread>,
        next: Option<&'static Thread>,
        first: Option<&'static Thread>,
        last: Option<&'static Thread>,
    ) {
        match previous {
            Some(previous) => previous.scheduling(held).next.set(first),
            None => list.head.set(first),
        }
        match next {
            Some(next) => next.scheduling(held).previous.set(last),
            None => list.tail.set(last),
        }
    }

    /// The most urgent thread that may run on `cpu`, the first among equals.
    pub(super) fn first(&self, held: &Held, cpu: CpuId) -> Option<&'static Thread> {
        let may_run = |thread: &&Thread| {
            let scheduling = thread.scheduling(held);
            !scheduling.is_bound.get() || scheduling.cpu.get() == cpu
        };
        self.filled_ranks().find_map(|rank| {
            let threads = core::iter::successors(self.lists[rank].head.get(), |thread| {
                thread.scheduling(held).next.get()
            });
            threads.into_iter().find(may_run)
        })
    }

    /// The priorities at which threads queue, the most urgent first.
    fn filled_ranks(&self) -> impl Iterator<Item = usize> {
        (0..self.filled.len()).rev().flat_map(|word| {
            let mut bits = self.filled[word].get();
            core::iter::from_fn(move || {
                let bit = bits.checked_ilog2()?;
                bits &= !(1 << bit);
                Some(word * 64 + bit as usize)
            })
        })
    }
}
