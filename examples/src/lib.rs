//! `pmaplab`: recorded programs on the pmap and the software machine.
//!
//! From the command line down: [`cli`] reads arguments; [`replay`] runs a recorded [`trace`] by a
//! [`plan`] that says what may run in parallel; each event becomes a call of the small virtual-memory
//! layer in [`vm`], which calls the pmap; [`model`] looks on and compares every answer; [`torture`] does the
//! same with random work; [`report`] prints what came out. [`kernel`] boots a kernel on the same pmap in an emulator. [`bench`](mod@bench) stands apart: it measures the concurrency crates and the pmap.
//!
//! Where does an unmap go? `replay/event.rs` → `vm/range.rs` (`unmap`) → `Pmap::remove` →
//! `pmap::shootdown` → the software machine's interrupt, on every CPU that runs the address space.

// What is tested here of the kernel, which has no `std`, names it so.
#[cfg(test)]
extern crate alloc;

pub mod bench;
pub mod cli;
pub mod dispatch;
pub mod error;
pub mod flush_cost;
pub mod hash;
pub mod kernel;
pub mod model;
pub mod plan;
pub mod replay;
pub mod report;
mod run;
pub mod torture;
pub mod trace;
pub mod vm;
