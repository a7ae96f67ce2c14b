//! From compressed text to events.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use flate2::read::MultiGzDecoder;

use super::error::TraceError;
use super::event::{Advice, Event, FaultCode, MapArgs, Op, OpKind};
use super::fields::{Fields, shown};
use super::header::{Header, Totals};

/// No line of a sound trace comes near this; it bounds what a damaged file can make us hold.
pub(super) const LONGEST_LINE: u64 = 64 * 1024;

/// A trace in memory.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Name to show.
    pub name: String,
    /// The header.
    pub header: Header,
    /// Events in file order.
    pub events: Vec<Event>,
    /// The header's totals, which `events` was found to keep.
    pub totals: Totals,
}

/// Loads the trace in a file.
///
/// # Errors
/// If the file cannot be read, is no gzip file, is cut off, or does not follow the format.
pub fn load(path: &Path) -> Result<Trace, TraceError> {
    let name =
        path.file_name().map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
    match File::open(path) {
        Ok(file) => read(&name, BufReader::new(file)),
        Err(source) => Err(TraceError::Io { name: path.display().to_string(), source }),
    }
}

/// Reads a trace from compressed bytes.
///
/// # Errors
/// As [`load`].
pub fn read(name: &str, compressed: impl Read) -> Result<Trace, TraceError> {
    let mut header = Header::default();
    let mut events = Vec::new();
    let mut found = Totals::default();
    lines(name, compressed, |line| {
        if line.starts_with('#') {
            return header.line(line);
        }
        let event = event(line)?;
        if events.last().is_some_and(|last: &Event| last.time > event.time) {
            return Err("the time goes back".to_owned());
        }
        if usize::from(event.cpu) >= header.cpus {
            return Err(format!("CPU {} is not below the {} CPUs of the header", event.cpu, header.cpus));
        }
        if let Op::Map(args) = &event.op
            && args.object != 0
            && !header.objects.contains_key(&args.object)
        {
            return Err(format!("object {} is not described in the header", args.object));
        }
        found.count(event.op.kind());
        events.push(event);
        Ok(())
    })?;
    let missing = |what| TraceError::Header { name: name.to_owned(), what };
    let totals = header.totals.ok_or_else(|| missing("totals line"))?;
    if header.cpus == 0 {
        return Err(missing("number of CPUs"));
    }
    check_totals(name, &totals, &found)?;
    Ok(Trace { name: short_name(name), header, events, totals })
}

/// Feeds every line of compressed text to `each`, without line ends.
pub(super) fn lines(
    name: &str,
    compressed: impl Read,
    mut each: impl FnMut(&str) -> Result<(), String>,
) -> Result<(), TraceError> {
    let mut input = BufReader::with_capacity(256 * 1024, MultiGzDecoder::new(compressed));
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        let read = input.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line);
        let bad =
            |what: &str| TraceError::Line { name: name.to_owned(), line: number, what: what.to_owned() };
        match read {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) => return Err(TraceError::from_read(name, e)),
        }
        if line.pop() != Some(b'\n') {
            return Err(bad("the line has no end"));
        }
        let text = std::str::from_utf8(&line).map_err(|_| bad("the line is not text"))?;
        each(text).map_err(|what| bad(&what))?;
    }
    Ok(())
}

fn check_totals(name: &str, announced: &Totals, found: &Totals) -> Result<(), TraceError> {
    let differs =
        |kind, announced, found| TraceError::Totals { name: name.to_owned(), kind, announced, found };
    for kind in OpKind::ALL {
        if announced.of(kind) != found.of(kind) {
            return Err(differs(Some(kind), announced.of(kind), found.of(kind)));
        }
    }
    if announced.events == found.events { Ok(()) } else { Err(differs(None, announced.events, found.events)) }
}

fn short_name(name: &str) -> String {
    name.strip_suffix(".gz").unwrap_or(name).trim_end_matches(".trace").to_owned()
}

fn event(line: &str) -> Result<Event, String> {
    let mut f = Fields::new(line);
    let time = f.decimal("time")?;
    let cpu = f.decimal("CPU")?;
    let tid = f.decimal("thread")?;
    let space = f.decimal("address space")?;
    let op = match f.word("event")? {
        "map" => Op::Map(MapArgs {
            range: f.range(false)?,
            protection: f.protection()?,
            shared: match f.word("sharing")? {
                "p" => false,
                "s" => true,
                other => return Err(format!("the sharing \"{}\" is neither p nor s", shown(other))),
            },
            object: f.decimal("object")?,
            first_page: f.hex("page offset")?,
        }),
        "unmap" => Op::Unmap(f.range(false)?),
        "protect" => Op::Protect(f.range(false)?, f.protection()?),
        "fault" => {
            let va = f.address()?;
            let code = f.hex("error code")?;
            Op::Fault(
                va,
                FaultCode(u8::try_from(code).map_err(|_| "the error code is too large".to_owned())?),
            )
        }
        "madv" => Op::Advise(
            f.range(false)?,
            match f.word("advice")? {
                "DONTNEED" | "DONTNEED_LOCKED" | "REMOVE" => Advice::DontNeed,
                "FREE" => Advice::Free,
                _ => Advice::Other,
            },
        ),
        "remap" => Op::Remap(f.range(true)?, f.range(false)?),
        "fork" => Op::Fork(f.decimal("new address space")?),
        "exec" => Op::Exec(f.decimal("new address space")?),
        "exit" => Op::Exit,
        other => return Err(format!("the event \"{}\" is not known", shown(other))),
    };
    if let Op::Fork(new) | Op::Exec(new) = op
        && new == 0
    {
        return Err("0 cannot be a new address space".to_owned());
    }
    if let Op::Map(args) = &op
        && args.first_page.checked_add(args.range.pages()).is_none()
    {
        return Err("the page offset is too large".to_owned());
    }
    f.end()?;
    Ok(Event { time, tid, space, cpu, op })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const GOOD: &str = "# vmtrace format 1\n# workload tiny: a test\n# cpus 2\n# lost_records 0\n\
        # totals events=4 map=1 unmap=0 protect=0 fault=1 madv=0 remap=0 fork=0 exec=1 exit=1\n\
        # obj 2 254:0:7 4096 some file\n\
        0 0 10 0 exec 1\n1 1 10 1 map 1000 2000 3 p 2 0\n1 1 10 1 fault 1234 6\n2 0 10 1 exit\n";

    fn gz(text: &str) -> Vec<u8> {
        let mut out = GzEncoder::new(Vec::new(), Compression::fast());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    }

    fn message(bytes: &[u8]) -> String {
        read("tiny.trace.gz", bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_good_trace_is_read() {
        let trace = read("tiny.trace.gz", &gz(GOOD)[..]).unwrap();
        assert_eq!((trace.name.as_str(), trace.header.cpus, trace.events.len()), ("tiny", 2, 4));
        assert_eq!(trace.header.objects[&2].name, "some file");
        assert_eq!(trace.events[2].op, Op::Fault(VirtAddr(0x1234), FaultCode(6)));
        assert_eq!(trace.totals.of(OpKind::Fault), 1);
    }

    use pmap::VirtAddr;

    #[test]
    fn cut_and_damaged_files_are_refused() {
        let good = gz(GOOD);
        assert!(message(&good[..good.len() / 2]).contains("cut off"));
        assert!(message(&[]).contains("cut off"));
        assert!(message(b"not a gzip file at all").contains("not a gzip file"));
        let mut flipped = good.clone();
        let middle = flipped.len() / 2;
        flipped[middle] ^= 0x55;
        assert!(read("x", &flipped[..]).is_err());
        // Every single cut is refused, and none panics.
        assert!((0..good.len()).all(|n| read("x", &good[..n]).is_err()));
    }

    #[test]
    fn totals_must_match() {
        assert!(
            message(&gz(&GOOD.replace("fault=1", "fault=2"))).contains("announces 2 fault events, but 1")
        );
        assert!(message(&gz(&GOOD.replace("events=4", "events=5"))).contains("announces 5 events"));
        let without: String =
            GOOD.lines().filter(|l| !l.contains("totals")).map(|l| format!("{l}\n")).collect();
        assert!(message(&gz(&without)).contains("no totals line"));
    }

    #[test]
    fn bad_lines_name_the_line_and_the_field() {
        for (from, to, says) in [
            ("fault 1234 6", "fault 12x4 6", "line 9: the address \"12x4\""),
            ("fault 1234 6", "fault 1234", "error code is missing"),
            ("fault 1234 6", "fault 1234 6 7", "follows the last field"),
            ("fault 1234 6", "fault 1234 100", "error code is too large"),
            ("p 2 0", "q 2 0", "neither p nor s"),
            ("p 2 0", "p 3 0", "object 3 is not described"),
            ("p 2 0", "p 2 ffffffffffffffff", "offset is too large"),
            ("1 1 10 1 map", "1 2 10 1 map", "CPU 2 is not below"),
            ("2 0 10 1 exit", "0 0 10 1 exit", "time goes back"),
            ("2 0 10 1 exit", "2 0 10 1 leave", "\"leave\" is not known"),
            ("exec 1", "exec 0", "0 cannot be"),
            ("lost_records 0", "lost_records 5", "lost 5 records"),
            ("format 1", "format 2", "not a format known here"),
        ] {
            let text = message(&gz(&GOOD.replacen(from, to, 1)));
            assert!(text.contains(says), "{text}");
            assert!(!text.contains('\n'), "one sentence: {text}");
        }
        assert!(message(&gz(GOOD.trim_end())).contains("no end"));
    }
}
