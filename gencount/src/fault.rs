//! Steps that a test can leave out, to show that the checks notice. Outside of tests none is ever left out, and the
//! questions vanish when the crate is compiled.

/// A step that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing is left out.
    #[cfg(all(test, feature = "std"))]
    None,
    /// A waiter queues without looking again under the table's lock, and so without lending.
    NoRecheck,
    /// A waiter does not register: not in the waiter count, and, lest the loan word does what the count is for, with no
    /// section.
    WaiterUnregistered,
    /// Nobody who advances the watermark looks at the waiter count, or at the loan word.
    FinishBlind,
    /// Nobody lends.
    NoLending,
    /// A walk that advanced the watermark on behalf of others does not look at the waiter count.
    HelperBlind(crate::waiting::Helper),
    /// A waiter that lends is not in the waiter count.
    LendsUnregistered,
    /// A finish does not look at its loan word.
    LoanIgnored,
    /// `sharded`: a finish that leaves waiters behind does not lend on their behalf.
    NobodyLendsForThoseLeft,
    /// `sharded`: begin does not read the clock again after it has published, and marks with what it read before.
    FirstReading,
    /// `sharded`: the watermark is raised as if the clock had been raised past it.
    NotRaised,
    /// `sharded`: a finish that sees waiters does not look how far the watermark can go.
    FinishDoesNotSettle,
}
