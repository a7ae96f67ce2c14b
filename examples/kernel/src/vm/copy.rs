//! Bytes between the kernel and user addresses of the current address space.
//!
//! Only here does the kernel touch user addresses: with SMAP, between STAC and CLAC. Pages that are not there come by page faults, as for
//! the program itself.

use core::arch::global_asm;

use pmap::VirtAddr;
use x86_64::instructions::smap::Smap;

use crate::arch::trap::TrapFrame;

global_asm!(include_str!("copy.s"), options(att_syntax));

unsafe extern "C" {
    fn copy_user(to: *mut u8, from: *const u8, bytes: usize) -> usize;
    static copy_user_move: u8;
    static copy_user_moved: u8;
    static copy_user_failed: u8;
}

/// The program has no such memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BadAddress;

/// Whether the instruction at `rip` may touch user memory.
pub(crate) fn covers(rip: u64) -> bool {
    ((&raw const copy_user_move).addr()..(&raw const copy_user_moved).addr()).contains(&(rip as usize))
}

/// Has the copy whose instruction faulted end early.
pub(crate) fn fail(frame: &mut TrapFrame) {
    frame.rip = (&raw const copy_user_failed).addr() as u64;
}

/// Reads `to.len()` bytes of the current address space at `from`.
///
/// # Errors
///
/// [`BadAddress`]; some bytes may have been read.
pub(crate) fn copy_in(from: VirtAddr, to: &mut [u8]) -> Result<(), BadAddress> {
    check(from, to.len())?;
    // SAFETY: `to` is the kernel's to write; the source is user memory, for which `access` cares.
    unsafe { access(to.as_mut_ptr(), core::ptr::with_exposed_provenance(from.0 as usize), to.len()) }
}

/// Writes `from` to the current address space at `to`.
///
/// # Errors
///
/// [`BadAddress`]; some bytes may have been written.
pub(crate) fn copy_out(to: VirtAddr, from: &[u8]) -> Result<(), BadAddress> {
    check(to, from.len())?;
    // SAFETY: as in `copy_in`; no Rust object lives at user addresses.
    unsafe { access(core::ptr::with_exposed_provenance_mut(to.0 as usize), from.as_ptr(), from.len()) }
}

/// Whether all of it is in the user half.
fn check(va: VirtAddr, bytes: usize) -> Result<(), BadAddress> {
    let end = va.0.checked_add(bytes as u64).map(VirtAddr);
    end.filter(|end| va.is_user() && *end <= pmap::USER_END).map(|_| ()).ok_or(BadAddress)
}

/// # Safety
///
/// One side is `bytes` bytes of user addresses, the other one is valid for the kernel.
unsafe fn access(to: *mut u8, from: *const u8, bytes: usize) -> Result<(), BadAddress> {
    let copy = || {
        // SAFETY: valid as the caller says, or user memory: then a fault that cannot be resolved ends the copy.
        unsafe { copy_user(to, from, bytes) }
    };
    let left = match Smap::new() {
        Some(smap) => smap.without_smap(copy),
        None => copy(),
    };
    if left == 0 { Ok(()) } else { Err(BadAddress) }
}
