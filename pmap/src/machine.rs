//! The machine below the pmap: what an embedder writes.
//!
//! A kernel implements [`Machine`] on real control registers and a local APIC, the software machine
//! (feature `sim`) on simulated ones. Everything the pmap does to hardware goes through this trait, and
//! two machines fit in one process: nothing is a static.

use core::ptr::NonNull;

use gencount::Participant;
use turnstile::TableScheduler;

use crate::addr::{Frame, FrameRange, VirtAddr, VirtRange};
use crate::cpuset::{CpuId, CpuSet};
use crate::shootdown::Shootdowns;
use crate::translation::{Cr3, Invlpgb, Invpcid, TlbFeatures};

/// Most memory domains that a machine may have.
pub const MAX_DOMAINS: usize = 8;

/// What a frame is to be used for, so that a machine can account for it or keep a reserve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FrameUse {
    /// A page-table page of any level.
    PageTable,
    /// A chunk of PV entries.
    PvChunk,
    /// The pmap's own type-stable records of address spaces. Such frames are never given back.
    PmapRecord,
}

/// A promise about every TLB and paging-structure cache of the machine, stated by the pmap at the
/// moment from which it holds. A real machine ignores it; the software machine searches for an entry
/// that breaks it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guarantee {
    /// No CPU holds a translation of an address in `range` of the address space with page-table root
    /// `root`. Stated with the pmap lock held, but for the kernel's, whose window has no lock.
    Unmapped {
        /// Root table of the address space.
        root: Frame,
        /// The addresses.
        range: VirtRange,
    },
    /// No CPU holds a translation in `range` that maps another frame than the page tables do now, or
    /// that can be used for more than they permit now. A translation that is writable but not yet
    /// dirty cannot be written through without a new walk (Intel SDM vol. 3, 4.10.2.3 and 4.8) and so
    /// permits no store; one that is dirty where the entry is not would lose the dirty bit of the next
    /// store. Stated with the pmap lock held.
    Restricted {
        /// Root table of the address space.
        root: Frame,
        /// The addresses.
        range: VirtRange,
    },
    /// No CPU holds a translation to `frame` made from a managed mapping. Holds as long as nobody
    /// enters the page anew, which the caller of `remove_all` prevents.
    PageUnmapped {
        /// The page.
        frame: Frame,
    },
    /// No CPU holds a translation to `frame`, made from a managed mapping, through which it could
    /// store without a new walk.
    PageReadOnly {
        /// The page.
        frame: Frame,
    },
}

/// A machine: memory, CPUs, their TLBs and interrupts, and the locks that fit it.
///
/// All functions take `&self` and are called from many CPUs at once. "Current" means the calling CPU
/// or thread.
///
/// # Safety
///
/// The pmap's memory safety, and that of every program whose memory it maps, rests on the implementer. What of it can be observed from
/// outside is tried by the suite in `pmap::conformance` (feature `conformance`).
///
/// * [`direct_map`](Self::direct_map) gives, for every frame of [`memory`](Self::memory) and every
///   allocated frame, a pointer valid for reads and writes of 4096 bytes, the same for the life of the
///   machine, and different frames never overlap; [`frame_at`](Self::frame_at) is its inverse;
/// * [`allocate_frame`](Self::allocate_frame) hands out frames of [`memory`](Self::memory) only, never
///   frame 0, and never one that is in use, that another owner may write, or that the hardware may still
///   reach through a stale translation;
/// * [`memory`](Self::memory), [`cpu_count`](Self::cpu_count) and
///   [`kernel_window`](Self::kernel_window) never change;
/// * the invalidation functions do on the current CPU what their documentation says before they return;
/// * [`tlb_features`](Self::tlb_features), [`has_no_execute`](Self::has_no_execute) and
///   [`invlpg_misses_globals`](Self::invlpg_misses_globals) are true of every CPU,
///   and [`may_acknowledge_early`](Self::may_acknowledge_early) says yes only under its condition;
/// * after [`send_shootdown`](Self::send_shootdown), every target calls [`Shootdowns::serve`] in finite
///   time and before it executes another user instruction; what the sender stored before is visible to that
///   call, so where sending orders nothing by itself (a store to an x2APIC register) it is preceded by a fence;
/// * what [`boot_root`](Self::boot_root) names is as its documentation says;
/// * no frame of [`memory`](Self::memory) that the pmap did not allocate holds anything that Rust code refers to while the
///   pmap may be asked to zero, copy or map it;
/// * the raw locks exclude as `lock_api` demands, and [`participant`](Self::participant) is the
///   current thread's own and is used by no other thread;
/// * [`current_cpu`](Self::current_cpu) is stable inside
///   [`without_preemption`](Self::without_preemption) and
///   [`without_interrupts`](Self::without_interrupts), and no two CPUs share an identifier.
pub unsafe trait Machine: Sized + Sync {
    /// Mutual exclusion for the pmap lock and the PV-chunk-list lock. A thread that waits for it must
    /// serve shootdowns meanwhile: with interrupts enabled it does so by itself, otherwise it calls [`Shootdowns::serve`].
    type RawMutex: lock_api::RawMutex + Send + Sync;
    /// Reader-writer lock for the PV lists; the same rule for waiters.
    type RawRwLock: lock_api::RawRwLock + Send + Sync;
    /// Blocks threads that wait for delayed invalidations, in the one table of its threads, which lend there to those
    /// whom they wait for.
    type Scheduler: TableScheduler;

    // --- Memory ---

    /// The physical memory whose pages the pmap may be asked to manage, in ascending order, disjoint.
    fn memory(&self) -> &[FrameRange];

    /// Addresses in the kernel half that [`System::kenter`](crate::System::kenter) and its relatives
    /// may map; their page tables are made when the system is.
    fn kernel_window(&self) -> VirtRange;

    /// Root of the 4-level tables that the machine booted with, if the pmap is to adopt their kernel half: code, stacks and direct map
    /// stay mapped when a CPU loads a root of the pmap's. Asked once, when the system is made; the top-level entries from slot
    /// 256 on are copied then, into every root. From there on the tables below are shared, and stay the machine's: the pmap never
    /// changes, counts or frees them, and entries that the boot root gets later are not seen.
    ///
    /// Slots in which the kernel window lies must be free. The root and all tables that can be reached from it by the kernel
    /// half are in the direct map, too, and are never freed.
    #[inline]
    fn boot_root(&self) -> Option<Frame> {
        None
    }

    /// Address of `frame` in the direct map.
    fn direct_map(&self, frame: Frame) -> NonNull<u8>;

    /// The inverse of [`direct_map`](Self::direct_map): the frame of the page at `address`, which that gave.
    fn frame_at(&self, address: NonNull<u8>) -> Frame;

    /// A frame for the pmap's own use, filled with zeroes. `None` at once when there is none: the
    /// pmap then reclaims or reports, it never waits here. Called with locks held; must not block on
    /// anything but a leaf lock, and must not call back into the pmap.
    fn allocate_frame(&self, purpose: FrameUse) -> Option<Frame>;

    /// Takes a frame back. No CPU can reach it any more, neither through a translation nor through a
    /// paging-structure cache.
    ///
    /// # Safety
    ///
    /// `frame` came from [`allocate_frame`](Self::allocate_frame) with the same purpose, is given back
    /// once, and nothing refers to it.
    unsafe fn free_frame(&self, frame: Frame, purpose: FrameUse);

    /// Number of memory domains (NUMA nodes), at least 1 and at most [`MAX_DOMAINS`]. Never changes.
    #[inline(always)]
    fn domain_count(&self) -> usize {
        1
    }

    /// The memory domain of `frame`, below [`domain_count`](Self::domain_count). Never changes.
    #[inline(always)]
    fn domain_of_frame(&self, _frame: Frame) -> usize {
        0
    }

    /// The memory domain that `cpu` is nearest to, below [`domain_count`](Self::domain_count). Never changes.
    #[inline(always)]
    fn domain_of_cpu(&self, _cpu: CpuId) -> usize {
        0
    }

    /// Notes that the pmap uses a frame for something else from now on, as if it had been given back and
    /// allocated again, which a machine that keeps accounts must know. The frame is given back as `to` later.
    ///
    /// # Safety
    ///
    /// As [`free_frame`](Self::free_frame); `frame` came with the purpose `from`, and the caller keeps it.
    unsafe fn reuse_frame(&self, _frame: Frame, _from: FrameUse, _to: FrameUse) {}

    // --- CPUs ---

    /// Number of CPUs; their identifiers are `0..cpu_count()`.
    fn cpu_count(&self) -> usize;

    /// The current CPU.
    fn current_cpu(&self) -> CpuId;

    /// Runs `f` on one CPU without switching to another thread; interrupts are still taken.
    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R;

    /// Whether the calling thread is kept on its CPU: inside [`without_preemption`](Self::without_preemption) or
    /// [`without_interrupts`](Self::without_interrupts), or in an interrupt handler. For assertions only; true where
    /// it cannot be told.
    #[inline(always)]
    fn is_pinned(&self) -> bool {
        true
    }

    /// Runs `f` with interrupts of the current CPU disabled. Who must wait inside calls [`Shootdowns::serve`] over and over.
    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R;

    /// The machine's shootdown requests: one per machine, shared by all its CPUs.
    fn shootdowns(&self) -> &Shootdowns;

    /// Interrupts every CPU in `targets` (never the current one), so that it calls
    /// [`Shootdowns::serve`]. Returns without waiting.
    fn send_shootdown(&self, targets: &CpuSet);

    /// Whether a CPU may acknowledge a request before it has invalidated what it names, so that the initiator goes on sooner (H-23).
    ///
    /// Only if nothing that can run on the CPU from the beginning of its shootdown handler to the end (the handler, interrupts and
    /// NMIs within) touches user addresses: the old translation is still there. Even then it is done only for
    /// user translations, and never if page-table pages are to be freed, in which the processor may walk at any time.
    #[inline(always)]
    fn may_acknowledge_early(&self) -> bool {
        false
    }

    /// Called over and over by a CPU that waits for another one. Must let pending shootdowns be
    /// served, and may pause, yield or park until [`wake`](Self::wake) or an interrupt.
    fn relax(&self);

    /// Tells `cpu`, which may be parked in [`relax`](Self::relax), that what it waits for may be true.
    fn wake(&self, cpu: CpuId);

    // --- Translation on the current CPU ---

    /// What the CPUs have for it. Never changes, and holds for every CPU that is taken into service.
    ///
    /// Where there are PCIDs, CR4.PGE is set as well as CR4.PCIDE: the kernel window's entries have the global bit, and one INVLPG
    /// must drop what is cached of them, whatever the PCID under which the processor walked.
    #[inline]
    fn tlb_features(&self) -> TlbFeatures {
        TlbFeatures::NONE
    }

    /// Whether every CPU has the no-execute bit (CPUID.8000_0001:EDX\[20\]), with EFER.NXE set. Where one has not, bit 63 of an
    /// entry is reserved, so the pmap never sets it: whatever can be read can be executed then. Asked once, when the system
    /// is made.
    #[inline]
    fn has_no_execute(&self) -> bool {
        true
    }

    /// Whether INVLPG on the current CPU can leave global translations while PCIDs are on, as on the small cores of some
    /// hybrid processors (Intel erratum ADL063 and its relatives).
    #[inline]
    fn invlpg_misses_globals(&self) -> bool {
        false
    }

    /// Loads CR3. Unless `no_flush` is set, invalidates every non-global translation and paging-structure-cache entry under
    /// the PCID that is loaded (Intel SDM vol. 3, 4.10.4.1).
    ///
    /// # Safety
    ///
    /// `cr3.root` is a valid root table that maps whatever the current CPU executes and touches.
    unsafe fn load_cr3(&self, cr3: Cr3);

    /// Invalidates translations of the page at `va` under the current PCID, global ones too, and
    /// the current PCID's paging-structure caches (INVLPG, Intel SDM vol. 3, 4.10.4.1).
    fn invalidate_page(&self, va: VirtAddr);

    /// Invalidates everything under every PCID, global translations included (toggling CR4.PGE).
    fn invalidate_everything(&self);

    /// Executes INVPCID. Called only if [`tlb_features`](Self::tlb_features) says that there is one. What is here does more
    /// than is asked for, which is never wrong.
    #[inline]
    fn invpcid(&self, _what: Invpcid) {
        self.invalidate_everything();
    }

    /// Executes INVLPGB. Called only if [`tlb_features`](Self::tlb_features) says that there is one.
    ///
    /// # Panics
    ///
    /// What is here panics: a machine that has INVLPGB must implement it.
    fn invlpgb(&self, what: Invlpgb) {
        panic!("the machine claims to have INVLPGB, and does not implement it ({what:?})");
    }

    /// Executes TLBSYNC: returns when all CPUs have done every INVLPGB that the current CPU has issued.
    fn tlbsync(&self) {}

    // --- Threads ---

    /// The current thread's place in the machine's domain of delayed invalidation. All threads of a
    /// machine are in one domain.
    fn participant(&self) -> &Participant<Self::Scheduler>;

    /// A place where a simulated machine may switch to another CPU, called before every access to
    /// memory that other CPUs or the hardware touch as well. Costs nothing elsewhere.
    #[inline(always)]
    fn point(&self) {}

    /// See [`Guarantee`].
    #[inline(always)]
    fn guarantee(&self, _guarantee: Guarantee) {}
}
