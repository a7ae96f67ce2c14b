//! The registers that both interfaces have.

use core::sync::atomic::{AtomicBool, Ordering};

use pmap::bare::{CpuFeatures, Features};

use super::{x2apic, xapic};

/// How the registers are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Interface {
    /// As memory; identifiers have 8 bits.
    Xapic,
    /// As model-specific registers; identifiers have 32 bits.
    X2apic,
}

/// A register, by its number: its address in units of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub(super) enum Register {
    Id = 0x02,
    TaskPriority = 0x08,
    EndOfInterrupt = 0x0b,
    Spurious = 0x0f,
    Command = 0x30,
    TimerVector = 0x32,
    TimerInitial = 0x38,
    TimerCurrent = 0x39,
    TimerDivide = 0x3e,
}

static X2APIC: AtomicBool = AtomicBool::new(false);

/// Chooses the interface, for all CPUs: the newer one where it exists. On the boot CPU.
pub(crate) fn choose() -> Interface {
    // ORD: Relaxed; before there is another CPU.
    X2APIC.store(CpuFeatures::current().has(Features::X2APIC), Ordering::Relaxed);
    interface()
}

/// The interface that was chosen.
#[inline]
pub(crate) fn interface() -> Interface {
    // ORD: Relaxed; see `choose`.
    if X2APIC.load(Ordering::Relaxed) { Interface::X2apic } else { Interface::Xapic }
}

pub(super) fn read(register: Register) -> u32 {
    match interface() {
        Interface::Xapic => xapic::read(register),
        Interface::X2apic => x2apic::read(register),
    }
}

pub(super) fn write(register: Register, value: u32) {
    match interface() {
        Interface::Xapic => xapic::write(register, value),
        Interface::X2apic => x2apic::write(register, value),
    }
}
