//! The kernel's half of the addresses.

/// Where the image's physical address 0 would be.
pub(crate) const KERNEL_BASE: u64 = 0xffff_ffff_8000_0000;
/// Where the direct map of physical memory begins.
pub(crate) const DIRECT_MAP: u64 = 0xffff_8000_0000_0000;
/// How much of physical memory the temporary tables map.
pub(crate) const TEMPORARY_MAP_SIZE: u64 = 4 << 30;

unsafe extern "C" {
    static image_start: u8;
    static image_end: u8;
}

/// Address of the byte at `physical` in the direct map. What lies there, and whether it is mapped, is for
/// the caller to know.
pub(crate) const fn direct_map(physical: u64) -> *mut u8 {
    (DIRECT_MAP + physical) as *mut u8
}

/// The kernel's image with its data and boot stack, in physical addresses.
pub(crate) fn image() -> core::ops::Range<u64> {
    (&raw const image_start) as u64 - KERNEL_BASE..(&raw const image_end) as u64 - KERNEL_BASE
}
