//! Switches that take one rule of the algorithm away, for tests that show that the checks notice.
//!
//! The switches exist only with the feature `mutations`, which no build of the library for use turns on; without it every
//! query is a constant `false` and the branches vanish.

use crate::observer::Observer;

/// A rule of the algorithm that can be taken away; the explicit-state check has mutations of the same names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[cfg_attr(not(feature = "mutations"), expect(unreachable_pub, reason = "exported with the feature"))]
pub enum Mutation {
    /// A walk advances to the next node without reading the predecessor again.
    NoRecheck,
    /// A walk reads every link before the payload beside it.
    LinkReadBeforePayload,
    /// Append clears the own mark before it raises the own payload.
    LinkPreparedBeforePayload,
    /// Remove reads the own payload before it sets the mark.
    PayloadReadBeforeMark,
    /// A helper donates the payload that it read before it saw the mark.
    HelperKeepsEarlierPayload,
    /// A walk that meets another thread's marked node starts again instead of finishing the removal.
    NoHelping,
    /// Append stores whatever it derived, even below what its node had.
    NoNeverDownRule,
    /// An append that fails leaves the payload that it prepared in its node.
    UnusedPayloadKept,
}

/// Whether the operations of this observer do without a rule.
#[inline]
pub(crate) fn broken(observer: &impl Observer, mutation: Mutation) -> bool {
    #[cfg(feature = "mutations")]
    return observer.mutation() == Some(mutation);
    #[cfg(not(feature = "mutations"))]
    {
        let _ = (observer, mutation);
        false
    }
}
