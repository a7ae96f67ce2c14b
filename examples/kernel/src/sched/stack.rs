//! Stacks of kernel threads, from the heap. A word at the far end shows when one was not enough.

use alloc::alloc::{alloc, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;

/// Bytes of a stack: handlers nest on it, and a trap frame has 512 bytes of SSE registers.
const SIZE: usize = 32 * 1024;
const LAYOUT: Layout = match Layout::from_size_align(SIZE, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("the size of a stack is a layout"),
};
/// What stands at the far end.
const MARK: u64 = 0x57ac_c0de_57ac_c0de;

/// A stack, freed when it is dropped.
pub(super) struct Stack(NonNull<u8>);

// SAFETY: plain memory, owned by its thread.
unsafe impl Send for Stack {}
// SAFETY: what is shared only reads an address and the mark.
unsafe impl Sync for Stack {}

impl Stack {
    /// A new stack; `None` if there is no memory.
    pub(super) fn new() -> Option<Self> {
        // SAFETY: the layout is not empty.
        let base = NonNull::new(unsafe { alloc(LAYOUT) })?;
        // SAFETY: the memory is ours, longer than this, and aligned.
        unsafe { base.cast::<u64>().write(MARK) };
        Some(Self(base))
    }

    /// The address behind it, where it begins to grow from.
    pub(super) fn top(&self) -> usize {
        self.0.addr().get() + SIZE
    }

    /// Whether it never grew to its end, as far as the end shows it.
    pub(super) fn is_intact(&self) -> bool {
        // SAFETY: the memory is ours and was written in `new`; only a thread that overran its stack writes there.
        unsafe { self.0.cast::<u64>().read_volatile() == MARK }
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout.
        unsafe { dealloc(self.0.as_ptr(), LAYOUT) };
    }
}
