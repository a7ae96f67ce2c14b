//! What CPUID says, raw, so that it can be recorded on one machine and read on another.

use core::arch::x86_64::__cpuid_count;

/// What CPUID leaves in four registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Registers {
    /// EAX.
    pub eax: u32,
    /// EBX.
    pub ebx: u32,
    /// ECX.
    pub ecx: u32,
    /// EDX.
    pub edx: u32,
}

/// The leaves from which [`CpuFeatures`](super::CpuFeatures) are read. One that the processor does not have is all zeroes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Cpuid {
    /// Leaf 0: the vendor.
    pub vendor: Registers,
    /// Leaf 1: family, model and features.
    pub basic: Registers,
    /// Leaf 7, subleaf 0: more features.
    pub structured: Registers,
    /// Leaf 1AH: the kind of core, on hybrid processors. The only one that differs between CPUs.
    pub hybrid: Registers,
    /// Leaf 8000_0001H: AMD's features.
    pub extended: Registers,
    /// Leaf 8000_0008H: widths of addresses, and INVLPGB.
    pub widths: Registers,
}

impl Cpuid {
    /// Of the CPU that executes this; in 64-bit mode, since some processors do not own up to SYSCALL elsewhere.
    #[must_use]
    pub fn current() -> Self {
        Self::read(|leaf, subleaf| {
            let found = __cpuid_count(leaf, subleaf);
            Registers { eax: found.eax, ebx: found.ebx, ecx: found.ecx, edx: found.edx }
        })
    }

    /// Of whatever answers `query`, which gets leaf and subleaf. It is asked only for leaves that exist: for others,
    /// processors answer with the last one that they have.
    #[must_use]
    pub fn read(query: impl Fn(u32, u32) -> Registers) -> Self {
        const EXTENDED: u32 = 0x8000_0000;
        let vendor = query(0, 0);
        let last_extended = query(EXTENDED, 0).eax;
        let leaf = |number: u32| {
            let last = if number < EXTENDED { vendor.eax } else { last_extended };
            // The answer for the last extended leaf is noise where there are none at all.
            let exists = number <= last && (number ^ last) & EXTENDED == 0;
            if exists { query(number, 0) } else { Registers::default() }
        };
        Self {
            vendor,
            basic: leaf(1),
            structured: leaf(7),
            hybrid: leaf(0x1a),
            extended: leaf(EXTENDED + 1),
            widths: leaf(EXTENDED + 8),
        }
    }
}
