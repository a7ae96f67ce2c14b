//! Physical memory before and below the pmap: where things are, which frames are free, the tables that the
//! kernel boots with, and its heap.

pub(crate) mod frames;
pub(crate) mod heap;
pub(crate) mod layout;
pub(crate) mod tables;

use core::ops::Range;

use crate::boot::{BootInfo, RegionKind};

/// Bytes at the start of memory that are left to the firmware and to the code with which other CPUs begin.
const LOW: u64 = 1 << 20;

/// Sets up the heap. Says whether there is enough memory for one: 32 MiB, and a 60th of all.
///
/// # Safety
///
/// Called once, on the boot CPU, on the temporary tables.
pub(crate) unsafe fn init_heap(info: &BootInfo) -> bool {
    let Some(memory) = heap::place(info) else { return false };
    // SAFETY: once, with memory that belongs to nobody.
    unsafe { heap::init(memory) };
    true
}

/// Sets up frames and the real page tables. `device` is a page of registers that is wanted as well.
///
/// # Safety
///
/// Called once, on the boot CPU, on the temporary tables, after [`init_heap`].
pub(crate) unsafe fn init(info: &BootInfo, device: Option<u64>) {
    let heap = heap::place(info).expect("the heap has found its place before");
    frames::init(ram(info), &[0..LOW, layout::image(), heap, module(info)]);
    // SAFETY: once; the frames are there, and what is used now is in the image, the heap or the direct map.
    unsafe { tables::init(ram(info), device) };
}

/// Where the boot module is, in physical addresses.
fn module(info: &BootInfo) -> Range<u64> {
    info.module.map_or(0..0, |module| {
        let start = module.as_ptr() as u64 - layout::DIRECT_MAP;
        start..start + module.len() as u64
    })
}

/// The RAM of the machine, in whole pages, ascending and apart.
pub(crate) fn ram(info: &BootInfo) -> impl Iterator<Item = Range<u64>> + '_ {
    let ram = info.memory().iter().filter(|region| region.kind == RegionKind::Ram);
    ram.map(|region| region.start.next_multiple_of(pmap::PAGE_SIZE)..region.end & !(pmap::PAGE_SIZE - 1))
        .filter(|range| !range.is_empty())
}
