//! A machine with one CPU and no TLB, over static memory.

use core::alloc::Layout;
use core::cell::UnsafeCell;
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gencount::{Domain, Implementation, Participant, Slot};
use lock_api::{RawMutex, RawRwLock};
use pmap::shootdown::Shootdowns;
use pmap::{CpuId, CpuSet, Cr3, Frame, FrameRange, FrameUse, Machine, VirtAddr, VirtRange};
use turnstile::{LendingScheduler, LockScheduler, PiTurnstiles, Priority, Scheduler, ThreadId};

const FRAMES: usize = 64;
/// Frames from here on are the program's data; those below are for page tables.
pub(crate) const FIRST_DATA_FRAME: u64 = 48;

#[repr(C, align(4096))]
struct Memory(UnsafeCell<[[u8; 4096]; FRAMES]>);

// SAFETY: handed out frame by frame, through raw pointers.
unsafe impl Sync for Memory {}

static MEMORY: Memory = Memory(UnsafeCell::new([[0; 4096]; FRAMES]));
static SHOOTDOWNS: Shootdowns = Shootdowns::new();
static DOMAIN: Domain<Spin> = Domain::new(Implementation::Lockfree, Spin);
static SLOT: Slot = Slot::new();
static RANGES: [FrameRange; 1] = [FrameRange { start: Frame(0), count: FRAMES as u64 }];

const STORAGE: usize = 64 * 1024;

#[repr(C, align(4096))]
struct Storage(UnsafeCell<[u8; STORAGE]>);

// SAFETY: handed out once, by `storage`.
unsafe impl Sync for Storage {}

static RECORDS: Storage = Storage(UnsafeCell::new([0; STORAGE]));

/// Static memory for a system's records; once.
pub(crate) fn storage(layout: Layout) -> Option<NonNull<[u8]>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    // ORD: Relaxed; one thread.
    let fits = layout.size() <= STORAGE && layout.align() <= 4096 && !TAKEN.swap(true, Ordering::Relaxed);
    let base = NonNull::new(RECORDS.0.get().cast::<u8>())?;
    fits.then(|| NonNull::slice_from_raw_parts(base, STORAGE))
}

/// Test-and-set; there is only one thread, so it never waits.
pub(crate) struct Flag(AtomicBool);

impl Flag {
    fn raise(&self) -> Option<()> {
        // ORD: Acquire pairs with `lower`.
        (!self.0.swap(true, Ordering::Acquire)).then_some(())
    }

    fn wait(&self) {
        while self.raise().is_none() {
            core::hint::spin_loop();
        }
    }

    fn lower(&self) {
        // ORD: Release pairs with `raise`.
        self.0.store(false, Ordering::Release);
    }

    fn is_up(&self) -> bool {
        // ORD: Relaxed; a hint.
        self.0.load(Ordering::Relaxed)
    }
}

// SAFETY: whoever finds the flag down owns the lock until it takes the flag down again.
unsafe impl RawMutex for Flag {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = ();

    fn lock(&self) {
        self.wait();
    }

    fn try_lock(&self) -> Option<()> {
        self.raise()
    }

    unsafe fn unlock(&self, (): ()) {
        self.lower();
    }

    fn is_locked(&self) -> bool {
        self.is_up()
    }
}

// SAFETY: as above; readers exclude each other too, which is more than is asked.
unsafe impl RawRwLock for Flag {
    const INIT: Self = Self(AtomicBool::new(false));
    type SharedGuard = ();
    type ExclusiveGuard = ();

    fn lock_shared(&self) {
        self.wait();
    }

    fn try_lock_shared(&self) -> Option<()> {
        self.raise()
    }

    unsafe fn unlock_shared(&self, (): ()) {
        self.lower();
    }

    fn lock_exclusive(&self) {
        self.wait();
    }

    fn try_lock_exclusive(&self) -> Option<()> {
        self.raise()
    }

    unsafe fn unlock_exclusive(&self, (): ()) {
        self.lower();
    }

    fn is_locked(&self) -> bool {
        self.is_up()
    }

    fn is_locked_exclusive(&self) -> bool {
        self.is_up()
    }
}

/// A scheduler with one thread, which never has to wait.
pub(crate) struct Spin;

// SAFETY: one thread, one id, never given to another; Flag excludes; nothing unwinds or calls back.
unsafe impl Scheduler for Spin {
    type RawLock = Flag;

    fn current(&self) -> ThreadId {
        ThreadId::new(NonZeroUsize::MIN)
    }

    fn priority(&self, _: ThreadId) -> Priority {
        Priority::NORMAL
    }

    fn park(&self) {
        core::hint::spin_loop();
    }

    fn unpark(&self, _: ThreadId) {}
}

// SAFETY: does nothing.
unsafe impl LendingScheduler for Spin {
    fn own_priority(&self, _: ThreadId) -> Priority {
        Priority::NORMAL
    }

    fn lend(&self, _: ThreadId, _: Priority) {}

    fn unlend(&self, _: ThreadId) {}
}

static TABLE: PiTurnstiles<Spin> = PiTurnstiles::new(Spin);

// SAFETY: a static, of the one scheduler that there is; its one id is 1.
unsafe impl LockScheduler for Spin {
    fn table() -> &'static PiTurnstiles<Self> {
        &TABLE
    }
}

/// The machine.
pub(crate) struct Board {
    next: AtomicU64,
    participant: Participant<Spin>,
}

impl Board {
    /// The one machine; `None` if it was taken already.
    pub(crate) fn take() -> Option<Self> {
        // Frame 0 is never handed out.
        Some(Self { next: AtomicU64::new(1), participant: DOMAIN.join_with(&SLOT).ok()? })
    }
}

// SAFETY: the direct map is the static array; frames are handed out once and never again; there is one CPU,
// one thread, no interrupt and no translation that could be stale.
unsafe impl Machine for Board {
    type RawMutex = Flag;
    type RawRwLock = Flag;
    type Scheduler = Spin;

    fn memory(&self) -> &[FrameRange] {
        &RANGES
    }

    fn kernel_window(&self) -> VirtRange {
        let start = VirtAddr(0xffff_ff00_0000_0000);
        VirtRange::new(start, start.wrapping_add(1 << 21)).unwrap_or(VirtRange::page_of(start))
    }

    fn direct_map(&self, frame: Frame) -> NonNull<u8> {
        let index = (frame.0 as usize).min(FRAMES - 1);
        // SAFETY: the index is inside the array, which is static and never null.
        unsafe { NonNull::new_unchecked(MEMORY.0.get().cast::<u8>().add(index * 4096)) }
    }

    fn frame_at(&self, address: NonNull<u8>) -> Frame {
        let offset = address.addr().get().wrapping_sub(MEMORY.0.get().addr());
        Frame((offset / 4096) as u64)
    }

    fn allocate_frame(&self, _: FrameUse) -> Option<Frame> {
        // ORD: Relaxed; one thread.
        let frame = self.next.fetch_add(1, Ordering::Relaxed);
        (frame < FIRST_DATA_FRAME).then_some(Frame(frame))
    }

    unsafe fn free_frame(&self, _: Frame, _: FrameUse) {}

    fn cpu_count(&self) -> usize {
        1
    }

    fn current_cpu(&self) -> CpuId {
        const { CpuId::new(0).unwrap() }
    }

    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    fn shootdowns(&self) -> &Shootdowns {
        &SHOOTDOWNS
    }

    fn send_shootdown(&self, _: &CpuSet) {}

    fn relax(&self) {
        core::hint::spin_loop();
    }

    fn wake(&self, _: CpuId) {}

    unsafe fn load_cr3(&self, _: Cr3) {}

    fn invalidate_page(&self, _: VirtAddr) {}

    fn invalidate_everything(&self) {}

    fn participant(&self) -> &Participant<Spin> {
        &self.participant
    }
}
