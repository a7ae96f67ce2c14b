//! The trace that comes with the program.

use super::error::TraceError;
use super::parse::{Trace, read};
use super::switch::{SwitchRecord, read_switches};

/// Name of the bundled trace.
pub const BUNDLED_NAME: &str = "parallel-compile";

/// The bundled trace: the first part of a recorded `make -j4` of a C program. Compiled into the program,
/// so that it is there wherever the program is.
///
/// # Errors
/// Only if the program was built with a damaged copy.
pub fn bundled() -> Result<(Trace, Vec<SwitchRecord>), TraceError> {
    let trace = read(BUNDLED_NAME, &include_bytes!("../../traces/parallel-compile.trace.gz")[..])?;
    let switches =
        read_switches(BUNDLED_NAME, &include_bytes!("../../traces/parallel-compile.switch.gz")[..])?;
    Ok((trace, switches))
}
