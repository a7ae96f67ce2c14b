//! The side file that says which address space ran on which CPU.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use super::error::TraceError;
use super::fields::Fields;
use super::parse::lines;

/// From `time` on, `cpu` runs `space`; 0 is idle or something outside the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwitchRecord {
    /// Microseconds since the start of the recording.
    pub time: u32,
    /// CPU.
    pub cpu: u16,
    /// Address space.
    pub space: u32,
}

/// Reads a side file from compressed bytes.
///
/// # Errors
/// If the data is cut off, damaged, or does not follow the format.
pub fn read_switches(name: &str, compressed: impl Read) -> Result<Vec<SwitchRecord>, TraceError> {
    let mut records: Vec<SwitchRecord> = Vec::new();
    lines(name, compressed, |line| {
        if line.starts_with('#') {
            return Ok(());
        }
        let mut f = Fields::new(line);
        let (time, cpu) = (f.decimal("time")?, f.decimal("CPU")?);
        let _tid: u32 = f.decimal("thread")?;
        let space = f.decimal("address space")?;
        f.end()?;
        if records.last().is_some_and(|last| last.time > time) {
            return Err("the time goes back".to_owned());
        }
        records.push(SwitchRecord { time, cpu, space });
        Ok(())
    })?;
    Ok(records)
}

/// Loads the side file of the trace at `trace`: `NAME.switch.gz` beside `NAME.trace.gz`. `None` if there
/// is none.
///
/// # Errors
/// If there is one that cannot be used.
pub fn load_beside(trace: &Path) -> Result<Option<Vec<SwitchRecord>>, TraceError> {
    let Some(stem) = trace.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".trace.gz"))
    else {
        return Ok(None);
    };
    let name = format!("{stem}.switch.gz");
    match File::open(trace.with_file_name(&name)) {
        Ok(file) => read_switches(&name, BufReader::new(file)).map(Some),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TraceError::Io { name, source }),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn records_are_read_in_order() {
        let gz = |text: &str| {
            let mut out = GzEncoder::new(Vec::new(), Compression::fast());
            out.write_all(text.as_bytes()).unwrap();
            out.finish().unwrap()
        };
        let good = read_switches("s", &gz("# format\n0 0 5 0\n7 1 5 2\n")[..]).unwrap();
        assert_eq!(good[1], SwitchRecord { time: 7, cpu: 1, space: 2 });
        for bad in ["5 0 1 0\n4 0 1 0\n", "5 0 1\n", "5 0 1 0 9\n", "x 0 1 0\n"] {
            assert!(read_switches("s", &gz(bad)[..]).is_err(), "{bad}");
        }
    }
}
