//! What a software machine is made of, and how nasty it is.

use core::fmt;

use super::cpu_model::CpuModel;
use crate::{MAX_CPUS, Pcid};

/// Most frames that a machine may have: 64 GiB of simulated memory.
pub const MAX_FRAMES: u64 = 1 << 24;

/// Whether CPUs run at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Every CPU is a host thread and they run in parallel.
    #[default]
    Parallel,
    /// Every CPU is a host thread, but only the holder of the baton runs. A seeded scheduler passes it on at
    /// accesses, locks, interrupts and other [points](crate::Machine::point): the same seed and the
    /// same program give the same history.
    Deterministic,
}

/// How often the machine searches all CPUs at a [guarantee point](crate::Guarantee).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Check {
    /// At every one.
    #[default]
    Full,
    /// At one in sixteen, chosen by the seed.
    Sample,
    /// Never.
    Off,
}

/// The freedoms of the architecture that the machine uses against the software.
///
/// Fields named `..._one_in` are odds: `n` means once in `n` occasions on average, 0 means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Adversary {
    /// Sets of each CPU's TLB; rounded up to a power of two, at least 1, at most 2048.
    pub tlb_sets: usize,
    /// Entries per set; at least 1, at most 16.
    pub tlb_ways: usize,
    /// Per access: the CPU also fills a translation that nobody asked for (a page near by, or one used
    /// some time ago). It sets accessed flags, never dirty flags, and never faults. Also, per load of a root, that of a page
    /// used before; and, a quarter as often, per point: in deterministic mode, and in parallel mode if there are pauses.
    pub speculate_one_in: u32,
    /// Per access: the translation that was about to be used, and with it some
    /// paging-structure-cache entry, is dropped first.
    pub evict_one_in: u32,
    /// Per access that a cached translation does not permit: the CPU faults by what it has cached
    /// although the tables have been changed to permit it. (Otherwise it walks again first.)
    pub spurious_fault_one_in: u32,
    /// An interrupt is taken after at most this many polls by a running CPU. A waiting one takes it at once.
    pub interrupt_delay: u32,
    /// Parallel mode, per point: the host thread yields or spins for a moment, so that windows of a
    /// few instructions are hit.
    pub pause_one_in: u32,
    /// Deterministic mode, per point: the baton passes to another CPU.
    pub switch_one_in: u32,
}

impl Default for Adversary {
    fn default() -> Self {
        Self {
            tlb_sets: 64,
            tlb_ways: 8,
            speculate_one_in: 8,
            evict_one_in: 64,
            spurious_fault_one_in: 0,
            interrupt_delay: 4,
            pause_one_in: 0,
            switch_one_in: 6,
        }
    }
}

impl Adversary {
    /// A machine that does nothing unasked: translations leave the TLB only when it is full or told to,
    /// and interrupts are taken at once.
    #[must_use]
    pub const fn tame() -> Self {
        Self {
            tlb_sets: 64,
            tlb_ways: 8,
            speculate_one_in: 0,
            evict_one_in: 0,
            spurious_fault_one_in: 0,
            interrupt_delay: 0,
            pause_one_in: 0,
            switch_one_in: 8,
        }
    }

    /// For torture: everything often, and pauses in the middle of the pmap.
    #[must_use]
    pub const fn fierce() -> Self {
        Self {
            tlb_sets: 64,
            tlb_ways: 8,
            speculate_one_in: 3,
            evict_one_in: 96,
            spurious_fault_one_in: 0,
            interrupt_delay: 16,
            pause_one_in: 64,
            switch_one_in: 4,
        }
    }
}

/// Everything that [`SimMachine::new`](super::SimMachine::new) needs.
///
/// ```
/// use pmap::sim::{Config, Mode};
///
/// let config = Config { cpus: 2, frames: 512, mode: Mode::Deterministic, ..Config::default() };
/// assert!(config.validate().is_ok());
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Number of CPUs, 1 to [`MAX_CPUS`].
    pub cpus: usize,
    /// Kind of processor, all alike.
    pub cpu_model: CpuModel,
    /// PCIDs that the machine leaves to the pmap, if the model has any: 2 to [`Pcid::COUNT`]. A small number makes them run
    /// out often.
    pub pcids: u16,
    /// CPUs acknowledge shootdowns before they invalidate, where that is legal: see
    /// [`may_acknowledge_early`](crate::Machine::may_acknowledge_early).
    pub early_acknowledgements: bool,
    /// Memory domains (NUMA nodes), at least 1 and no more than CPUs. Frames and CPUs are dealt to them in equal, contiguous
    /// parts.
    pub domains: usize,
    /// Frames of 4 KiB for everything: tables, PV chunks, data. At least [`MIN_FRAMES`], at most
    /// [`MAX_FRAMES`].
    pub frames: u64,
    /// Start of all random streams.
    pub seed: u64,
    /// Whether CPUs run at the same time.
    pub mode: Mode,
    /// Implementation of delayed invalidation.
    pub di: gencount::Implementation,
    /// What the machine does unasked.
    pub adversary: Adversary,
    /// How often guarantee points search.
    pub check: Check,
}

/// Fewest frames that a machine may have.
pub const MIN_FRAMES: u64 = 16;

impl Default for Config {
    fn default() -> Self {
        Self {
            cpus: 4,
            cpu_model: CpuModel::default(),
            pcids: Pcid::COUNT,
            early_acknowledgements: false,
            domains: 1,
            frames: 1 << 14,
            seed: 1,
            mode: Mode::default(),
            di: gencount::Implementation::Locked,
            adversary: Adversary::default(),
            check: Check::default(),
        }
    }
}

impl Config {
    /// Whether a machine can be made of this.
    ///
    /// # Errors
    ///
    /// Says which field is out of range.
    pub fn validate(&self) -> Result<(), SimError> {
        if self.cpus == 0 || self.cpus > MAX_CPUS {
            return Err(SimError::CpuCount { asked: self.cpus });
        }
        if self.frames < MIN_FRAMES || self.frames > MAX_FRAMES {
            return Err(SimError::FrameCount { asked: self.frames });
        }
        if self.domains == 0 || self.domains > self.cpus {
            return Err(SimError::DomainCount { asked: self.domains });
        }
        if self.pcids < 2 || self.pcids > Pcid::COUNT {
            return Err(SimError::PcidCount { asked: self.pcids });
        }
        if !self.cpu_model.can_run(self.di) {
            return Err(SimError::NoCmpxchg16b { model: self.cpu_model, di: self.di });
        }
        let Adversary { tlb_sets, tlb_ways, .. } = self.adversary;
        if tlb_sets == 0 || tlb_sets > 2048 || tlb_ways == 0 || tlb_ways > 16 {
            return Err(SimError::TlbSize { sets: tlb_sets, ways: tlb_ways });
        }
        Ok(())
    }
}

/// Why a software machine could not be made, or a CPU not be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SimError {
    /// The number of CPUs is not 1 to [`MAX_CPUS`].
    CpuCount {
        /// What was asked for.
        asked: usize,
    },
    /// The number of frames is not [`MIN_FRAMES`] to [`MAX_FRAMES`].
    FrameCount {
        /// What was asked for.
        asked: u64,
    },
    /// The number of memory domains is not 1 to the number of CPUs.
    DomainCount {
        /// What was asked for.
        asked: usize,
    },
    /// The number of PCIDs is not 2 to [`Pcid::COUNT`].
    PcidCount {
        /// What was asked for.
        asked: u16,
    },
    /// The implementation of delayed invalidation needs CMPXCHG16B, and the processor has none.
    NoCmpxchg16b {
        /// The processor.
        model: CpuModel,
        /// The implementation.
        di: gencount::Implementation,
    },
    /// There is no processor of that name.
    UnknownCpuModel,
    /// The TLB has no sets or ways, or too many.
    TlbSize {
        /// Sets asked for.
        sets: usize,
        /// Ways asked for.
        ways: usize,
    },
    /// The host has no memory for that many frames.
    HostMemory {
        /// Bytes asked for.
        bytes: usize,
    },
    /// The host refused to start a thread for each CPU.
    HostThreads {
        /// Threads asked for.
        asked: usize,
    },
    /// The machine has no such CPU.
    NoSuchCpu {
        /// Its index.
        cpu: usize,
    },
    /// Another thread runs as this CPU at the moment.
    CpuBusy {
        /// Its index.
        cpu: usize,
    },
    /// The calling thread already runs as a CPU of this machine.
    AlreadyBound {
        /// The CPU that it is.
        cpu: usize,
    },
}

impl fmt::Display for SimError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::CpuCount { asked } => write!(f, "a machine has 1 to {MAX_CPUS} CPUs, not {asked}"),
            Self::FrameCount { asked } => {
                write!(f, "a machine has {MIN_FRAMES} to {MAX_FRAMES} frames of 4 KiB, not {asked}")
            }
            Self::DomainCount { asked } => {
                write!(f, "a machine has 1 to as many memory domains as CPUs, not {asked}")
            }
            Self::PcidCount { asked } => {
                write!(f, "a machine leaves 2 to {} PCIDs to the pmap, not {asked}", Pcid::COUNT)
            }
            Self::NoCmpxchg16b { model, di } => {
                write!(f, "the CPU model {model} has no CMPXCHG16B, which {di} needs: use locked or sharded")
            }
            Self::UnknownCpuModel => {
                f.write_str("no such CPU model; there are")?;
                CpuModel::ALL.iter().try_for_each(|model| write!(f, " {model}"))
            }
            Self::TlbSize { sets, ways } => {
                write!(f, "a TLB has 1 to 2048 sets of 1 to 16 entries, not {sets} of {ways}")
            }
            Self::HostMemory { bytes } => {
                write!(f, "the host cannot give {bytes} bytes for the machine's memory: use fewer frames")
            }
            Self::HostThreads { asked } => {
                write!(f, "the host refused to start {asked} threads: use fewer CPUs")
            }
            Self::NoSuchCpu { cpu } => write!(f, "the machine has no CPU {cpu}"),
            Self::CpuBusy { cpu } => write!(f, "another thread runs as CPU {cpu}"),
            Self::AlreadyBound { cpu } => write!(f, "the calling thread already runs as CPU {cpu}"),
        }
    }
}

impl core::error::Error for SimError {}
