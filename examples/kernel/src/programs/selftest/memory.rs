//! Heap, frames, and the rights of the kernel's own memory.

use alloc::format;
use alloc::vec::Vec;

use pmap::bare::{CpuFeatures, Features};

use crate::arch::probe;
use crate::memory::{frames, heap, layout};
use crate::programs::report::Report;

/// The heap gives what was asked for, and takes it back.
pub(super) fn heap(report: &mut Report) {
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

/// Frames come once each, from RAM that is the pmap's, and go back.
pub(super) fn frames(report: &mut Report) {
    let before = frames::free_count();
    let taken: Vec<_> = (0..1000).map_while(|_| frames::allocate()).collect();
    report.check("there are frames", taken.len() == 1000, || format!("{} of 1000", taken.len()));
    let mut sorted = taken.clone();
    sorted.sort_unstable();
    sorted.dedup();
    report.check("frames come once", sorted.len() == taken.len(), || {
        format!("{} are the same", taken.len() - sorted.len())
    });
    let inside = |frame| {
        frames::ranges().iter().any(|range| (range.start.0..range.start.0 + range.count).contains(&frame))
    };
    let outside = sorted.iter().filter(|frame| !inside(frame.0)).count();
    report.check("frames are RAM of their own", outside == 0, || format!("{outside} are not"));
    taken.into_iter().for_each(frames::free);
    let after = frames::free_count();
    report.check("frames go back", after == before, || format!("{before} free before, {after} after"));
}

/// A return instruction where none is to be executed.
static CONSTANT: [u8; 1] = [RETURN];
/// RET.
const RETURN: u8 = 0xc3;

extern "C" fn nothing() {}

/// Nothing is writable and executable, and what is not needed is refused.
pub(super) fn rights(report: &mut Report) {
    let code = nothing as *const u8;
    let alias = |address: *const u8| layout::direct_map(address as u64 - layout::KERNEL_BASE);
    let (in_code, in_constants) = (code.cast_mut(), CONSTANT.as_ptr().cast_mut());
    // SAFETY: what is written is what is there.
    let writes = unsafe {
        [
            ("code", probe::can_write(in_code, *in_code)),
            ("a constant", probe::can_write(in_constants, RETURN)),
            ("code through the direct map", probe::can_write(alias(in_code), *in_code)),
        ]
    };
    for (what, possible) in writes {
        report.check(&format!("{what} cannot be written"), !possible, || "it can".into());
    }
    let mut data = [RETURN; 16];
    // SAFETY: the stack is ours.
    let writable = unsafe { probe::can_write(data.as_mut_ptr(), RETURN) };
    report.check("data can be written", writable, || "it cannot".into());
    let nowhere = core::ptr::without_provenance(0x1000);
    report.check("nothing is mapped low", !probe::can_read(nowhere), || "there is".into());
    // SAFETY: each is a return instruction.
    let executes = unsafe {
        [
            ("data", probe::can_execute(data.as_ptr())),
            ("a constant", probe::can_execute(CONSTANT.as_ptr())),
            ("code through the direct map", probe::can_execute(alias(return_instruction()))),
        ]
    };
    let has_nx = CpuFeatures::current().has(Features::NX);
    for (what, possible) in executes {
        let expected = if has_nx { "cannot" } else { "can, without NX," };
        report.check(&format!("{what} {expected} be executed"), possible != has_nx, || format!("{possible}"));
    }
    // SAFETY: a return instruction, where code is.
    let executable = unsafe { probe::can_execute(return_instruction()) };
    report.check("code can be executed", executable, || "it cannot".into());
}

/// A return instruction in the kernel's code.
fn return_instruction() -> *const u8 {
    let code = nothing as *const u8;
    // SAFETY: the function has a return instruction, before which there is nothing but code.
    unsafe { (0..64).map(|offset| code.add(offset)).find(|at| **at == RETURN).unwrap_or(code) }
}
