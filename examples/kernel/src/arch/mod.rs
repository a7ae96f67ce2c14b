//! The processor and its board: what is amd64 and not address translation.

pub(crate) mod acpi;
pub(crate) mod apic;
pub(crate) mod context;
pub(crate) mod cpu;
pub(crate) mod descriptors;
pub(crate) mod exit;
pub(crate) mod interrupt_lock;
pub(crate) mod interrupts;
pub(crate) mod percpu;
pub(crate) mod pit;
pub(crate) mod probe;
pub(crate) mod serial;
pub(crate) mod smp;
pub(crate) mod trap;
pub(crate) mod undisturbed;

use core::arch::global_asm;

global_asm!(include_str!("memory.s"), options(att_syntax));
