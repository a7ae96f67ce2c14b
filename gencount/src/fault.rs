//! Steps that a test can leave out, to show that the checks notice. Outside of tests none is ever left out, and the
//! questions vanish when the crate is compiled.

/// A step that can be left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing is left out.
    #[cfg(all(test, feature = "std"))]
    None,
    /// A waiter queues without looking again under the table's lock.
    NoRecheck,
    /// A waiter does not register in the waiter count.
    WaiterUnregistered,
    /// Nobody who advances the watermark looks at the waiter count.
    FinishBlind,
    /// A walk that advanced the watermark on behalf of others does not look at the waiter count.
    HelperBlind(crate::waiting::Helper),
    /// `sharded`: begin does not read the clock again after it has published, and marks with what it read before.
    FirstReading,
    /// `sharded`: the watermark is raised as if the clock had been raised past it.
    NotRaised,
    /// `sharded`: a finish that sees waiters does not look how far the watermark can go.
    FinishDoesNotSettle,
}
