//! Bits of CR4 and EFER, and which of them a processor permits.

use core::fmt;

use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::{Efer, EferFlags};

use super::features::{CpuFeatures, Features};

/// Bits of CR4 with the feature that each needs.
const CR4: [(Cr4Flags, Features); 22] = [
    (Cr4Flags::VIRTUAL_8086_MODE_EXTENSIONS, Features::VME),
    (Cr4Flags::PROTECTED_MODE_VIRTUAL_INTERRUPTS, Features::VME),
    (Cr4Flags::TIMESTAMP_DISABLE, Features::TSC),
    (Cr4Flags::DEBUGGING_EXTENSIONS, Features::DE),
    (Cr4Flags::PAGE_SIZE_EXTENSION, Features::PSE),
    (Cr4Flags::PHYSICAL_ADDRESS_EXTENSION, Features::PAE),
    (Cr4Flags::MACHINE_CHECK_EXCEPTION, Features::MCE),
    (Cr4Flags::PAGE_GLOBAL, Features::PGE),
    // RDPMC has no bit of its own in CPUID; every processor with 64-bit mode has it.
    (Cr4Flags::PERFORMANCE_MONITOR_COUNTER, Features::LONG_MODE),
    (Cr4Flags::OSFXSR, Features::FXSR),
    (Cr4Flags::OSXMMEXCPT_ENABLE, Features::SSE),
    (Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION, Features::UMIP),
    (Cr4Flags::L5_PAGING, Features::LA57),
    (Cr4Flags::VIRTUAL_MACHINE_EXTENSIONS, Features::VMX),
    (Cr4Flags::SAFER_MODE_EXTENSIONS, Features::SMX),
    (Cr4Flags::FSGSBASE, Features::FSGSBASE),
    (Cr4Flags::PCID, Features::PCID),
    (Cr4Flags::OSXSAVE, Features::XSAVE),
    (Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION, Features::SMEP),
    (Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION, Features::SMAP),
    (Cr4Flags::PROTECTION_KEY_USER, Features::PKU),
    (Cr4Flags::PROTECTION_KEY_SUPERVISOR, Features::PKS),
];

const EFER: [(EferFlags, Features); 7] = [
    (EferFlags::SYSTEM_CALL_EXTENSIONS, Features::SYSCALL),
    (EferFlags::LONG_MODE_ENABLE, Features::LONG_MODE),
    (EferFlags::LONG_MODE_ACTIVE, Features::LONG_MODE),
    (EferFlags::NO_EXECUTE_ENABLE, Features::NX),
    (EferFlags::SECURE_VIRTUAL_MACHINE_ENABLE, Features::SVM),
    (EferFlags::FAST_FXSAVE_FXRSTOR, Features::FFXSR),
    (EferFlags::TRANSLATION_CACHE_EXTENSION, Features::TCE),
];

impl CpuFeatures {
    /// The bits of CR4 that may be set. Others than these raise #GP, and an emulator was seen to hang. CR4.CET is left out:
    /// it needs more than a feature.
    #[must_use]
    pub fn cr4(&self) -> Cr4Flags {
        let offered = CR4.iter().filter(|(_, needs)| self.has(*needs));
        offered.fold(Cr4Flags::empty(), |all, (bit, _)| all | *bit)
    }

    /// The bits of EFER that may be set.
    #[must_use]
    pub fn efer(&self) -> EferFlags {
        let offered = EFER.iter().filter(|(_, needs)| self.has(*needs));
        offered.fold(EferFlags::empty(), |all, (bit, _)| all | *bit)
    }
}

/// Bits of a control register that the processor does not offer; nothing has been written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForbiddenBits(
    /// The bits.
    pub u64,
);

impl fmt::Display for ForbiddenBits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the processor does not offer these bits: {:#x}; see CpuFeatures::cr4 and efer", self.0)
    }
}

impl core::error::Error for ForbiddenBits {}

/// The bits of `wanted` that are not in `offered`, as an error.
pub(super) fn check(wanted: u64, offered: u64) -> Result<(), ForbiddenBits> {
    match wanted & !offered {
        0 => Ok(()),
        beyond => Err(ForbiddenBits(beyond)),
    }
}

/// Sets the bits `set` of CR4 on this CPU and clears the bits `clear`. Others stay.
///
/// # Errors
///
/// [`ForbiddenBits`] if `features` does not offer all that is to be set.
///
/// # Safety
///
/// In ring 0, on a CPU that has `features`. Paging stays valid for what the CPU executes and touches; CR4.PCIDE is set
/// only while bits 11:0 of CR3 are clear, and LA57 is not changed (Intel SDM vol. 3, 4.10.1 and 4.1.1).
pub unsafe fn write_cr4(features: &CpuFeatures, set: Cr4Flags, clear: Cr4Flags) -> Result<(), ForbiddenBits> {
    check(set.bits(), features.cr4().bits())?;
    // SAFETY: every bit that is set is one that the processor has; the rest is the caller's promise.
    unsafe { Cr4::write_raw(Cr4::read_raw() & !clear.bits() | set.bits()) };
    Ok(())
}

/// Sets the bits `set` of EFER on this CPU and clears the bits `clear`. Others stay.
///
/// # Errors
///
/// [`ForbiddenBits`] if `features` does not offer all that is to be set.
///
/// # Safety
///
/// In ring 0, on a CPU that has `features`. No table in use has the no-execute bit set when that is cleared.
pub unsafe fn write_efer(
    features: &CpuFeatures,
    set: EferFlags,
    clear: EferFlags,
) -> Result<(), ForbiddenBits> {
    check(set.bits(), features.efer().bits())?;
    // SAFETY: every bit that is set is one that the processor has; the rest is the caller's promise.
    unsafe { Efer::write_raw(Efer::read_raw() & !clear.bits() | set.bits()) };
    Ok(())
}
