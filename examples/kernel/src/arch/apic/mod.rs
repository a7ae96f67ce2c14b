//! The local APIC of each CPU: interrupts to other CPUs, and the timer (Intel SDM vol. 3, chapter 12).

mod registers;
pub(crate) mod timer;
mod x2apic;
mod xapic;

use pmap::CpuId;

use super::{percpu, trap};
use registers::Register;

pub(crate) use registers::{Interface, choose, interface};

/// Software enable, in the spurious-interrupt register.
const ENABLE: u32 = 1 << 8;

/// Takes this CPU's local APIC into use.
pub(crate) fn init_cpu() {
    if interface() == Interface::X2apic {
        x2apic::enable();
    }
    registers::write(Register::TaskPriority, 0);
    registers::write(Register::Spurious, ENABLE | u32::from(trap::SPURIOUS));
}

/// The identifier of this CPU's local APIC.
pub(crate) fn id() -> u32 {
    let bits = registers::read(Register::Id);
    if interface() == Interface::X2apic { bits } else { bits >> 24 }
}

/// Tells the local APIC that the interrupt it delivered last has been handled.
pub(crate) fn end_of_interrupt() {
    registers::write(Register::EndOfInterrupt, 0);
}

/// How an interrupt is delivered: bits 10:8 of the command, and its level.
#[derive(Clone, Copy, Debug)]
enum Delivery {
    /// At this vector.
    Fixed(u8),
    /// Resets the CPU.
    Init,
    /// Has a CPU that was reset begin at this page.
    Startup(u8),
}

impl Delivery {
    fn bits(self) -> u32 {
        const ASSERT: u32 = 1 << 14;
        ASSERT
            | match self {
                Self::Fixed(vector) => u32::from(vector),
                Self::Init => 0b101 << 8,
                Self::Startup(page) => 0b110 << 8 | u32::from(page),
            }
    }
}

fn send(apic_id: u32, delivery: Delivery) {
    match interface() {
        Interface::Xapic => xapic::send(apic_id, delivery.bits()),
        Interface::X2apic => x2apic::send(apic_id, delivery.bits()),
    }
}

/// Has `cpu` look whether another thread should run. What was stored before is visible there.
pub(crate) fn send_reschedule(cpu: CpuId) {
    send(percpu::cpu(cpu).apic_id(), Delivery::Fixed(trap::RESCHEDULE));
}

/// Has `cpu` serve shootdowns. What was stored before is visible there.
pub(crate) fn send_shootdown(cpu: CpuId) {
    send(percpu::cpu(cpu).apic_id(), Delivery::Fixed(trap::SHOOTDOWN));
}

/// Resets the CPU whose local APIC has this identifier.
pub(super) fn send_init(apic_id: u32) {
    send(apic_id, Delivery::Init);
}

/// Has a CPU that was reset begin at `address`, a page below 1 MiB.
pub(super) fn send_startup(apic_id: u32, address: u64) {
    send(apic_id, Delivery::Startup((address >> 12) as u8));
}
