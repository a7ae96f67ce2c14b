//! A check that interrupts leave red zone and registers alone, and a gate that does not, to show that the check
//! would notice.

use core::arch::global_asm;

use super::interrupts;

/// Vector of the gate whose handler does what must not be done. Only the kernel itself can enter it.
pub(super) const BARE_GATE: usize = 0x2f;

global_asm!(".set BARE_GATE, {gate}", gate = const BARE_GATE, options(att_syntax));
global_asm!(include_str!("undisturbed.s"), options(att_syntax));

unsafe extern "C" {
    fn undisturbed(bare: u32) -> u32;
    static bare_entry: u8;
}

/// Address of the handler behind the gate.
pub(super) fn bare_entry_address() -> u64 {
    (&raw const bare_entry) as u64
}

/// Takes the interrupts that are pending, at a place where any trace of them shows: how many registers and words
/// have changed. Interrupts are off.
pub(crate) fn take_interrupts() -> u32 {
    assert!(!interrupts::are_enabled(), "an interrupt that is not meant would come too early");
    // SAFETY: interrupts are off again when it returns. It saves nothing because it changes only what a function may.
    unsafe { undisturbed(0) }
}

/// The same with the gate that disturbs. It harms nothing, for the function keeps nothing else in its red zone.
pub(crate) fn enter_bare_gate() -> u32 {
    interrupts::without(|| {
        // SAFETY: as above; the gate is there.
        unsafe { undisturbed(1) }
    })
}
