//! The kernel's half of the addresses.

use core::ops::Range;

use pmap::{VirtAddr, VirtRange};

/// Where the image's physical address 0 would be.
pub(crate) const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where the direct map of physical memory begins.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// Where pages for `System::kenter` and its relatives are: a slot of the top-level table of its own.
const KERNEL_WINDOW: u64 = 0xffff_a000_0000_0000;
const KERNEL_WINDOW_SIZE: u64 = 16 << 20;
/// Where registers of devices are mapped, uncached.
pub(crate) const DEVICES: u64 = 0xffff_b000_0000_0000;
/// Bytes of a large page.
pub(crate) const LARGE_PAGE: u64 = 2 << 20;
/// How much of physical memory the temporary tables map.
pub(crate) const TEMPORARY_MAP_SIZE: u64 = 4 << 30;

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
    static boot_stack_end: u8;
    static text_start: u8;
    static rodata_start: u8;
    static data_start: u8;
}

/// Address of the byte at `physical` in the direct map. What lies there, and whether it is mapped, is for
/// the caller to know.
pub(crate) const fn direct_map(physical: u64) -> *mut u8 {
    (DIRECT_MAP + physical) as *mut u8
}

/// The kernel's image with its data and boot stack, in physical addresses.
pub(crate) fn image() -> Range<u64> {
    (&raw const image_start) as u64 - KERNEL_BASE..(&raw const image_end) as u64 - KERNEL_BASE
}

/// The parts of the image, each beginning at a large page of its own: code, constants, data.
pub(crate) fn image_parts() -> [Range<u64>; 3] {
    let starts =
        [&raw const text_start, &raw const rodata_start, &raw const data_start, &raw const image_end];
    let [text, rodata, data, end] = starts.map(|start| start as u64 - KERNEL_BASE);
    [text..rodata, rodata..data, data..end]
}

/// See [`KERNEL_WINDOW`].
pub(crate) fn kernel_window() -> VirtRange {
    let end = VirtAddr(KERNEL_WINDOW + KERNEL_WINDOW_SIZE);
    VirtRange::new(VirtAddr(KERNEL_WINDOW), end).expect("the bounds are those of pages")
}

/// Top of the stack on which the boot CPU begins.
pub(crate) fn boot_stack_top() -> usize {
    (&raw const boot_stack_end).addr()
}
