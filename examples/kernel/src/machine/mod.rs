//! The board as the pmap sees it: the example of a [`Machine`].
//!
//! What it does to the processor is [`pmap::bare`]'s; memory, CPUs and interrupts are the kernel's; blocking is the turnstile's.

mod waiting;

use alloc::alloc::alloc_zeroed;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use gencount::Participant;
use once_cell::race::OnceBox;
use pmap::bare::{CpuFeatures, Dispatch, Features, Overrides, instructions};
use pmap::shootdown::Shootdowns;
use pmap::{
    CpuId, CpuSet, Cr3, Frame, FrameRange, FrameUse, Invlpgb, Invpcid, Machine, Options, PAGE_SIZE,
    SystemError, TlbFeatures, VirtAddr, VirtRange,
};
use turnstile::{RawPiMutex, RawPiRwLock};

use crate::arch::{apic, interrupts, percpu};
use crate::memory::{frames, layout};
use crate::sched::{self, KernelScheduler};

/// The machine that the kernel runs on.
pub(crate) struct Board {
    dispatch: Dispatch,
    boot_root: Frame,
}

/// The pmap of this machine.
pub(crate) type System = pmap::System<Board>;

static SHOOTDOWNS: Shootdowns = Shootdowns::new();
/// CPUs that use the pmap.
static CPUS: AtomicUsize = AtomicUsize::new(0);
static SYSTEM: OnceBox<System> = OnceBox::new();

/// The pmap of this machine; `None` before [`start`].
pub(crate) fn system() -> Option<&'static System> {
    SYSTEM.get()
}

/// Why there is no pmap.
#[derive(Debug)]
pub(crate) enum StartError {
    /// The pmap does not work on such a machine.
    System(SystemError),
    /// The heap is too small for the records of all pages.
    NoStorage(usize),
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(error) => error.fmt(f),
            Self::NoStorage(bytes) => write!(f, "the heap has no {bytes} bytes for the page records"),
        }
    }
}

impl core::error::Error for StartError {}

/// Sets the pmap up: once, on the boot CPU, when there are frames and a heap and before the other CPUs start.
///
/// # Errors
///
/// [`StartError`].
pub(crate) fn start(options: Options) -> Result<&'static System, StartError> {
    let wishes = Overrides::default();
    // SAFETY: the kernel is in ring 0; the other CPUs come into service by `start_cpu`, which compares.
    let dispatch = unsafe { Dispatch::new(CpuFeatures::current(), wishes) }.expect("nothing is wished for");
    let board = Board { dispatch, boot_root: instructions::read_cr3().root };
    let storage_layout = System::storage_layout(&board, options).map_err(StartError::System)?;
    // SAFETY: the layout is not empty, since a machine has a CPU.
    let storage = NonNull::new(unsafe { alloc_zeroed(storage_layout) });
    let storage = storage.ok_or(StartError::NoStorage(storage_layout.size()))?;
    let storage = NonNull::slice_from_raw_parts(storage, storage_layout.size());
    // SAFETY: allocated just now as the layout says, and never freed.
    let system = unsafe { System::with_storage(board, options, storage) }.map_err(StartError::System)?;
    Ok(SYSTEM.get_or_init(|| alloc::boxed::Box::new(system)))
}

/// Takes the calling CPU into service with the pmap.
///
/// # Panics
///
/// If it lacks something that the boot CPU has, and that the pmap was told all have.
pub(crate) fn start_cpu(system: &System) {
    let all = system.machine().dispatch.features();
    assert_eq!(CpuFeatures::current().common(all), *all, "the CPUs of this machine differ");
    system.start_cpu();
    // ORD: Release pairs with the Acquire in `has_all_cpus`.
    CPUS.fetch_add(1, Ordering::Release);
}

/// Whether all CPUs are in service.
pub(crate) fn has_all_cpus() -> bool {
    // ORD: Acquire pairs with the Release in `start_cpu`.
    CPUS.load(Ordering::Acquire) == percpu::cpu_count()
}

// SAFETY: in the order of the list there:
// * the direct map covers all of RAM for good, at a constant distance, and nothing else lies there;
// * `frames` hands out RAM that it owns, not frame 0, once until it is given back; the pmap gives back only what no translation reaches;
// * memory, CPUs and the window are known before the system is made and never change;
// * the invalidations are `bare`'s, chosen by what CPUID says of every CPU (`start_cpu` compares);
// * the shootdown interrupt's handler serves; interrupts are off for a bounded time only, and always on in user mode; the APIC code fences
//   before it sends by x2APIC;
// * `frames` owns what it hands out: the image, the heap, the module and the tables that the kernel booted with are not in it;
// * the tables that the kernel booted with are for good, and the window's slot is free in them;
// * the turnstile's locks exclude, and each thread's control block has a participant of its own;
// * a thread does not change CPUs where it has asked not to, or has interrupts off, and each CPU has a number of its own.
unsafe impl Machine for Board {
    type RawMutex = RawPiMutex<KernelScheduler>;
    type RawRwLock = RawPiRwLock<KernelScheduler>;
    type Scheduler = KernelScheduler;

    fn memory(&self) -> &[FrameRange] {
        frames::ranges()
    }

    fn kernel_window(&self) -> VirtRange {
        layout::kernel_window()
    }

    fn boot_root(&self) -> Option<Frame> {
        Some(self.boot_root)
    }

    fn direct_map(&self, frame: Frame) -> NonNull<u8> {
        NonNull::new(layout::direct_map(frame.addr().0)).expect("the direct map does not begin at 0")
    }

    fn frame_at(&self, address: NonNull<u8>) -> Frame {
        Frame((address.addr().get() as u64 - layout::DIRECT_MAP) / PAGE_SIZE)
    }

    fn allocate_frame(&self, _: FrameUse) -> Option<Frame> {
        let frame = frames::allocate()?;
        // SAFETY: the frame is ours alone, and the direct map is valid for its 4096 bytes.
        unsafe { self.direct_map(frame).write_bytes(0, PAGE_SIZE as usize) };
        Some(frame)
    }

    unsafe fn free_frame(&self, frame: Frame, _: FrameUse) {
        frames::free(frame);
    }

    fn cpu_count(&self) -> usize {
        percpu::cpu_count()
    }

    #[inline]
    fn current_cpu(&self) -> CpuId {
        percpu::current_cpu()
    }

    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        sched::without_preemption(f)
    }

    fn is_pinned(&self) -> bool {
        sched::is_pinned()
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        interrupts::without(f)
    }

    fn shootdowns(&self) -> &Shootdowns {
        &SHOOTDOWNS
    }

    fn send_shootdown(&self, targets: &CpuSet) {
        targets.iter().for_each(apic::send_shootdown);
    }

    /// The handler runs with interrupts off and touches no user address, nor does that of an NMI; so an old translation, which is there until it is
    /// through, can do no harm.
    fn may_acknowledge_early(&self) -> bool {
        true
    }

    fn relax(&self) {
        waiting::relax();
    }

    fn wake(&self, cpu: CpuId) {
        waiting::wake(cpu);
    }

    fn tlb_features(&self) -> TlbFeatures {
        self.dispatch.features().tlb_features()
    }

    fn has_no_execute(&self) -> bool {
        self.dispatch.features().has(Features::NX)
    }

    fn invlpg_misses_globals(&self) -> bool {
        self.dispatch.features().invlpg_misses_globals()
    }

    #[inline]
    unsafe fn load_cr3(&self, cr3: Cr3) {
        // SAFETY: the caller's promise; PCIDs are used only if `tlb_features` has them.
        unsafe { instructions::load_cr3(cr3) };
    }

    #[inline]
    fn invalidate_page(&self, va: VirtAddr) {
        instructions::invlpg(va);
    }

    fn invalidate_everything(&self) {
        self.dispatch.invalidate_everything();
    }

    fn invpcid(&self, what: Invpcid) {
        self.dispatch.invpcid(what);
    }

    fn invlpgb(&self, what: Invlpgb) {
        self.dispatch.invlpgb(what);
    }

    fn tlbsync(&self) {
        self.dispatch.tlbsync();
    }

    #[inline]
    fn participant(&self) -> &Participant<KernelScheduler> {
        sched::current().participant()
    }
}
