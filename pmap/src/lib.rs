//! Complete amd64 page-table and PV-list management.
#![no_std]

#[cfg(any(test, feature = "std"))]
extern crate std;

mod addr;
mod audit;
mod cpuset;
pub mod entry;
mod error;
mod flush;
mod machine;
pub mod mutation;
mod ops;
mod pmap;
mod protection;
mod pv;
mod record;
pub mod shootdown;
#[cfg(feature = "sim")]
pub mod sim;
mod stats;
mod system;
mod table;

pub use addr::{Frame, FrameRange, PAGE_SHIFT, PAGE_SIZE, PhysAddr, USER_END, VirtAddr, VirtRange};
pub use audit::AuditError;
pub use cpuset::{AtomicCpuSet, CpuId, CpuSet, MAX_CPUS};
pub use error::{
    ActiveElsewhere, EnterError, FrameError, KernelMapError, NotWired, Shortage, StillMapped, SystemError,
};
pub use machine::{FrameUse, Guarantee, Machine};
pub use pmap::{DestroyError, Pmap};
pub use protection::{Access, EnterFlags, Protection};
pub use record::PageRecord;
pub use stats::Statistics;
pub use system::System;
