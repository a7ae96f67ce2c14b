//! The processor's interface to cached translations: CR3 with PCIDs, INVPCID, INVLPGB.
//!
//! Names and meanings are the manuals': Intel SDM vol. 3, 4.10, and AMD APM vol. 3, INVLPGB and TLBSYNC. What
//! is asked of a [`Machine`](crate::Machine) is exactly what the instruction must drop; it may always drop more.

use crate::addr::{Frame, VirtAddr};

/// A process-context identifier: the tag by which one CPU tells the cached translations of different address
/// spaces apart. Means nothing on another CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pcid(u16);

impl Pcid {
    /// Identifiers that the architecture has: they are 12 bits wide.
    pub const COUNT: u16 = 1 << 12;
    /// The kernel's own, under which no user translation is ever made; the only one without PCIDs.
    pub const KERNEL: Self = Self(0);

    /// The identifier with this number; `None` if it is not below [`COUNT`](Self::COUNT).
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number < Self::COUNT { Some(Self(number)) } else { None }
    }

    /// Its number, as CR3 and INVPCID take it.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0
    }
}

/// What is written to CR3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cr3 {
    /// The root table, bits 51:12.
    pub root: Frame,
    /// Bits 11:0; [`Pcid::KERNEL`] on a machine that has no PCIDs.
    pub pcid: Pcid,
    /// Bit 63: what is cached under `pcid` stays usable. Never set without PCIDs.
    pub no_flush: bool,
}

impl Cr3 {
    /// The register's value.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.root.addr().0 | self.pcid.0 as u64 | (self.no_flush as u64) << 63
    }

    /// The fields of a register's value.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self {
            root: Frame((bits & 0x000f_ffff_ffff_f000) >> 12),
            pcid: Pcid((bits & 0xfff) as u16),
            no_flush: bits >> 63 != 0,
        }
    }
}

/// The four types of INVPCID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Invpcid {
    /// Type 0: translations of one address under one PCID, global ones excepted.
    Address {
        /// The identifier.
        pcid: Pcid,
        /// The address.
        va: VirtAddr,
    },
    /// Type 1: everything under one PCID, global translations excepted.
    Context {
        /// The identifier.
        pcid: Pcid,
    },
    /// Type 2: everything, under all PCIDs, and global translations.
    AllWithGlobals,
    /// Type 3: everything under all PCIDs, global translations excepted.
    AllButGlobals,
}

/// By how much INVLPGB moves on from one page to the next (ECX bit 31).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stride {
    /// 4 KiB.
    Page,
    /// 2 MiB. At each step the translation of one address is dropped: all of a 2 MiB page if there is one, but
    /// of 4 KiB pages only the first. So this is for ranges that hold nothing but 2 MiB pages.
    LargePage,
}

impl Stride {
    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Page => 1 << 12,
            Self::LargePage => 1 << 21,
        }
    }
}

/// An INVLPGB: an invalidation on all CPUs, the issuing one included. It may be late anywhere until the *same* CPU has
/// executed TLBSYNC (H-80).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invlpgb {
    /// The first address; `None` for all of them.
    pub va: Option<VirtAddr>,
    /// How many pages more than the first (ECX 15:0); at most [`TlbFeatures::invlpgb`].
    pub more: u16,
    /// The distance from page to page.
    pub stride: Stride,
    /// Under one PCID only.
    pub pcid: Option<Pcid>,
    /// Global translations as well.
    pub globals: bool,
}

/// What the machine's CPUs have, all of them, for the management of cached translations. From CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct TlbFeatures {
    /// PCIDs that the pmap may use: those below this number. 0 without PCIDs (CPUID.1:ECX\[17\], and CR4.PCIDE set on
    /// every CPU), otherwise 2 to [`Pcid::COUNT`].
    pub pcids: u16,
    /// INVPCID (CPUID.7:EBX\[10\]).
    pub invpcid: bool,
    /// INVLPGB and TLBSYNC (CPUID.8000_0008:EBX\[3\]), and the most pages beyond the first that one can name
    /// (CPUID.8000_0008:EDX\[15:0\]).
    pub invlpgb: Option<u16>,
}

impl TlbFeatures {
    /// A processor with nothing of it.
    pub const NONE: Self = Self { pcids: 0, invpcid: false, invlpgb: None };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cr3_has_the_fields_where_the_manual_has_them() {
        let pcid = Pcid::new(0xabc).unwrap();
        let cr3 = Cr3 { root: Frame(0x12_345), pcid, no_flush: true };
        assert_eq!(cr3.bits(), 0x8000_0000_1234_5abc);
        assert_eq!(Cr3::from_bits(cr3.bits()), cr3);
        assert_eq!(Cr3 { no_flush: false, ..cr3 }.bits(), 0x1234_5abc);
        assert_eq!(Pcid::new(Pcid::COUNT), None);
    }
}
