//! Who may do what where. Each thread has a *lane* of addresses: pages that it alone stamps, an *arena* to which all threads of the
//! process store at any time, and some pages of a file.

use crate::stamp::PAGE;

/// Stamped pages of a lane.
pub(crate) const PAGES: u64 = 40;
/// Pages of its arena.
pub(crate) const ARENA_PAGES: u64 = 40;
/// Pages of the file.
pub(crate) const FILE_PAGES: u64 = 6;
/// Pages of the memory that all processes share.
pub(crate) const SHARED_PAGES: u64 = 8;
/// Most threads of a process.
pub(crate) const MAX_THREADS: u64 = 16;
/// Pages of a thread's stack.
pub(crate) const STACK_PAGES: u64 = 8;

/// Lanes are so far apart that each has page-table pages of its own, which come and go with it.
const BASE: u64 = 0x10_0000_0000;
const STRIDE: u64 = 0x4000_0000;

const fn lane(thread: u64) -> u64 {
    BASE + thread * STRIDE
}

/// The first of a thread's stamped pages. They lie across the border of two leaf page tables.
pub(crate) const fn pages(thread: u64) -> u64 {
    lane(thread) + 0x40_0000 - PAGES / 2 * PAGE
}

/// The first page of its arena.
pub(crate) const fn arena(thread: u64) -> u64 {
    lane(thread) + 0x1000_0000
}

/// The first of its pages of the file.
pub(crate) const fn file(thread: u64) -> u64 {
    lane(thread) + 0x2000_0000
}

/// The end of its stack; the first thread has another one.
pub(crate) const fn stack_top(thread: u64) -> u64 {
    lane(thread) + 0x3000_0000 + STACK_PAGES * PAGE
}

/// The word of shared memory that belongs to a thread of a process.
pub(crate) const fn shared_word(process: u64, thread: u64) -> u64 {
    let number = process * MAX_THREADS + thread;
    SHARED + number % SHARED_PAGES * PAGE + number / SHARED_PAGES * size_of::<u64>() as u64
}

/// Where shared memory is mapped.
pub(crate) const SHARED: u64 = 0x8_0000_0000;
