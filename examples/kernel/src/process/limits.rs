//! What user programs can have at most: little enough that the kernel's records of all of it fit its heap, whatever they do.

use crate::memory::heap;
use crate::vm::Limits;

/// Processes of a run that nobody has waited for.
pub(super) const PROCESSES: usize = 20;
/// Threads of all processes.
pub(super) const THREADS: usize = 48;
/// What a process can map.
pub(super) const SPACE: Limits = Limits { ranges: 512, pages: 5120 };
/// Pages of a memory object that can be mapped, from its first on.
pub(super) const OBJECT_PAGES: u64 = 1024;
/// Figures that programs can have the kernel keep.
pub(super) const FIGURES: usize = 4096;

/// Heap for the record of a page, with its place in a table that may be half empty.
const PAGE_RECORD: u64 = 160;
/// Heap for a range, likewise.
const RANGE_RECORD: u64 = 160;
/// Heap for a thread: its stack, above all.
const THREAD_RECORD: u64 = 36 << 10;
/// Heap for a figure in a list that may have doubled just now, the old one included.
const FIGURE_RECORD: u64 = 3 * size_of::<super::Measured>() as u64;

/// The heap that all this takes.
const MOST: u64 = PROCESSES as u64 * (SPACE.pages * PAGE_RECORD + SPACE.ranges as u64 * RANGE_RECORD)
    + 2 * OBJECT_PAGES * PAGE_RECORD
    + THREADS as u64 * THREAD_RECORD
    + FIGURES as u64 * FIGURE_RECORD;

// The rest is for what calls need for a moment, for the kernel itself, and for gaps.
const _: () = assert!(MOST <= heap::LEAST / 3 * 2, "user programs could use the heap up");
