//! Steps that a test can leave out, to show that the checks notice. Outside of unit tests none is ever left out, and the
//! questions vanish when the crate is compiled.

/// A step that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// What is taken back from an owner is not recomputed from what others still lend to it.
    NotRecomputed,
    /// An owner that is blocked itself does not pass on what it is lent.
    NotTransitive,
    /// A waiter that moves to its new place in the queue does not keep its arrival.
    ArrivesAnew,
    /// A way that leads back over more than one owner is not searched.
    NotSearched,
    /// A wait with a time limit stays on a cycle that somebody closes.
    LimitedNotEnded,
    /// A wait that times out leaves its loan behind.
    NotTakenBack,
    /// A thread queues without looking again under the chain lock.
    NoRecheck,
    /// A thread queues for a mutex without setting the waiters' bit.
    NoWaitersBit,
    /// A mutex is handed over without naming its owner to the table.
    NotClaimed,
    /// A mutex is unlocked without the order of a release.
    UnlockRelaxed,
    /// A reader writes its slot only after it has entered.
    SlotLate,
    /// A reader clears its slot without looking at what it clears.
    ClearedInTwoSteps,
}

/// Whether a test has left the step out.
#[inline]
pub(crate) fn omits(_fault: Fault) -> bool {
    #[cfg(test)]
    return LEFT_OUT.get() == Some(_fault);
    #[cfg(not(test))]
    false
}

#[cfg(test)]
std::thread_local! {
    static LEFT_OUT: core::cell::Cell<Option<Fault>> = const { core::cell::Cell::new(None) };
}

/// Runs `body` on this thread of the host with the step left out. (The checkers of interleavings run all their threads on one.)
#[cfg(all(test, any(feature = "std", turnstile_loom, turnstile_shuttle)))]
pub(crate) fn without<R>(fault: Fault, body: impl FnOnce() -> R) -> R {
    struct Restored;
    impl Drop for Restored {
        fn drop(&mut self) {
            LEFT_OUT.set(None);
        }
    }
    let _restored = Restored;
    LEFT_OUT.set(Some(fault));
    body()
}
