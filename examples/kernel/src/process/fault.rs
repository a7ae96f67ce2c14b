//! Page faults, as the processor reports them.

use pmap::{Access, VirtAddr};
use x86_64::instructions::interrupts;
use x86_64::structures::idt::PageFaultErrorCode as Cause;

use super::Process;
use super::exit_thread;
use crate::arch::trap::{self, TrapFrame};
use crate::vm::copy;

/// What kind of access it was (Intel SDM vol. 3, 4.7).
fn access(cause: Cause) -> Access {
    if cause.contains(Cause::INSTRUCTION_FETCH) {
        Access::Execute
    } else if cause.contains(Cause::CAUSED_BY_WRITE) {
        Access::Write
    } else {
        Access::Read
    }
}

/// Handles the page fault at `address`: in user mode, or in the kernel while it touches user memory for a system call. Returns to go on
/// with the frame.
///
/// # Panics
///
/// If it is the kernel's own mistake.
pub(crate) fn page_fault(frame: &mut TrapFrame, address: u64) {
    let cause = Cause::from_bits_truncate(frame.error_code);
    let user = cause.contains(Cause::USER_MODE);
    let va = VirtAddr(address);
    let foreseen = user || (va.is_user() && copy::covers(frame.rip));
    // An entry that the processor does not understand is nothing that a program could have done.
    if !foreseen || cause.contains(Cause::MALFORMED_TABLE) {
        trap::report(frame);
    }
    // As an ordinary thread from here on: it may block, and be preempted.
    interrupts::enable();
    let Some(process) = Process::current() else {
        panic!("a thread without a process touches user memory, at {:#x}", frame.rip);
    };
    let resolved = process.space().resolve(va, access(cause));
    if let Err(why) = resolved {
        let recovery = *process.recovery().lock();
        if !user {
            copy::fail(frame);
        } else if let Some(recovery) = recovery.filter(|r| (r.first..r.end).contains(&frame.rip)) {
            frame.rip = recovery.resume;
        } else {
            process.kill(format_args!("{why:?}: {:?} of {address:#x} at {:#x}", access(cause), frame.rip));
        }
    }
    let ends = user && process.is_dying();
    drop(process);
    if ends {
        exit_thread(u64::MAX);
    }
    interrupts::disable();
}

/// Ends the process that has done something that the processor does not permit.
pub(crate) fn exception(frame: &TrapFrame) {
    interrupts::enable();
    if let Some(process) = Process::current() {
        process.kill(format_args!("exception {} at {:#x}", frame.vector, frame.rip));
    }
    exit_thread(u64::MAX);
}

/// To be called before the calling thread goes back to user mode after an interrupt: a process that is ended may have a thread
/// that never calls the kernel.
pub(crate) fn end_if_dying() {
    // Whoever asks may have to wait.
    interrupts::enable();
    if Process::current().is_some_and(|process| process.is_dying()) {
        exit_thread(u64::MAX);
    }
    interrupts::disable();
}
