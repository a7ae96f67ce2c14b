//! A machine as bare as can be: real memory, real locks and threads, and nothing simulated.
//!
//! The software machine searches, speculates and asks a scheduler before each access; what it would measure is itself. Here the
//! pmap's own instructions are what costs. There is no TLB, since a program cannot execute INVLPG, so its instructions cost
//! nothing; an interrupt is a word that the other CPU's thread polls.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use gencount::{Domain, Implementation, Participant};
use parking_lot::Mutex;
use pmap::shootdown::Shootdowns;
use pmap::{CpuId, CpuSet, Cr3, Frame, FrameRange, FrameUse, Machine, VirtAddr, VirtRange};
use turnstile::Hosted;

/// CPUs: the one that measures, and another one.
pub(super) const CPUS: usize = 2;
const PAGE: usize = 4096;

std::thread_local! {
    static CPU: Cell<usize> = const { Cell::new(0) };
}

/// Makes the calling thread a CPU; each CPU is one thread.
pub(super) fn become_cpu(index: usize) {
    CPU.set(index);
}

/// The machine. Frames are numbered from 1.
pub(super) struct Bare {
    base: NonNull<u8>,
    layout: Layout,
    ranges: [FrameRange; 1],
    free: Mutex<Vec<Frame>>,
    shootdowns: Box<Shootdowns>,
    participants: [Participant<Hosted>; CPUS],
    interrupts: AtomicU64,
    waited: AtomicU64,
}

// SAFETY: the pointer is to memory that this value owns; frames are handed out under a lock, each once.
unsafe impl Send for Bare {}
// SAFETY: as above.
unsafe impl Sync for Bare {}

impl Bare {
    pub(super) fn new(frames: usize, di: Implementation) -> Self {
        let bytes = (frames + 1) * PAGE;
        let layout = Layout::from_size_align(bytes, PAGE).expect("a few megabytes");
        // SAFETY: the layout's size is not zero.
        let base =
            NonNull::new(unsafe { alloc_zeroed(layout) }).unwrap_or_else(|| handle_alloc_error(layout));
        let domain = Arc::new(Domain::new(di, Hosted));
        Self {
            base,
            layout,
            ranges: [FrameRange { start: Frame(1), count: frames as u64 }],
            // Handed out in ascending order.
            free: Mutex::new((1..=frames as u64).rev().map(Frame).collect()),
            shootdowns: Box::new(Shootdowns::new()),
            participants: std::array::from_fn(|_| domain.join()),
            interrupts: AtomicU64::new(0),
            waited: AtomicU64::new(0),
        }
    }

    /// Address of physical address 0 in the direct map.
    pub(super) fn offset(&self) -> u64 {
        self.base.addr().get() as u64
    }

    /// A frame, with whatever it holds.
    pub(super) fn take(&self) -> Option<Frame> {
        self.free.lock().pop()
    }

    pub(super) fn give(&self, frame: Frame) {
        self.free.lock().push(frame);
    }

    /// Nanoseconds for which CPUs have waited for others so far.
    pub(super) fn waited(&self) -> u64 {
        // ORD: Relaxed: a count.
        self.waited.load(Ordering::Relaxed)
    }

    /// Interrupts sent so far.
    pub(super) fn interrupts(&self) -> u64 {
        // ORD: Relaxed: a count.
        self.interrupts.load(Ordering::Relaxed)
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this layout, and reached through this value only.
        unsafe { dealloc(self.base.as_ptr(), self.layout) }
    }
}

// SAFETY: item by item. The direct map is one allocation, a page for each frame. Frames are popped from a list, so each is in
// one hand. Nothing changes after `new`. There are no translations that could be stale. The other CPU's thread serves
// requests all the time. The locks are parking_lot's: a thread that waits for one here is the only other CPU, and it
// takes none while it serves. A thread is one CPU from beginning to end, with its own participant.
unsafe impl Machine for Bare {
    type RawMutex = parking_lot::RawMutex;
    type RawRwLock = parking_lot::RawRwLock;
    type Scheduler = Hosted;

    fn memory(&self) -> &[FrameRange] {
        &self.ranges
    }

    fn kernel_window(&self) -> VirtRange {
        let start = VirtAddr(0xffff_ff00_0000_0000);
        VirtRange::new(start, start.wrapping_add(2 << 20)).expect("aligned")
    }

    #[inline]
    fn direct_map(&self, frame: Frame) -> NonNull<u8> {
        // SAFETY: frames are at most as many as the allocation has pages.
        unsafe { self.base.add(frame.0 as usize * PAGE) }
    }

    fn frame_at(&self, address: NonNull<u8>) -> Frame {
        Frame(((address.addr().get() - self.base.addr().get()) / PAGE) as u64)
    }

    fn allocate_frame(&self, _: FrameUse) -> Option<Frame> {
        let frame = self.take()?;
        // SAFETY: the frame is nobody else's, and 4096 bytes long.
        unsafe { self.direct_map(frame).write_bytes(0, PAGE) };
        Some(frame)
    }

    unsafe fn free_frame(&self, frame: Frame, _: FrameUse) {
        self.give(frame);
    }

    fn cpu_count(&self) -> usize {
        CPUS
    }

    #[inline]
    fn current_cpu(&self) -> CpuId {
        CpuId::new(CPU.get()).expect("one of two")
    }

    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn shootdowns(&self) -> &Shootdowns {
        &self.shootdowns
    }

    fn send_shootdown(&self, targets: &CpuSet) {
        // The target polls.
        // ORD: Relaxed: a count.
        self.interrupts.fetch_add(targets.len() as u64, Ordering::Relaxed);
    }

    fn relax(&self) {
        let start = Instant::now();
        // There may be fewer cores than threads.
        std::thread::yield_now();
        let waited = start.elapsed().as_nanos() as u64;
        self.waited.fetch_add(waited, Ordering::Relaxed); // ORD: Relaxed: a count
    }

    fn wake(&self, _: CpuId) {}

    unsafe fn load_cr3(&self, _: Cr3) {}

    fn invalidate_page(&self, _: VirtAddr) {}

    fn invalidate_everything(&self) {}

    #[inline]
    fn participant(&self) -> &Participant<Hosted> {
        &self.participants[CPU.get()]
    }
}
