//! The end of the emulator.

use x86_64::instructions::port::Port;

use super::{interrupts, serial};

/// QEMU's device `isa-debug-exit` at this port ends it with the exit code `2 * value + 1`.
const QEMU_EXIT: u16 = 0xf4;
/// Bochs ends when this word was written here, byte by byte.
const BOCHS_EXIT: u16 = 0x8900;
const BOCHS_WORD: &[u8] = b"Shutdown";

/// What the emulator's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum ExitCode {
    /// Everything was as it should be (QEMU: 33).
    Success = 0x10,
    /// A check failed (QEMU: 35).
    Failure = 0x11,
    /// The command line was wrong (QEMU: 37).
    Usage = 0x12,
    /// The kernel panicked (QEMU: 39).
    Panic = 0x13,
}

/// Ends the emulator; where that is not possible, stops this CPU.
pub(crate) fn exit(code: ExitCode) -> ! {
    // SAFETY: QEMU ends at once; elsewhere nothing is at this port.
    unsafe { Port::new(QEMU_EXIT).write(code as u32) };
    // Bochs ends at once, and what is still on its simulated wire is lost.
    serial::drain();
    for &letter in BOCHS_WORD {
        // SAFETY: Bochs ends after the last letter; elsewhere nothing is at this port.
        unsafe { Port::new(BOCHS_EXIT).write(letter) };
    }
    interrupts::stop()
}
