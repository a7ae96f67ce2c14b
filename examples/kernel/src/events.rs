//! What the processor reports, and whom it concerns: the one place where `arch` calls the rest of the kernel.

use pmap::shootdown::Shootdowns;

use x86_64::instructions::interrupts;

use crate::arch::trap::{self, TrapFrame};
use crate::vm::visit;
use crate::{machine, process, sched};

/// The timer of this CPU has ticked. Interrupts are off.
pub(crate) fn tick() {
    sched::tick();
}

/// Another CPU wants translations dropped here. Interrupts are off.
pub(crate) fn shootdown() {
    // Before there is a pmap nobody asks.
    if let Some(system) = machine::system() {
        Shootdowns::serve(system.machine());
    }
}

/// A page fault at `address` that nobody has foreseen.
pub(crate) fn page_fault(frame: &mut TrapFrame, address: u64) {
    if !visit::page_fault(frame, address) {
        process::fault::page_fault(frame, address);
    }
}

/// Another exception.
pub(crate) fn exception(frame: &mut TrapFrame) {
    if !frame.is_user() {
        trap::report(frame);
    }
    process::fault::exception(frame);
}

/// A system call.
pub(crate) fn system_call(frame: &mut TrapFrame) {
    interrupts::enable();
    process::syscall::dispatch(frame);
    interrupts::disable();
}

/// The kernel is about to go back to what it interrupted. Interrupts are off, before and after.
pub(crate) fn before_return(frame: &mut TrapFrame) {
    sched::preempt_if_due();
    // A thread that never calls the kernel is met here at the next tick.
    if frame.is_user() && frame.vector == u64::from(trap::TIMER) {
        process::fault::end_if_dying();
    }
}
