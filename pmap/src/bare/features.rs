//! Features of processors: one CPU's, and what all have in common.

use bitflags::bitflags;

use super::cpuid::Cpuid;
use crate::translation::{Pcid, TlbFeatures};

bitflags! {
    /// What a processor has. Names are the manuals'.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Features: u64 {
        /// Virtual-8086 extensions.
        const VME = 1;
        /// I/O breakpoints.
        const DE = 1 << 1;
        /// 4 MiB pages of 32-bit tables.
        const PSE = 1 << 2;
        /// RDTSC.
        const TSC = 1 << 3;
        /// Tables with entries of 64 bits.
        const PAE = 1 << 4;
        /// Machine-check exceptions.
        const MCE = 1 << 5;
        /// Global translations.
        const PGE = 1 << 6;
        /// Memory types by page.
        const PAT = 1 << 7;
        /// CLFLUSH.
        const CLFLUSH = 1 << 8;
        /// FXSAVE and FXRSTOR.
        const FXSR = 1 << 9;
        /// SSE.
        const SSE = 1 << 10;
        /// Self-snoop: caches stay coherent across aliases of different memory types.
        const SELF_SNOOP = 1 << 11;
        /// CMPXCHG16B.
        const CX16 = 1 << 12;
        /// Process-context identifiers.
        const PCID = 1 << 13;
        /// The local APIC is reached by model-specific registers, too.
        const X2APIC = 1 << 14;
        /// XSAVE.
        const XSAVE = 1 << 15;
        /// VMX.
        const VMX = 1 << 16;
        /// SMX.
        const SMX = 1 << 17;
        /// RDFSBASE and its relatives.
        const FSGSBASE = 1 << 18;
        /// Supervisor code is not fetched from user pages.
        const SMEP = 1 << 19;
        /// Supervisor accesses to user pages are refused unless asked for.
        const SMAP = 1 << 20;
        /// User mode may not execute SGDT and its relatives.
        const UMIP = 1 << 21;
        /// INVPCID.
        const INVPCID = 1 << 22;
        /// CLFLUSHOPT.
        const CLFLUSHOPT = 1 << 23;
        /// CLWB.
        const CLWB = 1 << 24;
        /// Protection keys of user pages.
        const PKU = 1 << 25;
        /// Protection keys of supervisor pages.
        const PKS = 1 << 26;
        /// Shadow stacks or indirect-branch tracking.
        const CET = 1 << 27;
        /// 57-bit addresses.
        const LA57 = 1 << 28;
        /// Cores of different kinds in one package.
        const HYBRID = 1 << 29;
        /// SYSCALL and SYSRET.
        const SYSCALL = 1 << 30;
        /// The no-execute bit.
        const NX = 1 << 31;
        /// 1 GiB pages.
        const GIB_PAGES = 1 << 32;
        /// 64-bit mode.
        const LONG_MODE = 1 << 33;
        /// FXSAVE without XMM registers.
        const FFXSR = 1 << 34;
        /// SVM.
        const SVM = 1 << 35;
        /// Invalidation that spares unrelated upper entries.
        const TCE = 1 << 36;
        /// INVLPGB and TLBSYNC.
        const INVLPGB = 1 << 37;
        /// The processor is not one, but a hypervisor's imitation.
        const HYPERVISOR = 1 << 38;
    }
}

/// Who made the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Vendor {
    /// Intel.
    Intel,
    /// AMD, or Hygon, whose processors are AMD's by design.
    Amd,
    /// Somebody else.
    Other,
}

impl Vendor {
    fn of(cpuid: &Cpuid) -> Self {
        let (b, c, d) = (cpuid.vendor.ebx, cpuid.vendor.ecx, cpuid.vendor.edx);
        let mut name = [0; 12];
        for (four, register) in name.chunks_exact_mut(4).zip([b, d, c]) {
            four.copy_from_slice(&register.to_le_bytes());
        }
        match &name {
            b"GenuineIntel" => Self::Intel,
            b"AuthenticAMD" | b"HygonGenuine" => Self::Amd,
            _ => Self::Other,
        }
    }
}

/// What a processor has, from CPUID; or, see [`common`](Self::common), what several have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct CpuFeatures {
    /// Who made it.
    pub vendor: Vendor,
    /// What it has. To do without something, take it out: everything that follows from it goes with it.
    pub features: Features,
    /// Bytes that CLFLUSH and its relatives work on; 0 without CLFLUSH.
    pub cache_line: u16,
    /// How many pages more than the first one INVLPGB can name.
    pub invlpgb_more: u16,
    /// Width of physical addresses, in bits.
    pub physical_bits: u8,
    /// Width of virtual addresses, in bits, with the most levels of tables that there are.
    pub virtual_bits: u8,
    /// While PCIDs are on, INVLPG on this CPU may leave global translations.
    small_core_erratum: bool,
}

impl CpuFeatures {
    /// Of the CPU that executes this. In 64-bit mode.
    #[must_use]
    pub fn current() -> Self {
        Self::from_cpuid(&Cpuid::current())
    }

    /// What CPUID means.
    #[must_use]
    pub fn from_cpuid(cpuid: &Cpuid) -> Self {
        let vendor = Vendor::of(cpuid);
        let features = offered(cpuid);
        let clflush = features.contains(Features::CLFLUSH);
        let invlpgb = features.contains(Features::INVLPGB);
        let widths = cpuid.widths.eax;
        // Without the leaf: what the first processors with 64-bit mode had.
        let or = |bits: u32, usual: u8| if widths == 0 { usual } else { bits as u8 };
        Self {
            vendor,
            features,
            // Leaf 1, EBX 15:8, in units of 8 bytes.
            cache_line: if clflush { (cpuid.basic.ebx >> 8 & 0xff) as u16 * 8 } else { 0 },
            invlpgb_more: if invlpgb { cpuid.widths.edx as u16 } else { 0 },
            physical_bits: or(widths & 0xff, 36),
            virtual_bits: or(widths >> 8 & 0xff, 48),
            small_core_erratum: vendor == Vendor::Intel && has_small_core_erratum(cpuid),
        }
    }

    /// What both have. For a machine's CPUs taken together: what the pmap is told must be true of all.
    #[must_use]
    pub fn common(&self, other: &Self) -> Self {
        Self {
            vendor: if self.vendor == other.vendor { self.vendor } else { Vendor::Other },
            features: self.features & other.features,
            cache_line: self.cache_line.min(other.cache_line),
            invlpgb_more: self.invlpgb_more.min(other.invlpgb_more),
            physical_bits: self.physical_bits.min(other.physical_bits),
            virtual_bits: self.virtual_bits.min(other.virtual_bits),
            small_core_erratum: self.small_core_erratum || other.small_core_erratum,
        }
    }

    /// Whether it has all of `features`.
    #[must_use]
    pub const fn has(&self, features: Features) -> bool {
        self.features.contains(features)
    }

    /// What [`Machine::tlb_features`](crate::Machine::tlb_features) is to say, provided that CR4.PCIDE and CR4.PGE are set on every CPU if this
    /// has [`Features::PCID`] and [`Features::PGE`]; without the one the other counts for nothing. INVPCID is of no use to the pmap without PCIDs.
    #[must_use]
    pub const fn tlb_features(&self) -> TlbFeatures {
        // Otherwise the kernel's translations, cached under all PCIDs, would outlive an INVLPG.
        let pcid = self.has(Features::PCID.union(Features::PGE));
        TlbFeatures {
            pcids: if pcid { Pcid::COUNT } else { 0 },
            invpcid: self.has(Features::INVPCID),
            invlpgb: if self.has(Features::INVLPGB) { Some(self.invlpgb_more) } else { None },
        }
    }

    /// What [`Machine::invlpg_misses_globals`](crate::Machine::invlpg_misses_globals) is to say on the CPU that this was read on. Microcode
    /// that repairs it is not looked for: invalidating more than needed does no harm.
    #[must_use]
    pub const fn invlpg_misses_globals(&self) -> bool {
        self.small_core_erratum && self.has(Features::PCID)
    }
}

/// Erratum ADL063 and its relatives: the small cores of these processors, and processors that have no others. Below a hypervisor, all
/// of them: it may hide the kind of core, and lets its guests wander from one kind to the other.
fn has_small_core_erratum(cpuid: &Cpuid) -> bool {
    const SMALL: u32 = 0x20;
    let is_guest = cpuid.basic.ecx >> 31 != 0;
    let signature = cpuid.basic.eax;
    let (family, model) = (signature >> 8 & 0xf, (signature >> 4 & 0xf) | (signature >> 12 & 0xf0));
    match (family, model) {
        // Alder Lake and Raptor Lake: the small ones.
        (6, 0x97 | 0x9a | 0xb7 | 0xba | 0xbf) => is_guest || cpuid.hybrid.eax >> 24 == SMALL,
        // Alder Lake N.
        (6, 0xbe) => true,
        _ => false,
    }
}

fn offered(cpuid: &Cpuid) -> Features {
    let Cpuid { basic, structured, extended, widths, .. } = cpuid;
    let rows = [
        (basic.edx, 1, Features::VME),
        (basic.edx, 2, Features::DE),
        (basic.edx, 3, Features::PSE),
        (basic.edx, 4, Features::TSC),
        (basic.edx, 6, Features::PAE),
        (basic.edx, 7, Features::MCE),
        (basic.edx, 13, Features::PGE),
        (basic.edx, 16, Features::PAT),
        (basic.edx, 19, Features::CLFLUSH),
        (basic.edx, 24, Features::FXSR),
        (basic.edx, 25, Features::SSE),
        (basic.edx, 27, Features::SELF_SNOOP),
        (basic.ecx, 5, Features::VMX),
        (basic.ecx, 6, Features::SMX),
        (basic.ecx, 13, Features::CX16),
        (basic.ecx, 17, Features::PCID),
        (basic.ecx, 21, Features::X2APIC),
        (basic.ecx, 26, Features::XSAVE),
        (basic.ecx, 31, Features::HYPERVISOR),
        (structured.ebx, 0, Features::FSGSBASE),
        (structured.ebx, 7, Features::SMEP),
        (structured.ebx, 10, Features::INVPCID),
        (structured.ebx, 20, Features::SMAP),
        (structured.ebx, 23, Features::CLFLUSHOPT),
        (structured.ebx, 24, Features::CLWB),
        (structured.ecx, 2, Features::UMIP),
        (structured.ecx, 3, Features::PKU),
        (structured.ecx, 7, Features::CET),
        (structured.ecx, 16, Features::LA57),
        (structured.ecx, 31, Features::PKS),
        (structured.edx, 15, Features::HYBRID),
        (structured.edx, 20, Features::CET),
        (extended.ecx, 2, Features::SVM),
        (extended.ecx, 17, Features::TCE),
        (extended.edx, 11, Features::SYSCALL),
        (extended.edx, 20, Features::NX),
        (extended.edx, 25, Features::FFXSR),
        (extended.edx, 26, Features::GIB_PAGES),
        (extended.edx, 29, Features::LONG_MODE),
        (widths.ebx, 3, Features::INVLPGB),
    ];
    rows.into_iter()
        .filter(|(register, bit, _)| register >> bit & 1 != 0)
        .map(|(_, _, feature)| feature)
        .collect()
}
