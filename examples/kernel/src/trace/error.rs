//! Why a stream was refused.

use core::fmt;

/// Why a stream was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// It ends before its tables do.
    Short,
    /// It does not start as a stream does.
    NoStream,
    /// It has a version that is not known here.
    Version(u32),
    /// Its sum is not that of its bytes.
    Damaged,
    /// A number in it makes no sense.
    Malformed {
        /// Where: bytes from the start.
        at: usize,
        /// Which.
        what: &'static str,
    },
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => f.write_str("the trace ends too early"),
            Self::NoStream => f.write_str("the file is not a trace for the kernel"),
            Self::Version(version) => write!(f, "the trace has version {version}, which is not known here"),
            Self::Damaged => f.write_str("the trace is damaged: its sum is wrong"),
            Self::Malformed { at, what } => write!(f, "byte {at} of the trace: {what}"),
        }
    }
}
