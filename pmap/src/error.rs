//! What can go wrong, and what to do about it.

use core::fmt;

use crate::addr::VirtAddr;
use crate::tlb::TlbMethod;

macro_rules! errors {
    ($($(#[$doc:meta])* $name:ident => $text:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub struct $name;

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($text)
            }
        }

        impl core::error::Error for $name {}
    )*};
}

errors! {
    /// The machine had no frame for a page-table page or a chunk of PV entries. Nothing has changed:
    /// free memory and try again.
    Shortage => "no frame for page tables or PV entries: free memory and try again";
    /// The page has managed mappings: remove them first.
    StillMapped => "the page has managed mappings: remove them first, with remove_all";
    /// Somebody holds the page, by `extract_and_hold`, or refuses holds already.
    StillHeld => "the page is held, or is being taken down by somebody else: try again later";
    /// `remove_pages` needs an address space that is current on the calling CPU and nowhere else.
    ActiveElsewhere => "the address space is not current here, or is active on another CPU too: use remove";
}

/// Why [`Pmap::enter`](crate::Pmap::enter) made no mapping. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EnterError {
    /// See [`Shortage`].
    Shortage,
    /// The address is not in the user half.
    NotUser(VirtAddr),
    /// The rights asked for are empty or do not include the access that is to follow.
    AccessNotPermitted,
    /// See [`FrameError`].
    Frame(FrameError),
}

/// Why a frame cannot be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FrameError {
    /// Its number does not fit a page-table entry.
    TooLarge,
    /// It holds a page table, PV entries or records of the pmap itself.
    PmapsOwn,
    /// It must never be used, see [`System::retire`](crate::System::retire).
    Retired,
    /// It is not part of the machine's memory, and so not in the direct map.
    NotMemory,
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the frame lies above the 52-bit physical address space",
            Self::PmapsOwn => "the frame holds structures of the pmap: map only frames that are yours",
            Self::Retired => "the frame has been retired and must not be used: take another one",
            Self::NotMemory => {
                "the frame is not part of the machine's memory: the direct map does not reach it"
            }
        })
    }
}

impl core::error::Error for FrameError {}

/// Why the contents of pages were not changed. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AreaError {
    /// The area reaches beyond the page or pages given.
    Beyond,
    /// See [`FrameError`].
    Frame(FrameError),
}

impl From<FrameError> for AreaError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for AreaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Beyond => {
                f.write_str("the area reaches beyond the pages: pass more pages or a smaller size")
            }
            Self::Frame(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for AreaError {}

/// Why a frame was not retired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetireError {
    /// See [`StillMapped`].
    StillMapped,
    /// See [`FrameError`].
    Frame(FrameError),
}

impl fmt::Display for RetireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StillMapped => StillMapped.fmt(f),
            Self::Frame(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for RetireError {}

impl From<FrameError> for EnterError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for EnterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shortage => Shortage.fmt(f),
            Self::NotUser(va) => write!(f, "{va} is not a user address"),
            Self::AccessNotPermitted => {
                f.write_str("the rights do not include the access: pass READ at least")
            }
            Self::Frame(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for EnterError {}

impl From<Shortage> for EnterError {
    fn from(_: Shortage) -> Self {
        Self::Shortage
    }
}

/// [`Pmap::unwire`](crate::Pmap::unwire) met a mapping that was not wired. Everything up to there has
/// been unwired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWired(
    /// Address of the mapping.
    pub VirtAddr,
);

impl fmt::Display for NotWired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the mapping at {} is not wired: unwire only what was entered with WIRED", self.0)
    }
}

impl core::error::Error for NotWired {}

/// Why a kernel mapping was not made or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KernelMapError {
    /// The address lies outside the kernel window, or is not page aligned.
    OutsideWindow(VirtAddr),
    /// See [`FrameError`].
    Frame(FrameError),
}

impl From<FrameError> for KernelMapError {
    fn from(error: FrameError) -> Self {
        Self::Frame(error)
    }
}

impl fmt::Display for KernelMapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutsideWindow(va) => {
                write!(f, "{va} is not a page of the machine's kernel window")
            }
            Self::Frame(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for KernelMapError {}

/// Why a system could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SystemError {
    /// See [`Shortage`].
    Shortage,
    /// The machine has no CPU, or more than [`MAX_CPUS`](crate::MAX_CPUS).
    CpuCount(usize),
    /// The machine describes no memory, or ranges that overlap or are out of order.
    BadMemory,
    /// The storage is smaller than, or not aligned as, [`System::storage_layout`](crate::System::storage_layout) says.
    BadStorage,
    /// The kernel window is not page aligned in the kernel half.
    BadKernelWindow,
    /// The tables that the machine booted with map something in the same 512 GiB as this address of the kernel window.
    KernelWindowTaken(VirtAddr),
    /// Another system uses the machine: a machine has one.
    MachineInUse,
    /// The machine's processors cannot manage cached translations in the way that the options ask for.
    TlbMethod(TlbMethod),
}

impl fmt::Display for SystemError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shortage => {
                f.write_str("not enough frames for the kernel's page tables: give the machine more")
            }
            Self::CpuCount(n) => write!(f, "a machine has 1 to {} CPUs, this one {n}", crate::MAX_CPUS),
            Self::BadMemory => f.write_str("memory ranges must be disjoint, ascending and not empty"),
            Self::BadStorage => f.write_str("the storage does not fit System::storage_layout"),
            Self::TlbMethod(method) => {
                write!(f, "the processors lack what the method {method} needs: choose another one, or none")
            }
            Self::MachineInUse => {
                f.write_str("another system uses the machine: drop it, or make another machine")
            }
            Self::KernelWindowTaken(va) => {
                write!(
                    f,
                    "the boot tables have an entry for {va}: put the kernel window into 512 GiB of its own"
                )
            }
            Self::BadKernelWindow => f.write_str("the kernel window must lie in the kernel half"),
        }
    }
}

impl core::error::Error for SystemError {}

impl From<Shortage> for SystemError {
    fn from(_: Shortage) -> Self {
        Self::Shortage
    }
}
