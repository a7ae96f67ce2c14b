//! The start information of the PVH boot protocol (Xen's `include/public/arch-x86/hvm/start_info.h`),
//! by which QEMU's `-kernel` boots an ELF file with the note of `entry.s`.

use super::info::{AcpiRoot, BootInfo, Collector, RegionKind, bytes};
use crate::memory::layout;

const MAGIC: u32 = 0x336e_c578;
/// Type of a region of memory that is free for use.
const RAM: u32 = 1;

#[repr(C)]
struct StartInfo {
    magic: u32,
    version: u32,
    flags: u32,
    module_count: u32,
    modules: u64,
    command_line: u64,
    rsdp: u64,
    memory_map: u64,
    memory_map_entries: u32,
    reserved: u32,
}

#[repr(C)]
struct Module {
    start: u64,
    length: u64,
    command_line: u64,
    reserved: u64,
}

#[repr(C)]
struct MemoryMapEntry {
    start: u64,
    length: u64,
    kind: u32,
    reserved: u32,
}

/// The root system description pointer of ACPI (specification, 5.2.5.3). The first version ends before `length`.
#[repr(C, packed)]
struct Rsdp {
    signature: [u8; 8],
    checksum: u8,
    maker: [u8; 6],
    revision: u8,
    rsdt: u32,
    length: u32,
    xsdt: u64,
}

/// Reads the start information at the physical address `info`.
///
/// # Safety
///
/// It is there, as the protocol says, and is read for the first time.
pub(super) unsafe fn read(info: u64) -> &'static BootInfo {
    // SAFETY: the temporary direct map covers it; the caller says that it is there.
    let start = unsafe { &*layout::direct_map(info).cast::<StartInfo>() };
    assert_eq!(start.magic, MAGIC, "the loader's start information has another magic number");
    let mut collector = Collector::new("pvh");
    if start.command_line != 0 {
        let longest = layout::TEMPORARY_MAP_SIZE - start.command_line;
        // SAFETY: the loader has put the text there; only what precedes its final zero is used.
        let text = unsafe { bytes(start.command_line, longest.min(4096)) };
        // SAFETY: once, says the caller.
        unsafe { collector.command_line(text.unwrap_or(&[])) };
    }
    // SAFETY: version 1 and later have a memory map of so many entries there.
    let map = unsafe { table::<MemoryMapEntry>(start.memory_map, start.memory_map_entries) };
    for entry in map {
        let kind = if entry.kind == RAM { RegionKind::Ram } else { RegionKind::Reserved };
        collector.region(entry.start, entry.length, kind);
    }
    // SAFETY: the loader has put so many modules there, and the first one where its entry says.
    unsafe {
        if let Some(module) = table::<Module>(start.modules, start.module_count).first() {
            collector.module(module.start, module.length);
        }
        if let Some(rsdp) = table::<Rsdp>(start.rsdp, 1).first() {
            collector.acpi(match rsdp.revision {
                0 | 1 => AcpiRoot::Rsdt(rsdp.rsdt.into()),
                _ => AcpiRoot::Xsdt(rsdp.xsdt),
            });
        }
        collector.finish()
    }
}

/// A table of the loader; empty if the temporary map does not cover it.
///
/// # Safety
///
/// There are `count` such entries at `physical`, and nobody writes to them.
unsafe fn table<T>(physical: u64, count: u32) -> &'static [T] {
    // SAFETY: as the caller says.
    match unsafe { bytes(physical, u64::from(count) * size_of::<T>() as u64) } {
        // SAFETY: the loader aligns its tables; so many entries are inside the slice.
        Some(bytes) => unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), count as usize) },
        None => &[],
    }
}
