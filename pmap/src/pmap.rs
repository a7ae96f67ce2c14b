//! Address spaces: the type-stable core and the handle that owns one.

use core::fmt;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

use lock_api::{Mutex, MutexGuard};

use crate::addr::{Frame, PAGE_SIZE, VirtRange};
use crate::cpuset::{AtomicCpuSet, MAX_CPUS};
use crate::error::Shortage;
use crate::machine::Machine;
use crate::pv::{ChunkHeader, ChunkList};
use crate::system::System;

/// What the pmap lock protects, beside the page tables themselves.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) chunks: ChunkList,
    /// Leaf mappings that are wired.
    pub(crate) wired: u64,
    /// Leaf tables that are saved, in all directories.
    pub(crate) saved: u64,
}

/// One address space, as PV chunks refer to it.
///
/// INV-P-1: cores are type-stable. They live in frames that are never given back and are only ever
/// recycled as cores, because a thread that goes from a page to the pmap of one of its mappings must
/// drop the PV-list lock before it blocks on the pmap lock; what it then locks is a pmap still, if
/// perhaps another one's, and the PV list's generation tells.
pub(crate) struct Core<M: Machine> {
    lock: Mutex<M::RawMutex, State>,
    /// CPUs that may hold translations of this address space.
    active: AtomicCpuSet,
    root: AtomicU64,
    /// Pages and page-table pages. Written with the lock held; read without it as a hint.
    resident: AtomicU64,
    live: AtomicBool,
    kernel: AtomicBool,
    /// Gathers that are not flushed although the lock was released. Written with the lock held.
    delayed: AtomicU64,
    /// Places on the list of chunks that this address space is looking through while it reclaims. They lie here
    /// because cores never go away.
    markers: [ChunkHeader; 2],
    /// Its PCID on each CPU, see `pcid`. In the same page.
    tags: Tags,
    /// Next core of the arena's list of free ones, then of all.
    next_free: AtomicPtr<Core<M>>,
    next: AtomicPtr<Core<M>>,
}

/// The tags that lie behind a core in its page.
struct Tags(NonNull<[AtomicU64]>);

// SAFETY: the tags are atomics in memory that never goes away.
unsafe impl Send for Tags {}
// SAFETY: as above.
unsafe impl Sync for Tags {}

impl<M: Machine> Core<M> {
    const FITS: () = assert!(
        Self::stride(MAX_CPUS) <= PAGE_SIZE as usize && align_of::<Self>() <= PAGE_SIZE as usize,
        "a page holds a core with a tag for every CPU"
    );

    /// Bytes from one core of a page to the next: the core, and a tag for each CPU.
    const fn stride(cpus: usize) -> usize {
        (size_of::<Self>() + cpus * size_of::<AtomicU64>()).next_multiple_of(align_of::<Self>())
    }

    fn new(tags: Tags) -> Self {
        Self {
            lock: Mutex::new(State::default()),
            active: AtomicCpuSet::new(),
            root: AtomicU64::new(0),
            resident: AtomicU64::new(0),
            live: AtomicBool::new(false),
            kernel: AtomicBool::new(false),
            delayed: AtomicU64::new(0),
            markers: [ChunkHeader::marker(), ChunkHeader::marker()],
            tags,
            next_free: AtomicPtr::new(null_mut()),
            next: AtomicPtr::new(null_mut()),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, M::RawMutex, State> {
        self.lock.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, M::RawMutex, State>> {
        self.lock.try_lock()
    }

    pub(crate) fn active(&self) -> &AtomicCpuSet {
        &self.active
    }

    /// Whether a flush is delayed past the lock, which the caller holds.
    pub(crate) fn has_delayed(&self) -> bool {
        // ORD: Relaxed; protected by the lock.
        self.delayed.load(Ordering::Relaxed) > 0
    }

    /// Notes that a flush is to be delayed, or is no longer. The lock is held.
    pub(crate) fn add_delayed(&self, change: i64) {
        // ORD: Relaxed, both; protected by the lock.
        let now = self.delayed.load(Ordering::Relaxed).wrapping_add_signed(change);
        self.delayed.store(now, Ordering::Relaxed); // ORD: as above
    }

    /// Its PCID on each CPU.
    pub(crate) fn tags(&self) -> &[AtomicU64] {
        // SAFETY: made with the core, initialised, and as type-stable as that (INV-P-1).
        unsafe { self.tags.0.as_ref() }
    }

    pub(crate) fn root(&self) -> Frame {
        // ORD: Relaxed; constant while the address space lives.
        Frame(self.root.load(Ordering::Relaxed))
    }

    pub(crate) fn is_kernel(&self) -> bool {
        // ORD: Relaxed; constant while the address space lives.
        self.kernel.load(Ordering::Relaxed)
    }

    /// Two markers, for the holder of the lock.
    pub(crate) fn markers(&self) -> &[ChunkHeader; 2] {
        &self.markers
    }

    pub(crate) fn is_live(&self) -> bool {
        // ORD: Acquire pairs with the Release in `Arena`: a live core is set up.
        self.live.load(Ordering::Acquire)
    }

    /// The pointer by which chunks know their owner.
    pub(crate) fn as_owner(&self) -> *const () {
        core::ptr::from_ref(self).cast()
    }

    pub(crate) fn resident(&self) -> u64 {
        // ORD: Relaxed; a hint without the lock, exact with it.
        self.resident.load(Ordering::Relaxed)
    }

    /// Changes the resident count. The pmap lock is held.
    pub(crate) fn add_resident(&self, change: i64) {
        // ORD: Relaxed; protected by the lock, so a plain addition is enough.
        self.resident.store(self.resident().wrapping_add_signed(change), Ordering::Relaxed);
    }
}

/// Where cores come from.
pub(crate) struct Arena<M: Machine> {
    lists: Mutex<M::RawMutex, Lists<M>>,
    cpus: usize,
}

struct Lists<M: Machine> {
    free: Option<NonNull<Core<M>>>,
    all: Option<NonNull<Core<M>>>,
}

// SAFETY: cores are shared state made for many threads; the pointers are to type-stable memory.
unsafe impl<M: Machine> Send for Lists<M> {}

impl<M: Machine> Arena<M> {
    pub(crate) fn new(cpus: usize) -> Self {
        Self { lists: Mutex::new(Lists { free: None, all: None }), cpus }
    }

    /// A core with this root, live, with `resident` pages counted already. `page` gives a fresh page that never
    /// goes back, if one is needed.
    pub(crate) fn allocate(
        &self,
        page: impl FnOnce() -> Option<NonNull<u8>>,
        root: Frame,
        resident: u64,
        kernel: bool,
    ) -> Result<NonNull<Core<M>>, Shortage> {
        let mut lists = self.lists.lock();
        let core = match lists.free {
            Some(core) => core,
            None => lists.carve(page().ok_or(Shortage)?, self.cpus),
        };
        // SAFETY: INV-P-1.
        let it = unsafe { core.as_ref() };
        // ORD: Relaxed; the free list is protected by the arena's lock.
        lists.free = NonNull::new(it.next_free.load(Ordering::Relaxed));
        it.root.store(root.0, Ordering::Relaxed); // ORD: published by `live`
        // What CPUs have cached under the PCIDs of the core's last owner must not become this one's.
        it.tags().iter().for_each(|tag| tag.store(0, Ordering::Relaxed)); // ORD: published by `live`
        it.resident.store(resident, Ordering::Relaxed); // ORD: published by `live`
        it.kernel.store(kernel, Ordering::Relaxed); // ORD: published by `live`
        // ORD: Release pairs with `is_live`.
        it.live.store(true, Ordering::Release);
        Ok(core)
    }

    /// Takes back a core whose address space is gone. The caller holds no reference into it afterwards.
    pub(crate) fn free(&self, core: &Core<M>) {
        let mut lists = self.lists.lock();
        // ORD: Relaxed; the free list is protected by the arena's lock.
        core.next_free.store(lists.free.map_or(null_mut(), NonNull::as_ptr), Ordering::Relaxed);
        lists.free = Some(NonNull::from(core));
    }

    /// Ends the life of the address space, for readers that hold the lock of a core that they found live.
    pub(crate) fn end(core: &Core<M>) {
        let _state = core.lock();
        // ORD: Release pairs with `is_live`.
        core.live.store(false, Ordering::Release);
    }

    /// Calls `f` with every live core. Address spaces come and go meanwhile.
    pub(crate) fn for_each_live(&self, mut f: impl FnMut(&Core<M>)) {
        let mut at = self.lists.lock().all;
        while let Some(core) = at {
            // SAFETY: INV-P-1.
            let core = unsafe { core.as_ref() };
            if core.is_live() {
                f(core);
            }
            // ORD: Relaxed; written once, before the core was put on the list under the lock we took.
            at = NonNull::new(core.next.load(Ordering::Relaxed));
        }
    }
}

impl<M: Machine> Lists<M> {
    /// Makes cores of a whole page, all of which go on both lists; returns the head of the free ones.
    fn carve(&mut self, page: NonNull<u8>, cpus: usize) -> NonNull<Core<M>> {
        const { Core::<M>::FITS };
        let stride = Core::<M>::stride(cpus);
        let per_page = PAGE_SIZE as usize / stride;
        for i in 0..per_page {
            // SAFETY: the page is a fresh frame that nobody else uses, page aligned, and holds `per_page`
            // cores with their tags, `stride` bytes each, which is a multiple of the core's alignment; it is never given back
            // (INV-P-1). Tags are initialised before the core that shows them; their place behind the core is aligned, since a
            // core contains an AtomicU64 and its size is a multiple of that one's alignment.
            let core = unsafe {
                let place = page.add(i * stride).cast::<Core<M>>();
                let tags = place.add(1).cast::<AtomicU64>();
                (0..cpus).for_each(|cpu| tags.add(cpu).write(AtomicU64::new(0)));
                place.write(Core::new(Tags(NonNull::slice_from_raw_parts(tags, cpus))));
                place.as_ref()
            };
            // ORD: Relaxed, both; published by the arena's lock.
            core.next_free.store(self.free.map_or(null_mut(), NonNull::as_ptr), Ordering::Relaxed);
            core.next.store(self.all.map_or(null_mut(), NonNull::as_ptr), Ordering::Relaxed); // ORD: as above
            self.free = Some(NonNull::from(core));
            self.all = self.free;
        }
        self.free.unwrap_or(page.cast())
    }
}

/// An address space: 4-level page tables over the user half, the kernel half shared.
///
/// The handle owns the address space; [`destroy`](Self::destroy) takes it down. All functions may be
/// called from several CPUs at once. Unless stated otherwise a function that takes rights away or
/// removes mappings returns when no CPU can use the old translations any more.
pub struct Pmap<'s, M: Machine> {
    system: &'s System<M>,
    core: &'s Core<M>,
}

impl<'s, M: Machine> Pmap<'s, M> {
    pub(crate) fn from_core(system: &'s System<M>, core: &'s Core<M>) -> Self {
        Self { system, core }
    }

    pub(crate) fn core(&self) -> &'s Core<M> {
        self.core
    }

    /// The system that the address space belongs to.
    #[must_use]
    pub fn system(&self) -> &'s System<M> {
        self.system
    }

    /// The root table, which a CPU's CR3 holds while the address space is current there.
    #[must_use]
    pub fn root(&self) -> Frame {
        self.core.root()
    }

    /// Pages mapped, in units of 4 KiB, plus page-table pages, the root included. Read without a lock.
    #[must_use]
    pub fn resident_count(&self) -> u64 {
        self.core.resident()
    }

    /// Wired mappings, in units of 4 KiB.
    #[must_use]
    pub fn wired_count(&self) -> u64 {
        self.core.lock().wired
    }

    /// Makes sure that the next `mappings` managed mappings find their PV entries: at most page-table pages can be
    /// missing then. Other threads that enter mappings meanwhile may use some up. Reclaims like
    /// [`enter`](Self::enter), so that other mappings, of this address space too, may be gone afterwards. Reserved entries
    /// go back with the address space, or earlier if others are short of memory.
    ///
    /// # Errors
    ///
    /// [`Shortage`] if there is neither memory nor anything to reclaim; what was got so far stays reserved.
    pub fn reserve(&self, mappings: usize) -> Result<(), Shortage> {
        let mut pv = self.system.pv_locks().slot();
        self.system
            .with_entries(self.core, |state| self.system.reserve_pv(self.core, state, &mut pv, mappings))
    }

    /// Gives the address space up: removes what is still mapped, wired or not, and frees its tables.
    ///
    /// # Errors
    ///
    /// Returns the handle if the address space is still current on some CPU, which must activate another one first.
    pub fn destroy(self) -> Result<(), DestroyError<'s, M>> {
        // ORD: SeqCst pairs with `activate`'s; a CPU that still runs the address space is seen.
        if !self.core.active.load(Ordering::SeqCst).is_empty() {
            return Err(DestroyError { pmap: self });
        }
        // Dropping would take it down again, also after a panic.
        core::mem::ManuallyDrop::new(self).take_down();
        Ok(())
    }
}

impl<M: Machine> Pmap<'_, M> {
    fn take_down(&self) {
        self.remove(VirtRange::user());
        self.system.release(self.core);
    }
}

impl<M: Machine> Drop for Pmap<'_, M> {
    /// Does what [`destroy`](Pmap::destroy) does. An address space that is still active cannot be taken down
    /// safely: it stays, and its frames with it. Like every function of the pmap this needs a current CPU.
    fn drop(&mut self) {
        // ORD: SeqCst, as in `destroy`.
        if self.core.active.load(Ordering::SeqCst).is_empty() {
            self.take_down();
        }
    }
}

impl<M: Machine> fmt::Debug for Pmap<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pmap")
            .field("root", &self.root())
            .field("resident", &self.resident_count())
            .finish_non_exhaustive()
    }
}

/// The address space is still current on some CPU.
pub struct DestroyError<'s, M: Machine> {
    /// The address space, unharmed.
    pub pmap: Pmap<'s, M>,
}

impl<M: Machine> fmt::Debug for DestroyError<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DestroyError").field("pmap", &self.pmap).finish()
    }
}

impl<M: Machine> fmt::Display for DestroyError<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the address space is still current on a CPU: activate another one there first")
    }
}

impl<M: Machine> core::error::Error for DestroyError<'_, M> {}
