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
}

/// A share in an address.
#[derive(Clone, Debug)]
pub(crate) struct Share {
    pub(crate) name: usize,
    pub(crate) owner: usize,
    pub(crate) address: usize,
    pub(crate) level: u64,
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
        from == to
            || self
                .wait_of(from)
                .is_some_and(|wait| self.owners(wait).into_iter().any(|owner| self.reaches(owner, to)))
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
