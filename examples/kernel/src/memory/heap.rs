//! The kernel's heap: a piece of memory of its own, so that the pmap may manage all the rest.
//!
//! It is locked with interrupts off, so it must be about as fast however many blocks there are: it finds a free block by its size, and the
//! neighbours of one that is given back by their tags.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};

use pmap::PAGE_SIZE;
use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use super::layout;
use crate::arch::interrupt_lock::InterruptLock;
use crate::boot::BootInfo;

/// Bytes of the heap on a machine of any size.
pub(crate) const LEAST: u64 = 32 << 20;
/// One of so many bytes of RAM is for the heap as well: the pmap's record of each page is a 64th of the page.
const SHARE: u64 = 60;

/// The allocator; its memory is what it is given.
type Heap = Talc<Manual, DefaultBinning>;

struct KernelHeap(InterruptLock<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(InterruptLock::new(Heap::new(Manual)));

// SAFETY: the heap hands out disjoint blocks of its memory, by its own contract; the lock makes it one
// user at a time, and no interrupt on the same CPU comes in between.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller asks for one byte at least.
        self.0.with(|heap| unsafe { heap.allocate(layout) }).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller got the block here, with this layout.
        self.0.with(|heap| unsafe { heap.deallocate(block, layout) });
    }
}

/// Chooses the heap's memory, in physical addresses: the end of the first region that has so much, before the
/// boot module if that lies there, and without a part of the image.
pub(crate) fn place(info: &BootInfo) -> Option<Range<u64>> {
    let taken = [layout::image(), super::module(info)];
    let bytes: u64 = super::ram(info).map(|region| region.end - region.start).sum();
    let size = (LEAST + bytes / SHARE).next_multiple_of(PAGE_SIZE);
    super::ram(info).find_map(|region| {
        let ends = [region.end.min(layout::TEMPORARY_MAP_SIZE), taken[1].start & !(PAGE_SIZE - 1)];
        ends.into_iter().filter(|end| *end <= region.end).find_map(|end| {
            let heap = end.checked_sub(size)?..end;
            let is_free = taken.iter().all(|taken| heap.end <= taken.start || taken.end <= heap.start);
            (heap.start >= region.start && is_free).then_some(heap)
        })
    })
}

/// Takes `memory`, in physical addresses, for the heap.
///
/// # Safety
///
/// Called once; the memory is in the direct map and is nobody else's.
pub(crate) unsafe fn init(memory: Range<u64>) {
    let size = (memory.end - memory.start) as usize;
    // SAFETY: as the caller says.
    let claimed = HEAP.0.with(|heap| unsafe { heap.claim(layout::direct_map(memory.start), size) });
    assert!(claimed.is_some(), "the heap is too small for its own lists");
}

/// Bytes of the heap that are free.
pub(crate) fn free() -> usize {
    HEAP.0.with(|heap| heap.counters().available_bytes)
}
