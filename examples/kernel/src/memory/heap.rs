//! The kernel's heap: a piece of memory of its own, so that the pmap may manage all the rest.

use core::alloc::{GlobalAlloc, Layout};
use core::ops::Range;
use core::ptr::{NonNull, null_mut};

use linked_list_allocator::Heap;

use super::layout;
use crate::arch::interrupt_lock::InterruptLock;
use crate::boot::{BootInfo, RegionKind};

/// Bytes of the heap.
pub(crate) const SIZE: u64 = 32 << 20;

struct KernelHeap(InterruptLock<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(InterruptLock::new(Heap::empty()));

// SAFETY: the heap hands out disjoint blocks of its memory, by its own contract; the lock makes it one
// user at a time, and no interrupt on the same CPU comes in between.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.with(|heap| heap.allocate_first_fit(layout)).map_or(null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller got the block here, with this layout.
            self.0.with(|heap| unsafe { heap.deallocate(block, layout) });
        }
    }
}

/// Chooses the heap's memory, in physical addresses: the last 32 MiB of the first region that can spare
/// them, or the 32 MiB below the boot module, of which neither the image nor the module has a part.
pub(crate) fn place(info: &BootInfo) -> Option<Range<u64>> {
    let module = info.module.map_or(0..0, |module| {
        let start = module.as_ptr() as u64 - layout::DIRECT_MAP;
        start..start + module.len() as u64
    });
    info.memory().iter().filter(|region| region.kind == RegionKind::Ram).find_map(|region| {
        let last = region.end.min(layout::TEMPORARY_MAP_SIZE);
        // Loaders put the module near the end, not always at the very end.
        [last, last.min(module.start)].into_iter().find_map(|end| {
            let end = end & !0xfff;
            let heap = end.checked_sub(SIZE)?..end;
            let free = |taken: &Range<u64>| heap.end <= taken.start || taken.end <= heap.start;
            (heap.start >= region.start && free(&layout::image()) && free(&module)).then_some(heap)
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
    HEAP.0.with(|heap| unsafe { heap.init(layout::direct_map(memory.start), size) });
}

/// Bytes of the heap that are free.
pub(crate) fn free() -> usize {
    HEAP.0.with(|heap| heap.free())
}
