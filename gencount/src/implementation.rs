//! The names of the implementations.

use core::fmt;
use core::str::FromStr;

/// How a [`Domain`](crate::Domain) keeps its open sections. All implementations keep the same contract.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Implementation {
    /// A doubly linked list under a leaf mutex. Works on every CPU, and is the reference for the others.
    Locked,
    /// A lock-free queue whose link and generation change in one 16-byte compare-exchange.
    Lockfree,
    /// A cache line for each participant, which those who wait scan. Works on every CPU; begin and finish write no
    /// line that another thread writes, and a wait costs more.
    Sharded,
}

impl Implementation {
    /// All implementations.
    pub const ALL: [Self; 3] = [Self::Locked, Self::Lockfree, Self::Sharded];

    /// The name that [`Display`](fmt::Display) prints and [`FromStr`] reads.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Locked => "locked",
            Self::Lockfree => "lockfree",
            Self::Sharded => "sharded",
        }
    }
}

impl fmt::Display for Implementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A name that belongs to no [`Implementation`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UnknownImplementation;

impl fmt::Display for UnknownImplementation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "unknown implementation of generation counting: use \"locked\", \"lockfree\" or \"sharded\"",
        )
    }
}

impl core::error::Error for UnknownImplementation {}

impl FromStr for Implementation {
    type Err = UnknownImplementation;

    fn from_str(name: &str) -> Result<Self, UnknownImplementation> {
        Self::ALL
            .into_iter()
            .find(|implementation| implementation.name() == name)
            .ok_or(UnknownImplementation)
    }
}
