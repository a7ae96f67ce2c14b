//! What was handed over at boot.

use alloc::format;

use crate::boot::{BootInfo, RegionKind};
use crate::memory::layout;
use crate::programs::arguments::{Arguments, BadArgument};
use crate::programs::report::Report;

/// The command line is understood, and what is wrong in one is refused.
pub(super) fn command_line(report: &mut Report) {
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
pub(super) fn memory_map(report: &mut Report, info: &BootInfo) {
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
    report.check("the ACPI tables are named", info.acpi.is_some(), || "there are none".into());
}
