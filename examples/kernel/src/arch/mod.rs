//! The processor and its board: what is amd64 and not address translation.

pub(crate) mod exit;
pub(crate) mod interrupt_lock;
pub(crate) mod interrupts;
pub(crate) mod serial;

use core::arch::global_asm;

global_asm!(include_str!("memory.s"), options(att_syntax));
