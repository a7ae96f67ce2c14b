//! What any kernel on bare metal needs again: features, control registers, and the instructions that drop cached translations
//! and cache lines.
//!
//! [`Cpuid`] is what the processor says, raw; [`CpuFeatures`] what it means, for one CPU or all of them;
//! [`Dispatch`] the instructions that are best for it, chosen once. A kernel's [`Machine`](crate::Machine) then is short:
//!
//! | function of `Machine` | here |
//! |---|---|
//! | [`tlb_features`](crate::Machine::tlb_features) | [`CpuFeatures::tlb_features`] of all CPUs |
//! | [`has_no_execute`](crate::Machine::has_no_execute) | [`CpuFeatures::has`] of all CPUs, with [`Features::NX`] |
//! | [`invlpg_misses_globals`](crate::Machine::invlpg_misses_globals) | [`CpuFeatures::invlpg_misses_globals`] of the current CPU |
//! | [`load_cr3`](crate::Machine::load_cr3) | [`instructions::load_cr3`] |
//! | [`invalidate_page`](crate::Machine::invalidate_page) | [`instructions::invlpg`] |
//! | [`invalidate_everything`](crate::Machine::invalidate_everything) | [`Dispatch::invalidate_everything`] |
//! | [`invpcid`](crate::Machine::invpcid), [`invlpgb`](crate::Machine::invlpgb), [`tlbsync`](crate::Machine::tlbsync) | [`Dispatch::invpcid`], [`Dispatch::invlpgb`], [`Dispatch::tlbsync`] |
//!
//! A control-register bit that CPUID does not offer must not be set: hardware raises #GP, and an emulator was seen to
//! execute the instruction for ever. [`CpuFeatures::cr4`] and [`CpuFeatures::efer`] say which may be.
//!
//! Sources: Intel SDM vol. 2, CPUID and the instructions by name; vol. 3, 2.5 (control registers), 4.10.4 (invalidation);
//! AMD APM vol. 3, appendix E, INVLPGB and TLBSYNC.

mod cache;
mod control;
mod cpuid;
mod dispatch;
mod features;
pub mod instructions;
#[cfg(test)]
mod recorded;
#[cfg(test)]
mod tests;

pub use cache::CacheMethod;
pub use control::{ForbiddenBits, write_cr4, write_efer};
pub use cpuid::{Cpuid, Registers};
pub use dispatch::{Dispatch, FullFlush, Overrides, Unavailable};
pub use features::{CpuFeatures, Features, Vendor};
// The types of control registers that kernels have already.
pub use x86_64::registers::control::Cr4Flags;
pub use x86_64::registers::model_specific::EferFlags;
