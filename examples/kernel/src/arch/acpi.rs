//! The one table of ACPI that the kernel needs: which CPUs there are (ACPI specification, 5.2.12, MADT).

use alloc::vec::Vec;

use crate::boot::AcpiRoot;
use crate::memory::layout;

/// What the table says.
pub(crate) struct Madt {
    /// Physical address of the local APICs' registers.
    pub(crate) local_apic: u64,
    /// Identifiers of the local APICs of all CPUs that can be used.
    pub(crate) apic_ids: Vec<u32>,
}

/// Bytes of the header that all tables have.
const HEADER: usize = 36;
const LENGTH_AT: usize = 4;
/// Kinds of entries of the MADT.
const LOCAL_APIC: u8 = 0;
const LOCAL_APIC_ADDRESS: u8 = 5;
const LOCAL_X2APIC: u8 = 9;
/// The CPU can be used.
const ENABLED: u32 = 1;

/// Reads the MADT. `None` if there is none.
///
/// # Safety
///
/// `root` is the firmware's, and its tables are in reach: the temporary page tables are in use.
pub(crate) unsafe fn read(root: AcpiRoot) -> Option<Madt> {
    let (root, width) = match root {
        AcpiRoot::Rsdt(address) => (address, 4),
        AcpiRoot::Xsdt(address) => (address, 8),
    };
    // SAFETY: the root table, as the caller says.
    let root = unsafe { table(root) }?;
    root.get(HEADER..)?.chunks_exact(width).find_map(|address| {
        // SAFETY: a table, as the root table says.
        let table = unsafe { table(number(address, 0, width)?) }?;
        table.starts_with(b"APIC").then(|| parse(table)).flatten()
    })
}

/// The table at a physical address, all of it; `None` if the temporary page tables do not reach it.
///
/// # Safety
///
/// There is one, and nobody writes to it.
unsafe fn table(physical: u64) -> Option<&'static [u8]> {
    if physical == 0 || physical + HEADER as u64 > layout::TEMPORARY_MAP_SIZE {
        return None;
    }
    let start = layout::direct_map(physical);
    // SAFETY: a table has at least its header, which tells its length; it is in the temporary direct map.
    unsafe {
        let length = number(core::slice::from_raw_parts(start, HEADER), LENGTH_AT, 4)?;
        let fits = length >= HEADER as u64 && physical + length <= layout::TEMPORARY_MAP_SIZE;
        fits.then(|| core::slice::from_raw_parts(start, length as usize))
    }
}

fn parse(madt: &[u8]) -> Option<Madt> {
    let mut found = Madt { local_apic: number(madt, HEADER, 4)?, apic_ids: Vec::new() };
    let mut rest = madt.get(HEADER + 8..)?;
    while let [kind, length, ..] = *rest {
        let entry = rest.get(..usize::from(length))?;
        rest = &rest[usize::from(length).max(2)..];
        let (id, flags) = match kind {
            LOCAL_APIC => (number(entry, 3, 1)?, number(entry, 4, 4)?),
            LOCAL_X2APIC => (number(entry, 4, 4)?, number(entry, 8, 4)?),
            LOCAL_APIC_ADDRESS => {
                found.local_apic = number(entry, 4, 8)?;
                continue;
            }
            _ => continue,
        };
        if flags as u32 & ENABLED != 0 {
            found.apic_ids.push(id as u32);
        }
    }
    Some(found)
}

/// The little-endian number of `width` bytes at `at`.
fn number(bytes: &[u8], at: usize, width: usize) -> Option<u64> {
    let mut value = [0; 8];
    value[..width].copy_from_slice(bytes.get(at..at + width)?);
    Some(u64::from_le_bytes(value))
}
