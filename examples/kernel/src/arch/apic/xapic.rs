//! The registers as memory. An access to uncached memory is ordered after all stores before it.

use core::hint::spin_loop;

use super::registers::Register;
use crate::arch::interrupts;
use crate::memory::layout;

/// In the command register: not delivered yet.
const PENDING: u32 = 1 << 12;
/// The upper half of the command register, with the target.
const COMMAND_HIGH: u16 = Register::Command as u16 + 1;

fn address(number: u16) -> *mut u32 {
    (layout::DEVICES + 16 * u64::from(number)) as *mut u32
}

pub(super) fn read(register: Register) -> u32 {
    // SAFETY: the kernel's tables map this CPU's registers there, uncached.
    unsafe { address(register as u16).read_volatile() }
}

pub(super) fn write(register: Register, value: u32) {
    // SAFETY: as above.
    unsafe { address(register as u16).write_volatile(value) };
}

/// Sends a command. Interrupts stay off between its halves: a handler that sends would change the target.
pub(super) fn send(apic_id: u32, command: u32) {
    interrupts::without(|| {
        while read(Register::Command) & PENDING != 0 {
            spin_loop();
        }
        // SAFETY: as above.
        unsafe { address(COMMAND_HIGH).write_volatile(apic_id << 24) };
        write(Register::Command, command);
    });
}
