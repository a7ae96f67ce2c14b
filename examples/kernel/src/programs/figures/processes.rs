//! What programs see: system calls, page faults and forks, measured by a program in ring 3.
//!
//! Its page faults go all the way: exception, map of the address space, frame, zeroes, `Pmap::enter`, and back. It runs on one CPU.

use alloc::format;
use alloc::string::{String, ToString as _};

use turnstile::Priority;

use super::meter::Meter;
use crate::abi::{Figure, Role};
use crate::boot::BootInfo;
use crate::machine::System;
use crate::memory::frames;
use crate::process::{Measured, Run};
use crate::programs::report::Report;
use crate::sched::BOOT_CPU;
use crate::vm::{Sizes, Vm};

/// Frames and nothing else, so that nothing is ever taken away; free ones are not guarded.
const SIZES: Sizes = Sizes { frames: 4096, swap: 1, low_water: 0, poisons: false };

/// Measures all of it.
///
/// # Errors
///
/// What is missing, in a sentence.
pub(super) fn measure(
    meter: &mut Meter,
    report: &mut Report,
    system: &'static System,
    info: &'static BootInfo,
) -> Result<(), String> {
    contents(meter, system)?;
    let vm = Vm::new(system, SIZES).map_err(|_| "no memory for the pages of processes".to_string())?;
    let run = Run::new(vm, info.module, Some(BOOT_CPU)).map_err(|error| error.to_string())?;
    let process = run.start(Role::Figures, [0; 4], Priority::NORMAL).map_err(|error| error.to_string())?;
    let status = run.wait(process);
    report.check("the program measures everything", status == Some(0), || format!("status {status:?}"));
    let measured = run.figures();
    // Neighbours of a kind in the order in which they were measured first.
    let mut kinds: alloc::vec::Vec<(Figure, u64)> = alloc::vec::Vec::new();
    for one in &measured {
        if !kinds.contains(&(one.what, one.pages)) {
            kinds.push((one.what, one.pages));
        }
    }
    for (what, pages) in kinds {
        let of_kind = measured.iter().filter(|one| (one.what, one.pages) == (what, pages));
        note(meter, name(what), pages, of_kind.skip(1));
    }
    run.end();
    vm.retire();
    let violations = vm.violations();
    report
        .check("nothing is wrong with the memory", violations.count() == 0, || violations.texts().join("; "));
    Ok(())
}

fn name(what: Figure) -> &'static str {
    match what {
        Figure::Begin => "nothing",
        Figure::Call => "ring 3: system call",
        Figure::ZeroFault => "ring 3: fault, zeroed page",
        Figure::ResidentFault => "ring 3: fault, page in memory",
        Figure::Protect => "ring 3: protect",
        Figure::Unmap => "ring 3: unmap",
        Figure::Fork => "ring 3: fork",
        Figure::CopyFault => "ring 3: fault, copied page",
    }
}

/// Notes the mean of the measurements.
fn note<'a>(meter: &mut Meter, what: &'static str, pages: u64, measured: impl Iterator<Item = &'a Measured>) {
    let (mut times, mut ticks, mut ipis) = (0_u64, 0, 0);
    for one in measured {
        times += 1;
        ticks += one.ticks;
        ipis += one.ipis;
    }
    if times > 0 {
        meter.note(what, (pages, 0), ticks.div_ceil(times), ipis.div_ceil(times));
    }
}

/// What of a fault is zeroing or copying the page.
fn contents(meter: &mut Meter, system: &'static System) -> Result<(), String> {
    let frame = frames::allocate().ok_or("no memory for a page")?;
    let mut zeroed = Ok(());
    meter.measure("zero_page", (1, 0), || {}, || zeroed = system.zero_page(frame), || {});
    let other = frames::allocate().ok_or("no memory for a page")?;
    let mut copied = Ok(());
    meter.measure("copy_page", (1, 0), || {}, || copied = system.copy_page(frame, other), || {});
    frames::free(other);
    frames::free(frame);
    copied.map_err(|error| error.to_string())?;
    zeroed.map_err(|error| error.to_string())
}
