//! Accesses of the kernel that are expected to fault: for checks that what is forbidden is refused.

use core::arch::global_asm;

use x86_64::structures::idt::PageFaultErrorCode;

use super::trap::TrapFrame;

global_asm!(include_str!("probe.s"), options(att_syntax));

unsafe extern "C" {
    fn probe_read(address: *const u8) -> u32;
    fn probe_write(address: *mut u8, byte: u8) -> u32;
    fn probe_execute(address: *const u8) -> u32;
    static probe_read_at: u8;
    static probe_write_at: u8;
    static probe_executed: u8;
    static probe_faulted: u8;
}

/// Whether a read of the byte at `address` is permitted.
pub(crate) fn can_read(address: *const u8) -> bool {
    // SAFETY: reads a byte, or faults, which is foreseen.
    unsafe { probe_read(address) == 0 }
}

/// Whether `byte` can be written to `address`; it is, then.
///
/// # Safety
///
/// Nothing is harmed if it is.
pub(crate) unsafe fn can_write(address: *mut u8, byte: u8) -> bool {
    // SAFETY: writes a byte, which is as the caller says, or faults, which is foreseen.
    unsafe { probe_write(address, byte) == 0 }
}

/// Whether the instructions at `address` can be executed; they are, then.
///
/// # Safety
///
/// There is a return instruction at `address`, and nothing before it.
pub(crate) unsafe fn can_execute(address: *const u8) -> bool {
    // SAFETY: executes a return, or faults, which is foreseen.
    unsafe { probe_execute(address) == 0 }
}

/// Lets a probe go on whose access faulted. Says whether the frame is that of a probe.
pub(super) fn recover(frame: &mut TrapFrame) -> bool {
    // A program may jump anywhere.
    if frame.is_user() {
        return false;
    }
    let at = |symbol: *const u8| frame.rip == symbol as u64;
    let fetch = PageFaultErrorCode::INSTRUCTION_FETCH.bits();
    let is_access = at(&raw const probe_read_at) || at(&raw const probe_write_at);
    if !is_access {
        if frame.error_code & fetch == 0 {
            return false;
        }
        // SAFETY: the kernel's own stack pointer at a fetch that faulted: its stack is there.
        let caller = unsafe { *(frame.rsp as *const u64) };
        if caller != (&raw const probe_executed) as u64 {
            return false;
        }
        frame.rsp += 8;
    }
    frame.rip = (&raw const probe_faulted) as u64;
    true
}
