//! The plain model: what each page of each address space must hold and permit, kept from the meaning of the
//! events alone. It knows nothing of page tables, TLBs, locks or the virtual-memory layer's bookkeeping.
//!
//! A page is a `Cell`: what it holds, whether it was stored to since it was last saved, and in which frame
//! it was last seen. Two cells in one frame, or one cell in two, is an error, whoever says so.

mod cell;
mod check;
mod frames;
mod mismatch;
mod ranges;
mod space;

pub use check::{Checker, Verify};
pub use mismatch::Mismatches;
