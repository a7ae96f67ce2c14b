//! From the loader to `kmain`: who booted us and what it tells, in one form for both protocols.

mod info;
mod multiboot2;
mod pvh;

use core::arch::global_asm;

pub(crate) use info::{AcpiRoot, BootInfo, RegionKind};

global_asm!(include_str!("entry.s"), options(att_syntax));

/// Who booted us; the numbers are those of `entry.s`.
const PVH: u32 = 0;
const MULTIBOOT2: u32 = 1;

/// Reads what the loader tells, whose address is `info`.
///
/// # Safety
///
/// Called once, from `kmain` with its arguments, on the temporary page tables.
pub(crate) unsafe fn info(protocol: u32, info: u32) -> &'static BootInfo {
    match protocol {
        // SAFETY: `entry.s` passes this protocol together with the address of its start information.
        PVH => unsafe { pvh::read(u64::from(info)) },
        // SAFETY: as above, of its boot information.
        MULTIBOOT2 => unsafe { multiboot2::read(u64::from(info)) },
        other => panic!("entry.s passed protocol {other}"),
    }
}
