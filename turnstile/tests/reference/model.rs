//! The reference: vectors, and recursion from first principles. Shares no code with the table.

use std::vec::Vec;

/// A wait.
#[derive(Clone, Debug)]
pub(crate) struct Wait {
    pub(crate) thread: usize,
    pub(crate) address: usize,
    pub(crate) shared: bool,
    pub(crate) token: u64,
    pub(crate) owner: Option<usize>,
    pub(crate) arrival: u64,
    /// Whether it would end by itself.
    pub(crate) limited: bool,
}

/// A share in an address.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) name: usize,
    pub(crate) owner: usize,
    pub(crate) address: usize,
    pub(crate) level: u64,
}

/// What may close a cycle.
pub(crate) enum Closing {
    /// A wait that is about to begin.
    Wait(Wait),
    /// Those who wait at the address with at least this token are about to wait for a new owner.
    Owner { owner: usize, address: usize, level: u64 },
}

/// Threads are numbers below `own.len()`.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) own: Vec<u8>,
    pub(crate) waits: Vec<Wait>,
    pub(crate) shares: Vec<Share>,
    pub(crate) arrivals: u64,
}

impl Model {
    pub(crate) fn wait_of(&self, thread: usize) -> Option<&Wait> {
        self.waits.iter().find(|wait| wait.thread == thread)
    }

    pub(crate) fn owners(&self, wait: &Wait) -> Vec<usize> {
        let mut owners: Vec<_> = wait.owner.into_iter().collect();
        owners.extend(
            self.shares
                .iter()
                .filter(|share| share.address == wait.address && share.level <= wait.token)
                .map(|share| share.owner),
        );
        owners.sort_unstable();
        owners.dedup();
        owners
    }

    /// The single owner of an address changes.
    pub(crate) fn own_address(&mut self, address: usize, owner: Option<usize>) {
        self.waits.iter_mut().filter(|wait| wait.address == address).for_each(|wait| wait.owner = owner);
    }

    /// The largest effective priority of those who wait for `thread`.
    pub(crate) fn loan(&self, thread: usize) -> Option<u8> {
        self.waits
            .iter()
            .filter(|wait| self.owners(wait).contains(&thread))
            .map(|wait| self.effective(wait.thread))
            .max()
    }

    pub(crate) fn effective(&self, thread: usize) -> u8 {
        self.own[thread].max(self.loan(thread).unwrap_or(0))
    }

    /// Whether `from` is `to`, or waits for it, directly or through others.
    pub(crate) fn reaches(&self, from: usize, to: usize) -> bool {
        self.reaches_through(from, to, &|_| true)
    }

    /// The same through waits that `through` takes only.
    fn reaches_through(&self, from: usize, to: usize, through: &impl Fn(&Wait) -> bool) -> bool {
        from == to
            || self.wait_of(from).is_some_and(|wait| {
                through(wait)
                    && self.owners(wait).into_iter().any(|owner| self.reaches_through(owner, to, through))
            })
    }

    /// The threads between which a way would be closed to a cycle: from one of the first to one of the second.
    fn ends_of(&self, closing: &Closing) -> (Vec<usize>, Vec<usize>) {
        match closing {
            Closing::Wait(wait) => (self.owners(wait), std::vec![wait.thread]),
            Closing::Owner { owner, address, level } => {
                let concerned =
                    self.waits.iter().filter(|wait| wait.address == *address && wait.token >= *level);
                (std::vec![*owner], concerned.map(|wait| wait.thread).collect())
            }
        }
    }

    /// Whether it would close a cycle of waits that `through` takes.
    fn closes(&self, closing: &Closing, through: &impl Fn(&Wait) -> bool) -> bool {
        let (from, to) = self.ends_of(closing);
        to.into_iter().any(|to| {
            self.wait_of(to).is_none_or(through)
                && from.iter().any(|from| self.reaches_through(*from, to, through))
        })
    }

    /// Whether it is refused: a wait with a limit gives way to all others, and no wait without one gives way.
    pub(crate) fn refuses(&self, closing: &Closing) -> bool {
        let gives_way = matches!(closing, Closing::Wait(wait) if wait.limited);
        self.closes(closing, &|wait| gives_way || !wait.limited)
    }

    /// Whether it is possible after these waits have been ended for it, in some order, and each for a cycle that it was on.
    pub(crate) fn is_possible_without(&self, closing: &Closing, ended: &[usize]) -> bool {
        if ended.is_empty() {
            return !self.closes(closing, &|_| true);
        }
        let (from, to) = self.ends_of(closing);
        ended.iter().any(|who| {
            let on_a_cycle = self.wait_of(*who).is_some_and(|wait| wait.limited)
                && from.iter().any(|from| self.reaches(*from, *who))
                && to.iter().any(|to| self.reaches(*who, *to));
            let mut rest = self.clone();
            rest.waits.retain(|wait| wait.thread != *who);
            let others: Vec<_> = ended.iter().copied().filter(|other| other != who).collect();
            on_a_cycle && rest.is_possible_without(closing, &others)
        })
    }

    /// The waits on a queue, in the order in which they are to be woken.
    pub(crate) fn queue(&self, address: usize, shared: bool) -> Vec<Wait> {
        let mut queue: Vec<_> = self
            .waits
            .iter()
            .filter(|wait| wait.address == address && wait.shared == shared)
            .cloned()
            .collect();
        queue.sort_by_key(|wait| (core::cmp::Reverse(self.effective(wait.thread)), wait.arrival));
        queue
    }
}
