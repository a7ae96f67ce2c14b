//! The reference: vectors, and recursion from first principles. Shares no code with the graph.

use std::vec::Vec;

/// A wait.
#[derive(Clone, Debug)]
pub(super) struct Wait {
    pub(super) thread: usize,
    pub(super) address: usize,
    pub(super) shared: bool,
    pub(super) token: u64,
    pub(super) owner: Option<usize>,
    pub(super) arrival: u64,
}

/// A share in an address.
#[derive(Clone, Debug)]
pub(super) struct Share {
    pub(super) name: usize,
    pub(super) owner: usize,
    pub(super) address: usize,
    pub(super) level: u64,
}

/// Threads are numbers below `own.len()`.
#[derive(Clone, Debug)]
pub(super) struct Model {
    pub(super) own: Vec<u8>,
    pub(super) waits: Vec<Wait>,
    pub(super) shares: Vec<Share>,
    pub(super) arrivals: u64,
}

impl Model {
    pub(super) fn wait_of(&self, thread: usize) -> Option<&Wait> {
        self.waits.iter().find(|wait| wait.thread == thread)
    }

    pub(super) fn owners(&self, wait: &Wait) -> Vec<usize> {
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

    /// The largest effective priority of those who wait for `thread`.
    pub(super) fn loan(&self, thread: usize) -> Option<u8> {
        self.waits
            .iter()
            .filter(|wait| self.owners(wait).contains(&thread))
            .map(|wait| self.effective(wait.thread))
            .max()
    }

    pub(super) fn effective(&self, thread: usize) -> u8 {
        self.own[thread].max(self.loan(thread).unwrap_or(0))
    }

    /// Whether `from` is `to`, or waits for it, directly or through others.
    pub(super) fn reaches(&self, from: usize, to: usize) -> bool {
        from == to
            || self
                .wait_of(from)
                .is_some_and(|wait| self.owners(wait).into_iter().any(|owner| self.reaches(owner, to)))
    }

    /// The waits on a queue, in the order in which they are to be woken.
    pub(super) fn queue(&self, address: usize, shared: bool) -> Vec<Wait> {
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
