//! Recorded virtual-memory traces: the text format, and what it becomes in memory.
//!
//! A trace is gzip-compressed text. Lines that start with `#` are the header; every other line is an
//! [`Event`]: `t_us cpu tid space OP arguments`. The header's `totals` line says how many events of each
//! kind follow, and a trace that does not keep that is refused: it was cut or damaged.

mod bundled;
mod error;
mod event;
mod fields;
mod header;
mod parse;
mod switch;

pub use bundled::{BUNDLED_NAME, bundled};
pub use error::TraceError;
pub use event::{Advice, Event, FaultCode, MapArgs, Op, OpKind};
pub use header::{Header, ObjectInfo, ObjectKind, Totals};
pub use parse::{Trace, load, read};
pub use switch::{SwitchRecord, load_beside, read_switches};
