//! Is the kernel what it should be on this machine?

use alloc::format;

use super::arguments::{Arguments, BadArgument};
use super::report::Report;
use crate::boot::{BootInfo, RegionKind};
use crate::memory::{heap, layout};

/// Runs the self-test.
pub(crate) fn run(_arguments: &Arguments, info: &'static BootInfo) -> Report {
    let mut report = Report::new("selftest");
    command_line(&mut report);
    memory_map(&mut report, info);
    memory(&mut report);
    report
}

/// The command line is understood, and what is wrong in one is refused.
fn command_line(report: &mut Report) {
    let read = Arguments::parse("program=torture seconds=7  seed=9");
    let right = read.is_ok_and(|read| (read.program, read.seconds, read.seed) == ("torture", 7, 9));
    report.check("the command line is read", right, || format!("{:?}", Arguments::parse("seconds=7")));
    for (line, error) in [
        ("quiet", BadArgument::NotAPair("quiet")),
        ("colour=red", BadArgument::UnknownKey("colour")),
        ("seconds=soon", BadArgument::BadValue { key: "seconds", value: "soon" }),
    ] {
        let read = Arguments::parse(line);
        let refused = read.as_ref().is_err_and(|found| *found == error);
        report.check(&format!("`{line}` is refused"), refused, || format!("{read:?}"));
    }
}

/// The memory map is one: there is RAM, the image lies in it, and no two pieces of RAM overlap.
fn memory_map(report: &mut Report, info: &BootInfo) {
    let ram = || info.memory().iter().filter(|region| region.kind == RegionKind::Ram);
    let bytes: u64 = ram().map(|region| region.end - region.start).sum();
    report.figure("ram_mib", bytes >> 20);
    let image = layout::image();
    let inside = ram().any(|region| region.start <= image.start && image.end <= region.end);
    report.check("the image lies in RAM", inside, || format!("{image:x?} is in no region"));
    let apart = ram().enumerate().all(|(index, region)| {
        ram().skip(index + 1).all(|other| region.end <= other.start || other.end <= region.start)
    });
    report.check("regions of RAM are apart", apart, || format!("{:x?}", info.memory()));
    report.check("the ACPI tables are named", info.rsdp.is_some(), || "there is no RSDP".into());
}

/// The heap gives what was asked for, and takes it back.
fn memory(report: &mut Report) {
    let before = heap::free();
    let block = alloc::vec![0xa5_u8; 1 << 20];
    let taken = before - heap::free();
    report.check("the heap's accounts", taken >= block.len(), || format!("{taken} bytes for 1 MiB"));
    let intact = block.iter().all(|byte| *byte == 0xa5);
    report.check("the heap's memory", intact, || "it does not keep what was written".into());
    drop(block);
    let after = heap::free();
    report.check("the heap takes back", after == before, || format!("{before} bytes before, {after} after"));
}
