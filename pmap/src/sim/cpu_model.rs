//! Kinds of processors that the machine can be, by what they have for the management of translations.

use core::fmt;

use gencount::Implementation;

use super::config::SimError;
use crate::translation::{Pcid, TlbFeatures};

/// A kind of processor. Named after one that is like it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
#[non_exhaustive]
pub enum CpuModel {
    /// An early Athlon 64: no PCIDs, and no CMPXCHG16B.
    Athlon64,
    /// A Nocona, the first of Intel's with 64-bit mode: no PCIDs, and no no-execute bit.
    Nocona,
    /// A Core 2: no PCIDs.
    Core2,
    /// A Sandy Bridge: PCIDs, but no INVPCID.
    SandyBridge,
    /// A Haswell: PCIDs and INVPCID.
    #[default]
    Haswell,
    /// An Alder Lake: as Haswell, and on every second CPU, the small ones, INVLPG leaves global translations.
    AlderLake,
    /// A Zen 3: PCIDs, INVPCID, INVLPGB.
    Zen3,
}

impl CpuModel {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Athlon64,
        Self::Nocona,
        Self::Core2,
        Self::SandyBridge,
        Self::Haswell,
        Self::AlderLake,
        Self::Zen3,
    ];

    /// The name used on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Athlon64 => "athlon64",
            Self::Nocona => "nocona",
            Self::Core2 => "core2",
            Self::SandyBridge => "sandybridge",
            Self::Haswell => "haswell",
            Self::AlderLake => "alderlake",
            Self::Zen3 => "zen3",
        }
    }

    /// What CPUID says.
    #[must_use]
    pub const fn features(self) -> TlbFeatures {
        let with_pcids = TlbFeatures { pcids: Pcid::COUNT, ..TlbFeatures::NONE };
        match self {
            Self::Athlon64 | Self::Nocona | Self::Core2 => TlbFeatures::NONE,
            Self::SandyBridge => with_pcids,
            Self::Haswell | Self::AlderLake => TlbFeatures { invpcid: true, ..with_pcids },
            Self::Zen3 => TlbFeatures { invpcid: true, invlpgb: Some(7), ..with_pcids },
        }
    }

    /// Whether INVLPG on the CPU with this index leaves global translations.
    #[must_use]
    pub const fn invlpg_misses_globals(self, cpu: usize) -> bool {
        matches!(self, Self::AlderLake) && cpu % 2 == 1
    }

    /// Whether it has the no-execute bit.
    #[must_use]
    pub const fn has_no_execute(self) -> bool {
        !matches!(self, Self::Nocona)
    }

    /// Whether it has CMPXCHG16B.
    #[must_use]
    pub const fn has_cmpxchg16b(self) -> bool {
        !matches!(self, Self::Athlon64)
    }

    /// Whether this implementation of delayed invalidation runs on it.
    #[must_use]
    pub const fn can_run(self, di: Implementation) -> bool {
        self.has_cmpxchg16b() || !matches!(di, Implementation::Lockfree)
    }
}

impl fmt::Display for CpuModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl core::str::FromStr for CpuModel {
    type Err = SimError;

    fn from_str(name: &str) -> Result<Self, SimError> {
        Self::ALL.into_iter().find(|model| model.name() == name).ok_or(SimError::UnknownCpuModel)
    }
}
