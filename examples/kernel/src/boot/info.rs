//! What the kernel needs to know from its loader.

use core::cell::UnsafeCell;

use crate::memory::layout;

/// Longest command line; what is longer is cut off.
const MAX_COMMAND_LINE: usize = 1024;
/// Most regions of memory; more are left unused.
const MAX_REGIONS: usize = 64;

/// Physical address of ACPI's root table, of which there are two forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AcpiRoot {
    /// With addresses of 32 bits.
    Rsdt(u64),
    /// With addresses of 64 bits.
    Xsdt(u64),
}

/// What a region of physical memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionKind {
    /// Memory for anybody.
    Ram,
    /// Memory with something in it, such as the ACPI tables.
    Reserved,
}

/// A region of physical memory, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    /// First address.
    pub(crate) start: u64,
    /// First address behind it.
    pub(crate) end: u64,
    /// What it is.
    pub(crate) kind: RegionKind,
}

/// What the loader told, copied out of its memory.
pub(crate) struct BootInfo {
    /// The kernel's command line.
    pub(crate) command_line: &'static str,
    /// Name of the protocol, for people.
    pub(crate) protocol: &'static str,
    /// The one boot module.
    pub(crate) module: Option<&'static [u8]>,
    /// Where the tables of ACPI begin.
    pub(crate) acpi: Option<AcpiRoot>,
    regions: [Region; MAX_REGIONS],
    region_count: usize,
}

impl BootInfo {
    /// The memory map.
    pub(crate) fn memory(&self) -> &[Region] {
        &self.regions[..self.region_count]
    }
}

/// Collects a [`BootInfo`] while the loader's is read.
pub(super) struct Collector(BootInfo);

impl Collector {
    pub(super) fn new(protocol: &'static str) -> Self {
        Self(BootInfo {
            command_line: "",
            protocol,
            module: None,
            acpi: None,
            regions: [Region { start: 0, end: 0, kind: RegionKind::Reserved }; MAX_REGIONS],
            region_count: 0,
        })
    }

    /// Adds a region of the memory map.
    pub(super) fn region(&mut self, start: u64, length: u64, kind: RegionKind) {
        let end = start.saturating_add(length);
        if self.0.region_count < MAX_REGIONS && start < end {
            self.0.regions[self.0.region_count] = Region { start, end, kind };
            self.0.region_count += 1;
        }
    }

    /// Takes a copy of the command line. What is not ASCII ends it.
    ///
    /// # Safety
    ///
    /// Called once in the life of the kernel.
    pub(super) unsafe fn command_line(&mut self, text: &[u8]) {
        // SAFETY: the only access, says the caller.
        let buffer: &'static mut [u8; MAX_COMMAND_LINE] = unsafe { &mut *COMMAND_LINE.0.get() };
        let length = text.iter().take_while(|byte| byte.is_ascii() && **byte != 0).count();
        let length = length.min(MAX_COMMAND_LINE);
        buffer[..length].copy_from_slice(&text[..length]);
        self.0.command_line = core::str::from_utf8(&buffer[..length]).unwrap_or("");
    }

    /// Notes the boot module, `length` bytes at `physical`. Left out if the temporary tables do not reach it.
    ///
    /// # Safety
    ///
    /// There is such memory, and it is used for nothing else.
    pub(super) unsafe fn module(&mut self, physical: u64, length: u64) {
        // SAFETY: as the caller says.
        self.0.module = unsafe { bytes(physical, length) };
    }

    /// Notes where the tables of ACPI begin.
    pub(super) fn acpi(&mut self, root: AcpiRoot) {
        self.0.acpi = Some(root);
    }

    /// Ends the collection.
    ///
    /// # Safety
    ///
    /// Called once in the life of the kernel.
    pub(super) unsafe fn finish(self) -> &'static BootInfo {
        // SAFETY: the only mutable access, says the caller.
        unsafe { (*INFO.0.get()).insert(self.0) }
    }
}

/// `length` bytes at the physical address `physical`, if the temporary tables reach that far.
///
/// # Safety
///
/// There is such memory, and nobody writes to it while the slice lives.
pub(super) unsafe fn bytes(physical: u64, length: u64) -> Option<&'static [u8]> {
    if physical == 0 || physical.checked_add(length)? > layout::TEMPORARY_MAP_SIZE {
        return None;
    }
    // SAFETY: within the direct map of the temporary tables; the rest as the caller says.
    Some(unsafe { core::slice::from_raw_parts(layout::direct_map(physical), length as usize) })
}

/// Written once, by the boot CPU, before there is another one.
struct Once<T>(UnsafeCell<T>);

// SAFETY: the functions above, of which each is called once, are the only ones that write; by then
// there is one CPU.
unsafe impl<T> Sync for Once<T> {}

static COMMAND_LINE: Once<[u8; MAX_COMMAND_LINE]> = Once(UnsafeCell::new([0; MAX_COMMAND_LINE]));
static INFO: Once<Option<BootInfo>> = Once(UnsafeCell::new(None));
