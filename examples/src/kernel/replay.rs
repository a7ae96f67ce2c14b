//! The trace that the kernel replays: chosen, cut to what fits, and encoded.

use serde_json::{Value, json};

use super::encode::encode;
use super::format::Stream;
use super::options::Options;
use crate::error::Error;
use crate::plan::{Placement, fitting, plan};
use crate::trace::{self, Trace};

/// Memory that the kernel needs for itself: its image, its heap, what describes each frame.
const KERNEL_MIB: u64 = 96;

/// A trace, made ready.
pub(super) struct Replay {
    name: String,
    /// What the kernel gets.
    pub(super) stream: Vec<u8>,
    events: usize,
    recorded: usize,
}

impl Replay {
    /// For the report.
    pub(super) fn summary(&self) -> Value {
        json!({ "name": self.name, "events": self.events, "recorded_events": self.recorded })
    }
}

/// Makes the trace of `options` ready for the CPUs and the memory of `options`.
pub(super) fn prepare(options: &Options) -> Result<Replay, Error> {
    let (mut trace, switches) = match &options.trace {
        None => {
            let (trace, switches) = trace::bundled()?;
            (trace, Some(switches))
        }
        Some(file) => (trace::load(file)?, trace::load_beside(file)?),
    };
    let recorded = trace.events.len();
    let events = options.events.map_or_else(|| room(&trace, options.memory), |events| events as usize);
    trace.events.truncate(events);
    let events = trace.events.len();
    if events == 0 {
        return Err(Error::Option(format!(
            "{} MiB have no room for a single event of {}: give --memory a larger number",
            options.memory, trace.name
        )));
    }
    eprintln!("pmaplab: {}: {events} of {recorded} events", trace.name);
    let cpus = usize::from(options.smp);
    let placement = if cpus == trace.header.cpus {
        Placement::Recorded(switches.as_deref().unwrap_or(&[]))
    } else {
        Placement::ByThread
    };
    let plan = plan(&trace, cpus, placement);
    let stream = encode(&trace, &plan);
    // The kernel would refuse it too, but could say less.
    let refused = |e| Error::Broken(format!("the encoded trace cannot be read back: {e}"));
    let opened = Stream::open(&stream).map_err(refused)?;
    for cpu in 0..opened.cpus() {
        opened.steps(cpu).try_for_each(|step| step.map(drop)).map_err(refused)?;
    }
    Ok(Replay { name: trace.name, stream, events, recorded })
}

/// How many events fit `mib` of memory. CPUs may run ahead of each other, for which half of it is left.
fn room(trace: &Trace, mib: u32) -> usize {
    let frames = u64::from(mib).saturating_sub(KERNEL_MIB) << 8;
    fitting(trace, frames / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_cut_to_what_fits() {
        let (trace, _) = trace::bundled().unwrap();
        assert_eq!(room(&trace, 1024), trace.events.len());
        assert_eq!(room(&trace, 16), 0);
        let some = room(&trace, 100);
        assert!(some > 0 && some < trace.events.len(), "{some}");
    }
}
