//! The registers as model-specific registers.

use core::arch::asm;

use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use super::registers::Register;

/// The first of them.
const BASE: u32 = 0x800;

/// Switches this CPU's local APIC to this interface.
pub(super) fn enable() {
    let (frame, flags) = ApicBase::read();
    // SAFETY: CPUID offers it; from the older interface it is one step.
    unsafe { ApicBase::write(frame, flags | ApicBaseFlags::LAPIC_ENABLE | ApicBaseFlags::X2APIC_ENABLE) };
}

const fn msr(register: Register) -> Msr {
    Msr::new(BASE + register as u32)
}

pub(super) fn read(register: Register) -> u32 {
    // SAFETY: the register exists, and reading changes nothing.
    unsafe { msr(register).read() as u32 }
}

pub(super) fn write(register: Register, value: u32) {
    // SAFETY: the register exists; its users write what it takes.
    unsafe { msr(register).write(u64::from(value)) };
}

/// Sends a command. Unlike a store, writing the register waits for no stores before it (Intel SDM vol. 3, 12.12.3).
pub(super) fn send(apic_id: u32, command: u32) {
    // SAFETY: fences change nothing; the command register takes target and command.
    unsafe {
        asm!("mfence", "lfence", options(nostack, preserves_flags));
        msr(Register::Command).write(u64::from(apic_id) << 32 | u64::from(command));
    }
}
