//! The kernel keeps its hands off user pages, where the processor sees to that.

use alloc::format;

use pmap::bare::{CpuFeatures, Features};
use pmap::{Access, EnterFlags, Frame, PAGE_SIZE, Protection, VirtAddr, VirtRange};
use x86_64::instructions::smap::Smap;

use crate::arch::probe;
use crate::machine::{self, System};
use crate::memory::{frames, layout};
use crate::programs::report::Report;
use crate::sched;

/// Somewhere in the user half.
const PAGE: VirtAddr = VirtAddr(0x70_0000);
/// RET.
const RETURN: u8 = 0xc3;

/// What the kernel could do with the page.
struct Rights {
    reads: bool,
    writes: bool,
    executes: bool,
    reads_with_leave: bool,
}

/// Runs the checks.
pub(super) fn run(report: &mut Report) {
    let (Some(system), Some(frame)) = (machine::system(), frames::allocate()) else {
        return report.check("a pmap and a frame", false, || "there is none".into());
    };
    // SAFETY: the frame is ours, and the direct map is valid for all of it.
    unsafe { layout::direct_map(frame.addr().0).write_bytes(RETURN, PAGE_SIZE as usize) };
    let rights = rights(system, frame);
    frames::free(frame);
    let Some(rights) = rights else {
        return report.check("an address space with a page", false, || "there is no memory".into());
    };
    let features = CpuFeatures::current();
    let (smap, smep) = (features.has(Features::SMAP), features.has(Features::SMEP));
    for (what, can, refused) in [
        ("read user pages", rights.reads, smap),
        ("write user pages", rights.writes, smap),
        ("execute user pages", rights.executes, smep),
    ] {
        let expected = if refused { "cannot" } else { "can, without SMAP and SMEP," };
        report.check(&format!("the kernel {expected} {what}"), can != refused, || format!("it is {can}"));
    }
    report.check("the kernel can read them with leave", rights.reads_with_leave, || "it cannot".into());
}

/// Tries it, in an address space that has only this page. `None` if there is no memory for it.
fn rights(system: &System, frame: Frame) -> Option<Rights> {
    let space = system.create().ok()?;
    let all = Protection::READ | Protection::WRITE | Protection::EXECUTE;
    let entered = space.enter(PAGE, frame, all, Access::Write, EnterFlags::empty());
    let address = core::ptr::with_exposed_provenance_mut::<u8>(PAGE.0 as usize);
    let rights = entered.ok().map(|()| {
        sched::without_preemption(|| {
            space.activate();
            let reads_with_leave = match Smap::new() {
                Some(smap) => smap.without_smap(|| probe::can_read(address)),
                None => probe::can_read(address),
            };
            // SAFETY: the page is full of return instructions, of which one takes another one's place.
            let (writes, executes) =
                unsafe { (probe::can_write(address, RETURN), probe::can_execute(address)) };
            let rights = Rights { reads: probe::can_read(address), writes, executes, reads_with_leave };
            system.activate_kernel();
            rights
        })
    });
    space.remove(VirtRange::page_of(PAGE));
    space.destroy().ok()?;
    rights
}
