//! Access to memory by address. No Rust object lives in the memory that is mapped and unmapped here, so nothing but these
//! functions touches it.

use core::arch::global_asm;

use crate::call;

global_asm!(include_str!("access.s"), options(att_syntax));

unsafe extern "C" {
    static access_first: u8;
    static access_end: u8;
    static access_failed: u8;
    fn try_store(address: u64, value: u64) -> u32;
    fn try_load(address: u64, out: *mut u64) -> u32;
}

/// Tells the kernel which instructions may fault.
pub(crate) fn set_up() {
    let at = |label: *const u8| label.addr() as u64;
    call::recover(at(&raw const access_first), at(&raw const access_end), at(&raw const access_failed));
}

/// Stores a word if the memory is there and may be written; says whether it was.
pub(crate) fn store_if_possible(address: u64, value: u64) -> bool {
    // SAFETY: the address is one of memory that has no Rust object, or none at all, which only makes it return 0.
    unsafe { try_store(address, value) != 0 }
}

/// The word there, if it can be read.
pub(crate) fn load_if_possible(address: u64) -> Option<u64> {
    let mut value = 0;
    // SAFETY: as above; `value` is ours.
    let loaded = unsafe { try_load(address, &raw mut value) };
    (loaded != 0).then_some(value)
}

/// Stores a word to memory that is there.
pub(crate) fn store(address: u64, value: u64) {
    // SAFETY: aligned, mapped and writable, as the caller has seen to; if not, the kernel ends the process.
    unsafe { core::ptr::with_exposed_provenance_mut::<u64>(address as usize).write_volatile(value) }
}

/// The word there, in memory that is there.
pub(crate) fn load(address: u64) -> u64 {
    // SAFETY: as in `store`.
    unsafe { core::ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
}
