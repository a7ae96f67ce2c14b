//! What the processor reports, and whom it concerns: the one place where `arch` calls the rest of the kernel.

use pmap::shootdown::Shootdowns;

use crate::arch::trap::{self, TrapFrame};
use crate::{machine, sched};

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
pub(crate) fn page_fault(frame: &mut TrapFrame, _address: u64) {
    trap::report(frame)
}

/// Another exception.
pub(crate) fn exception(frame: &mut TrapFrame) {
    trap::report(frame)
}

/// A system call.
pub(crate) fn system_call(frame: &mut TrapFrame) {
    trap::report(frame)
}

/// The kernel is about to go back to what it interrupted. Interrupts are off, before and after.
pub(crate) fn before_return(_frame: &mut TrapFrame) {
    sched::preempt_if_due();
}
