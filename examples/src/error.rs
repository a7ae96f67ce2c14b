//! What can go wrong, in one sentence each, and the exit code that belongs to it.

use std::fmt;
use std::path::PathBuf;

use crate::trace::TraceError;

/// Exit code of a run whose checks all held.
pub const EXIT_OK: u8 = 0;
/// Exit code of a run in which a check failed.
pub const EXIT_FAILED: u8 = 1;
/// Exit code for wrong usage or unusable input.
pub const EXIT_INPUT: u8 = 2;

/// Why `pmaplab` could not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// A trace or its side file cannot be used.
    Trace(TraceError),
    /// An option has a value that makes no sense.
    Option(String),
    /// Physical memory is too small for what was asked.
    Memory {
        /// Frames that the machine had.
        frames: u64,
        /// What could not be had, as the end of the sentence "… frames are not enough for".
        what: &'static str,
    },
    /// The machine or the pmap could not be set up.
    Setup(String),
    /// Something that cannot happen as long as the pmap keeps its promises; counts as a failed check.
    Broken(String),
    /// Ctrl-C, or a signal that asked the program to end; no check has held or failed.
    Interrupted,
    /// A file could not be written.
    Write {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Error {
    /// The exit code for this error.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Broken(_) | Self::Interrupted => EXIT_FAILED,
            _ => EXIT_INPUT,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Trace(e) => e.fmt(f),
            Self::Option(what) | Self::Setup(what) | Self::Broken(what) => f.write_str(what),
            Self::Memory { frames, what } => {
                write!(
                    f,
                    "{frames} frames of physical memory are not enough for {what}: give --frames a larger number"
                )
            }
            Self::Interrupted => f.write_str("interrupted"),
            Self::Write { path, source } => write!(f, "cannot write {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {}

impl From<TraceError> for Error {
    fn from(e: TraceError) -> Self {
        Self::Trace(e)
    }
}
