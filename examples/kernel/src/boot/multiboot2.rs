//! The boot information of Multiboot2, by which GRUB boots an ELF file with the header of `entry.s`.

use multiboot2::{BootInformation, MemoryAreaType};

use super::info::{AcpiRoot, BootInfo, Collector, RegionKind};
use crate::memory::layout;

/// Reads the boot information at the physical address `info`.
///
/// # Safety
///
/// It is there, as the protocol says, and is read for the first time.
pub(super) unsafe fn read(info: u64) -> &'static BootInfo {
    // SAFETY: the temporary direct map covers it; the caller says that it is there.
    let loaded = unsafe { BootInformation::load(layout::direct_map(info).cast_const().cast()) };
    let found = loaded.expect("the loader's boot information is whole");
    let mut collector = Collector::new("multiboot2");
    let command_line = found.command_line_tag().and_then(|tag| tag.cmdline().ok()).unwrap_or("");
    // SAFETY: once, says the caller.
    unsafe { collector.command_line(command_line.as_bytes()) };
    for area in found.memory_map_tag().map_or(&[][..], |map| map.memory_areas()) {
        let is_ram = area.typ() == MemoryAreaType::Available;
        let kind = if is_ram { RegionKind::Ram } else { RegionKind::Reserved };
        collector.region(area.start_address(), area.size(), kind);
    }
    if let Some(module) = found.module_tags().next() {
        // SAFETY: the loader has put it there.
        unsafe { collector.module(module.start_address().into(), module.module_size().into()) };
    }
    if let Some(rsdp) = found.rsdp_v2_tag() {
        collector.acpi(AcpiRoot::Xsdt(rsdp.xsdt_address() as u64));
    } else if let Some(rsdp) = found.rsdp_v1_tag() {
        collector.acpi(AcpiRoot::Rsdt(rsdp.rsdt_address() as u64));
    }
    // SAFETY: once, says the caller.
    unsafe { collector.finish() }
}
