//! Cycles: what would close one, and who has to give way.
//!
//! A wait, a new owner or a hold that would close a cycle of waits without time limits is refused, and so is a wait with a limit
//! of its own that would close any. Otherwise each cycle has a wait on it that would end by itself, at its limit: that one is ended
//! at once, so whoever has no limit is never refused for the sake of somebody who has one (INV-L-4).

use core::ptr::NonNull;

use super::graph::Graph;
use super::node::Waiter;
use super::report::{Deadlock, Link};
use super::{Ending, Locked};
use crate::fault::{Fault, omits};
use crate::{Address, LendingScheduler, ThreadId};

/// The waiter behind whom the one before it on the way of the last search is.
fn before(waiter: &Waiter) -> Option<&Waiter> {
    // SAFETY: the waiters of a search are linked; callers look before anything is unlinked.
    waiter.came_from.get().map(|before| unsafe { before.as_ref() })
}

/// A way that a change would close to a cycle: the link that closes it, and the last waiter before that, if there are any between.
type Way<'g> = (Link, Option<&'g Waiter>);

impl<const CHAINS: usize> Graph<CHAINS> {
    /// An error if what `from` waits for, directly or through the owners of that and so on, leads to a thread that
    /// `target` knows: that one's answer is the link that would close the cycle. Only waiters that `through` takes count.
    pub(super) fn refuse_cycle(
        &self,
        from: ThreadId,
        through: impl Fn(&Waiter) -> bool,
        target: impl Fn(ThreadId) -> Option<Link>,
    ) -> Result<(), Deadlock> {
        self.find_cycle(from, through, target)
            .map_or(Ok(()), |(closing, last)| Err(self.cycle(closing, last)))
    }

    /// A waiter with a time limit on such a cycle.
    fn limited_on_cycle(&self, from: ThreadId, target: impl Fn(ThreadId) -> Option<Link>) -> Option<&Waiter> {
        let (closing, last) = self.find_cycle(from, |_| true, target)?;
        let way = core::iter::successors(last, |waiter| before(waiter));
        self.blocked(closing.thread).into_iter().chain(way).find(|waiter| waiter.is_limited)
    }

    fn find_cycle(
        &self,
        from: ThreadId,
        through: impl Fn(&Waiter) -> bool,
        target: impl Fn(ThreadId) -> Option<Link>,
    ) -> Option<Way<'_>> {
        // The one that closes it counts too, if it waits already.
        let target =
            |thread| target(thread).filter(|closing| self.blocked(closing.thread).is_none_or(&through));
        if let Some(closing) = target(from) {
            return Some((closing, None));
        }
        let mut found = None;
        self.search(from, &through, |waiter, owner| {
            if found.is_none() {
                found = target(owner).map(|closing| (closing, Some(waiter)));
            }
            found.is_none()
        });
        found
    }

    /// Calls `visit` with each waiter that `from` is held up by, nearest first, and each of its owners, as long as it
    /// says true; not beyond waiters that `through` does not take. A waiter's `came_from` is the one before it on the way, and its
    /// `depth` their number.
    pub(super) fn search<'g>(
        &'g self,
        from: ThreadId,
        through: impl Fn(&Waiter) -> bool,
        mut visit: impl FnMut(&'g Waiter, ThreadId) -> bool,
    ) {
        let search = self.searches.get() + 1;
        self.searches.set(search);
        let enter = |waiter: &Waiter, before: Option<&Waiter>| {
            if through(waiter) && waiter.seen.replace(search) != search {
                waiter.came_from.set(before.map(NonNull::from));
                waiter.depth.set(before.map_or(0, |before| before.depth.get() + 1));
                self.push_work(waiter);
            }
        };
        if let Some(waiter) = self.blocked(from) {
            enter(waiter, None);
        }
        let mut going_on = true;
        while let Some(waiter) = self.pop_work() {
            for owner in self.owners(waiter) {
                going_on = going_on && visit(waiter, owner);
                if going_on
                    && !omits(Fault::NotSearched)
                    && let Some(next) = self.blocked(owner)
                {
                    enter(next, Some(waiter));
                }
            }
        }
    }

    /// The way of the last search that ended at `last`, behind the link that closes the cycle.
    fn cycle(&self, closing: Link, last: Option<&Waiter>) -> Deadlock {
        self.count(|statistics| statistics.deadlocks += 1);
        let length = 1 + last.map_or(0, |last| last.depth.get() + 1);
        let mut deadlock = Deadlock::new(length);
        deadlock.set(0, closing);
        for waiter in core::iter::successors(last, |waiter| before(waiter)) {
            deadlock.set(waiter.depth.get() + 1, Link { thread: waiter.thread, address: waiter.address });
        }
        deadlock
    }
}

impl<S: LendingScheduler, const CHAINS: usize> Locked<'_, S, CHAINS> {
    /// Sees to it that `waiter`, which is not linked yet, can queue without closing a cycle.
    pub(super) fn admit_waiter(&mut self, waiter: &Waiter) -> Result<(), Deadlock> {
        let graph = self.graph;
        let target = |reached| {
            (reached == waiter.thread).then_some(Link { thread: waiter.thread, address: waiter.address })
        };
        for owner in graph.owners(waiter) {
            graph.refuse_cycle(owner, |other| waiter.is_limited || !other.is_limited, target)?;
        }
        // Only now, so that a wait that is refused ends no other.
        for owner in graph.owners(waiter) {
            self.end_limited(owner, target);
        }
        Ok(())
    }

    /// Sees to it that those who wait at `address` with a token of at least `level` can wait for `owner` without closing a cycle.
    pub(super) fn admit_owner(
        &mut self,
        owner: ThreadId,
        address: Address,
        level: u64,
    ) -> Result<(), Deadlock> {
        let graph = self.graph;
        let target = |thread| {
            graph
                .blocked(thread)
                .filter(|waiter| waiter.address == address && waiter.token >= level)
                .map(|_| Link { thread, address })
        };
        graph.refuse_cycle(owner, |waiter| !waiter.is_limited, target)?;
        self.end_limited(owner, target);
        Ok(())
    }

    /// Ends waits with a time limit until no way leads from `from` to `target` any more: one on each such way, all of which have one.
    fn end_limited(&mut self, from: ThreadId, target: impl Fn(ThreadId) -> Option<Link>) {
        let graph = self.graph;
        while !omits(Fault::LimitedNotEnded)
            && let Some(waiter) = graph.limited_on_cycle(from, &target)
        {
            // SAFETY: it was found linked, under this hold of the lock.
            unsafe { self.end(waiter, Ending::TimedOut) };
        }
    }
}
