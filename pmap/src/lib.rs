//! Page tables, reverse maps and TLB coherence for amd64.
//!
//! # The protocol, and what it guarantees
//!
//! A [`Pmap`] is an address space; a [`System`] is what the address spaces of one [`Machine`] share: a
//! [`PageRecord`] for every physical page, with the list of the page's mappings, and the kernel's tables.
//!
//! *From addresses to pages.* [`Pmap::remove`] takes the pmap lock and goes over leaf tables. Each entry is taken by an atomic
//! exchange, which yields its final accessed and dirty bits; the mapping leaves its page's PV list under that
//! list's lock; translations and empty tables are gathered; one shootdown at the end, before the pmap lock is released,
//! invalidates them on every CPU that runs the address space, and only then are tables freed.
//!
//! *From pages to addresses.* [`System::remove_all`] takes the PV-list lock and goes over the page's mappings, trying each pmap
//! lock against the order, and flushes each before its PV entry goes.
//!
//! *Where the two meet.* The first drops a page's PV-list lock before its flush. So it runs in a section of delayed
//! invalidation and marks the page; the second ends with a wait for all sections that marked it. Hence: when
//! `remove_all` returns, no CPU holds a translation of the page through a managed mapping, whoever removed it.
//!
//! `MODEL.md` beside the manifest numbers the invariants; comments cite them.
#![doc = ""]
#![doc = include_str!("../README.md")]
#![no_std]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod addr;
mod audit;
#[cfg(all(feature = "bare", target_arch = "x86_64"))]
pub mod bare;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cpuset;
mod delayed;
pub mod entry;
mod error;
mod flush;
mod machine;
mod mailbox;
pub mod mutation;
mod ops;
mod options;
mod pcid;
mod pinned;
mod pmap;
mod primitive;
mod protection;
mod pv;
mod ranges;
mod record;
pub mod shootdown;
#[cfg(feature = "sim")]
pub mod sim;
mod stats;
mod system;
mod table;
mod tlb;
mod translation;

pub use addr::{
    Frame, FrameRange, PAGE_SHIFT, PAGE_SIZE, PhysAddr, SKZ63, SUPERPAGE_SIZE, USER_END, VirtAddr, VirtRange,
};
pub use audit::AuditError;
pub use cpuset::{AtomicCpuSet, CpuId, CpuSet, MAX_CPUS};
pub use error::{
    ActiveElsewhere, AreaError, EnterError, FrameError, KernelMapError, NotWired, RetireError, Shortage,
    StillHeld, StillMapped, SystemError,
};
pub use machine::{FrameUse, Guarantee, MAX_DOMAINS, Machine};
pub use ops::{Advice, Mincore, PageWalk};
pub use options::Options;
pub use pmap::{DestroyError, Pmap};
pub use protection::{Access, EnterFlags, Protection};
pub use pv::PvLocking;
pub use record::{HoldsRefused, PageRecord};
pub use stats::Statistics;
pub use system::System;
pub use table::Contents;
pub use tlb::{TlbChoice, TlbMethod, UnknownTlbMethod};
pub use translation::{Cr3, Invlpgb, Invpcid, Pcid, Stride, TlbFeatures};
