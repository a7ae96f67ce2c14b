//! Why a trace was refused.

use std::fmt;
use std::io;

use super::event::OpKind;

/// Why a trace or its side file was refused. Each prints as one sentence that names the file.
#[derive(Debug)]
pub enum TraceError {
    /// The file cannot be opened or read.
    Io {
        /// File name.
        name: String,
        /// What the system says.
        source: io::Error,
    },
    /// The compressed data ends too early.
    Truncated {
        /// File name.
        name: String,
    },
    /// The compressed data is damaged, or the file is no gzip file.
    Corrupt {
        /// File name.
        name: String,
        /// What the decompressor says.
        source: io::Error,
    },
    /// A line does not follow the format.
    Line {
        /// File name.
        name: String,
        /// Line number, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The header lacks something.
    Header {
        /// File name.
        name: String,
        /// What is missing.
        what: &'static str,
    },
    /// The events are not those that the header announces.
    Totals {
        /// File name.
        name: String,
        /// Which kind differs; `None` for the sum.
        kind: Option<OpKind>,
        /// Number in the header.
        announced: u64,
        /// Number found.
        found: u64,
    },
}

impl TraceError {
    /// Tells a short file and a damaged one apart by what the decompressor reported.
    pub(super) fn from_read(name: &str, source: io::Error) -> Self {
        let name = name.to_owned();
        match source.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated { name },
            io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => Self::Corrupt { name, source },
            _ => Self::Io { name, source },
        }
    }
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { name, source } => write!(f, "{name}: cannot be read: {source}"),
            Self::Truncated { name } => {
                write!(f, "{name}: the compressed data ends too early; the file was cut off")
            }
            Self::Corrupt { name, source } => {
                write!(f, "{name}: is damaged or not a gzip file ({source})")
            }
            Self::Line { name, line, what } => write!(f, "{name}: line {line}: {what}"),
            Self::Header { name, what } => write!(f, "{name}: the header has no {what}"),
            Self::Totals { name, kind, announced, found } => {
                let kind = kind.map_or("", OpKind::name);
                let space = if kind.is_empty() { "" } else { " " };
                write!(
                    f,
                    "{name}: the header announces {announced} {kind}{space}events, but {found} are there"
                )
            }
        }
    }
}

impl std::error::Error for TraceError {}
