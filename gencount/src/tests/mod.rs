//! Tests that need to see inside, and the faults that they inject.

mod schedules;
mod slots;
mod step;

use crate::waiting::Helper;

/// A step that a test domain leaves out, to show that the tests notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// Nothing is left out.
    None,
    /// A waiter queues without looking again under the chain lock.
    NoRecheck,
    /// A waiter does not register in the waiter count.
    WaiterUnregistered,
    /// Nobody who advances the watermark looks at the waiter count.
    FinishBlind,
    /// A begin that advanced the watermark on behalf of others does not look at the waiter count.
    HelperBlind(Helper),
}
