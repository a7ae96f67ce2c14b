//! Threads as the processor sees them: a stack with registers on it.

use core::arch::global_asm;

use super::trap::{self, TrapFrame};

global_asm!(include_str!("context.s"), options(att_syntax));

unsafe extern "C" {
    fn context_switch(from: *mut usize, to: usize);
}

/// Registers that `context_switch` keeps on the stack.
const SAVED: usize = 6;

/// Makes a new stack whose top is `top` one that [`switch`] can go to: `begin` runs on it then. Returns its stack pointer.
///
/// # Safety
///
/// The memory below `top` is a stack that nobody uses; `top` is a multiple of 16.
pub(crate) unsafe fn prepare(top: usize, begin: extern "C" fn() -> !) -> usize {
    // From above: no caller, the return address of `context_switch`, its registers.
    let words: [usize; SAVED + 2] = [0, 0, 0, 0, 0, 0, begin as usize, 0];
    let stack_pointer = top - size_of_val(&words);
    // SAFETY: as the caller says.
    unsafe { core::ptr::with_exposed_provenance_mut::<[usize; SAVED + 2]>(stack_pointer).write(words) };
    stack_pointer
}

/// Leaves this stack for another one, and stores at `from` where it was left. Returns when somebody switches back.
///
/// # Safety
///
/// With interrupts disabled. `to` was stored by a switch or made by [`prepare`], and is used once. What `from`
/// points to stays until the stack has been left.
pub(crate) unsafe fn switch(from: *mut usize, to: usize) {
    // SAFETY: as the caller says.
    unsafe { context_switch(from, to) }
}

/// Goes on with `frame`, in user mode as a rule. What is on this stack is left behind.
pub(crate) fn enter_user(frame: &TrapFrame) -> ! {
    // SAFETY: a frame is all that is needed to go on with it; it is read before anything overwrites it, for
    // interrupts are off until it is left.
    unsafe { trap::trap_enter(frame) }
}
