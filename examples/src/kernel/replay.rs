//! The trace that the kernel replays: chosen, cut to what fits, and encoded.

use serde_json::{Value, json};

use super::encode::encode;
use super::format::Stream;
use super::options::Options;
use crate::error::Error;
use crate::plan::{Placement, fitting, peak, plan};
use crate::replay::Memory;
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
    /// Frames for the contents of pages, if not as many as there are.
    frames: Option<u64>,
}

impl Replay {
    /// For the report.
    pub(super) fn summary(&self) -> Value {
        json!({ "name": self.name, "events": self.events, "recorded_events": self.recorded })
    }

    /// What the kernel is told about it.
    pub(super) fn arguments(&self) -> String {
        self.frames.map_or_else(String::new, |frames| format!(" frames={frames}"))
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
    let frames = options.frames.and_then(|memory| frames(memory, &trace));
    Ok(Replay { name: trace.name, stream, events, recorded, frames })
}

/// How many events fit `mib` of memory. CPUs may run ahead of each other, for which half of it is left.
fn room(trace: &Trace, mib: u32) -> usize {
    let frames = u64::from(mib).saturating_sub(KERNEL_MIB) << 8;
    fitting(trace, frames / 2)
}

/// Frames for the contents of pages; page tables have others.
fn frames(memory: Memory, trace: &Trace) -> Option<u64> {
    match memory {
        Memory::Ample => None,
        Memory::Frames(frames) => Some(frames),
        Memory::Percent(percent) => {
            let peak = peak(trace);
            Some((peak.frames - peak.tables).saturating_mul(u64::from(percent)) / 100)
        }
    }
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

    #[test]
    fn a_percentage_of_the_peak_is_a_number_of_frames() {
        let (trace, _) = trace::bundled().unwrap();
        let all = frames(Memory::Percent(100), &trace).unwrap();
        assert!(all > 1000 && all < peak(&trace).frames, "{all}");
        assert_eq!(frames(Memory::Percent(50), &trace), Some(all / 2));
        assert_eq!(frames(Memory::Frames(7), &trace), Some(7));
        assert_eq!(frames(Memory::Ample, &trace), None);
    }
}
