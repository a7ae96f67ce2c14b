//! A system: everything that the address spaces of one machine share.

use core::alloc::Layout;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

use crate::addr::{Frame, USER_END, VirtAddr};
use crate::cpuset::MAX_CPUS;
use crate::error::{Shortage, SystemError};
use crate::machine::{FrameUse, Machine};
use crate::mutation::{Mutation, Switch};
use crate::options::Options;
use crate::pcid::Allocator;
use crate::pmap::{Arena, Core, Pmap};
use crate::protection::Protection;
use crate::pv::{Bucket, Budget, Domains, PvLocks};
use crate::record::{PageRecord, Records};
use crate::stats::{self, Counters, RareCounters, Statistics};
use crate::tlb::TlbChoice;

/// First PML4 slot of the kernel half.
pub(crate) const KERNEL_SLOT: usize = 256;

/// What one CPU has to itself.
pub(crate) struct PerCpu<M: Machine> {
    counters: Counters,
    /// The address space that is current on this CPU; only the CPU itself looks.
    pub(crate) current: AtomicPtr<Core<M>>,
    pub(crate) pcids: Allocator,
}

/// The pmap of one machine: page records, PV-list locks, the kernel's page tables, and the address
/// spaces made from them. Two systems share nothing.
///
/// Lock order, outermost first: pmap lock (two: lower address first), then one PV-list lock. A DI section
/// may begin with a pmap lock held; nobody waits for one inside a section or with either lock held
/// (INV-P-2).
pub struct System<M: Machine> {
    // Dropped before the machine, whose memory they may live in.
    records: Records,
    per_cpu: NonNull<CachePadded<PerCpu<M>>>,
    pv_locks: PvLocks<M>,
    chunks_by_age: Domains<M>,
    chunk_budget: Budget,
    arena: Arena<M>,
    kernel: NonNull<Core<M>>,
    mutation: Switch,
    tlb: TlbChoice,
    /// See [`Options`].
    batching: bool,
    lazy_targets: bool,
    /// What every mapping permits besides what it was made for.
    implied: Protection,
    rare: RareCounters,
    #[cfg(feature = "std")]
    owned_storage: Option<(NonNull<u8>, Layout)>,
    machine: M,
}

// SAFETY: the pointers are to shared, atomic state that lives as long as the system.
unsafe impl<M: Machine + Send> Send for System<M> {}
// SAFETY: as above; Machine is Sync.
unsafe impl<M: Machine> Sync for System<M> {}

/// Where the parts of a system lie in its storage, which begins with what CPUs have to themselves.
struct Parts {
    whole: Layout,
    records_at: usize,
    pv_locks_at: usize,
}

/// Only for a machine that passed `check`.
fn layouts<M: Machine>(machine: &M, options: Options) -> Result<Parts, SystemError> {
    let overflow = |_| SystemError::BadMemory;
    let per_cpu = Layout::array::<CachePadded<PerCpu<M>>>(machine.cpu_count()).map_err(overflow)?;
    let records = Layout::array::<PageRecord>(Records::needed(machine.memory())).map_err(overflow)?;
    let locks = options.pv_locking.locks(machine.memory());
    let pv_locks = Layout::array::<CachePadded<Bucket<M::RawRwLock>>>(locks).map_err(overflow)?;
    let (whole, records_at) = per_cpu.extend(records).map_err(overflow)?;
    let (whole, pv_locks_at) = whole.extend(pv_locks).map_err(overflow)?;
    Ok(Parts { whole, records_at, pv_locks_at })
}

fn check<M: Machine>(machine: &M) -> Result<(), SystemError> {
    let cpus = machine.cpu_count();
    if cpus == 0 || cpus > MAX_CPUS {
        return Err(SystemError::CpuCount(cpus));
    }
    let mut end = 0;
    for range in machine.memory() {
        let ascending = range.start.0 >= end && range.count > 0;
        end = range.start.0.checked_add(range.count).filter(|_| ascending).ok_or(SystemError::BadMemory)?;
    }
    if end == 0 {
        return Err(SystemError::BadMemory);
    }
    let window = machine.kernel_window();
    let kernel_half = VirtAddr(!(USER_END.0 - 1));
    if window.start() < kernel_half && !window.is_empty() {
        return Err(SystemError::BadKernelWindow);
    }
    Ok(())
}

impl<M: Machine> System<M> {
    /// Size and alignment of the memory that [`with_storage`](Self::with_storage) needs for `machine` and `options`.
    ///
    /// # Errors
    ///
    /// [`SystemError`] if the machine does not describe itself sensibly.
    pub fn storage_layout(machine: &M, options: Options) -> Result<Layout, SystemError> {
        check(machine)?;
        layouts(machine, options).map(|parts| parts.whole)
    }

    /// Sets up a system whose records live in `storage`. To be called once, on the boot CPU, before
    /// others use the system.
    ///
    /// # Errors
    ///
    /// [`SystemError`]; nothing is left behind but frames of the machine, which the caller drops.
    ///
    /// # Safety
    ///
    /// `storage` is valid for reads and writes as [`storage_layout`](Self::storage_layout) says, is used
    /// by nobody else, and outlives the system.
    pub unsafe fn with_storage(
        machine: M,
        options: Options,
        storage: NonNull<[u8]>,
    ) -> Result<Self, SystemError> {
        check(&machine)?;
        let Parts { whole: layout, records_at, pv_locks_at } = layouts(&machine, options)?;
        let base = storage.cast::<u8>();
        if storage.len() < layout.size() || !base.as_ptr().addr().is_multiple_of(layout.align()) {
            return Err(SystemError::BadStorage);
        }
        let per_cpu = base.cast::<CachePadded<PerCpu<M>>>();
        for cpu in 0..machine.cpu_count() {
            let new = PerCpu {
                counters: Counters::default(),
                current: AtomicPtr::new(null_mut()),
                pcids: Allocator::new(),
            };
            // SAFETY: the storage begins with an array of cpu_count() of these, by `layouts`.
            unsafe { per_cpu.add(cpu).write(CachePadded::new(new)) };
        }
        // SAFETY: the records' array begins at this offset, by `layouts`; the rest is the caller's promise.
        let records =
            unsafe { Records::lay_out(machine.memory(), options.pv_locking, base.add(records_at).cast()) };
        let locks = options.pv_locking.locks(machine.memory());
        // SAFETY: an array of that many locks begins at this offset, by `layouts`; the rest is the caller's promise.
        let pv_locks = unsafe { PvLocks::lay_out(locks, base.add(pv_locks_at).cast()) };
        let tlb = TlbChoice::decide(machine.tlb_features(), options.tlb)?;
        if !machine.shootdowns().claim(tlb.method) {
            return Err(SystemError::MachineInUse);
        }
        let mut system = Self {
            records,
            per_cpu,
            pv_locks,
            chunks_by_age: Domains::new(),
            chunk_budget: Budget::new(options.pv_chunk_limit),
            arena: Arena::new(machine.cpu_count()),
            tlb,
            batching: options.batching,
            lazy_targets: options.lazy_targets,
            implied: if machine.has_no_execute() { Protection::empty() } else { Protection::EXECUTE },
            kernel: NonNull::dangling(),
            mutation: Switch::new(),
            rare: RareCounters::default(),
            #[cfg(feature = "std")]
            owned_storage: None,
            machine,
        };
        let root = system.allocate_frame(FrameUse::PageTable).ok_or(Shortage)?;
        system.kernel = system.arena.allocate(|| system.page_for_cores(), root, 1, true)?;
        system.adopt_boot_tables()?;
        // The thread that sets the system up need not be a CPU yet: the first one gets the account.
        let tables = 1 + system.make_kernel_tables()?;
        if let Some(first) = system.per_cpu().first() {
            // ORD: Relaxed; counts order nothing.
            first.counters.pt_pages_allocated.fetch_add(tables, Ordering::Relaxed);
            first.counters.kernel_pt_pages.fetch_add(tables, Ordering::Relaxed); // ORD: as above
        }
        Ok(system)
    }

    /// As [`with_options`](Self::with_options), with the usual ones.
    ///
    /// # Errors
    ///
    /// [`SystemError`].
    #[cfg(feature = "std")]
    pub fn new(machine: M) -> Result<Self, SystemError> {
        Self::with_options(machine, Options::default())
    }

    /// As [`with_storage`](Self::with_storage), with storage from the heap.
    ///
    /// # Errors
    ///
    /// [`SystemError`].
    #[cfg(feature = "std")]
    pub fn with_options(machine: M, options: Options) -> Result<Self, SystemError> {
        let layout = Self::storage_layout(&machine, options)?;
        // SAFETY: the layout is not empty, since a machine has at least one CPU.
        let Some(base) = NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }) else {
            std::alloc::handle_alloc_error(layout)
        };
        let storage = NonNull::slice_from_raw_parts(base, layout.size());
        // SAFETY: allocated as the layout says, ours alone, and freed only when the system is dropped.
        match unsafe { Self::with_storage(machine, options, storage) } {
            Ok(mut system) => {
                system.owned_storage = Some((base, layout));
                Ok(system)
            }
            Err(error) => {
                // SAFETY: allocated above with this layout; with_storage failed and keeps nothing.
                unsafe { std::alloc::dealloc(base.as_ptr(), layout) };
                Err(error)
            }
        }
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &M {
        &self.machine
    }

    /// The record of the page at `frame`; `None` outside the machine's memory.
    #[must_use]
    pub fn page(&self, frame: Frame) -> Option<&PageRecord> {
        self.records.get(self.machine.memory(), frame)
    }

    pub(crate) fn pages(&self) -> &[PageRecord] {
        self.records.all()
    }

    pub(crate) fn pv_locks(&self) -> &PvLocks<M> {
        &self.pv_locks
    }

    pub(crate) fn chunks_by_age(&self) -> &Domains<M> {
        &self.chunks_by_age
    }

    /// Whether an operation flushes once for all that it invalidates.
    pub(crate) fn batches(&self) -> bool {
        self.batching
    }

    /// Whether CPUs that do not run an address space are spared the interrupts for it.
    pub(crate) fn spares_others(&self) -> bool {
        self.lazy_targets
    }

    pub(crate) fn chunk_budget(&self) -> &Budget {
        &self.chunk_budget
    }

    pub(crate) fn kernel(&self) -> &Core<M> {
        // SAFETY: cores are type-stable (INV-P-1) and live as long as the machine's memory.
        unsafe { self.kernel.as_ref() }
    }

    /// The core of the owner of a chunk, which was read under a lock that keeps the chunk. Chunk and address space may be
    /// gone by now; the core is still one (INV-P-1).
    pub(crate) fn core_of(&self, owner: *const ()) -> &Core<M> {
        // SAFETY: chunks are set up with the owner's `as_owner`, and cores are type-stable (INV-P-1) and live as long as
        // the machine's memory, which the system owns.
        unsafe { &*owner.cast::<Core<M>>() }
    }

    pub(crate) fn arena(&self) -> &Arena<M> {
        &self.arena
    }

    pub(crate) fn mutation(&self) -> &Switch {
        &self.mutation
    }

    /// Switches a safety mechanism off, or all on again. For tests of the tests.
    #[cfg(feature = "mutations")]
    pub fn set_mutation(&self, mutation: Option<crate::mutation::Mutation>) {
        self.mutation.set(mutation);
        self.machine.shootdowns().mutation().set(mutation);
    }

    /// Lets every CPU go on as if it had handed out its PCIDs often: in this generation. For tests of what
    /// happens once in 2^48 generations; before the CPUs start.
    #[cfg(feature = "mutations")]
    pub fn set_pcid_generation(&self, generation: u64) {
        self.per_cpu().iter().for_each(|cpu| cpu.pcids.set_generation(generation));
    }

    /// The rights that a mapping has that is to have `prot`: without the no-execute bit, to execute as well (INV-E-6).
    #[inline]
    pub(crate) fn granted(&self, prot: Protection) -> Protection {
        if self.mutation.is(Mutation::NoExecuteAnyway) { prot } else { prot | self.implied }
    }

    /// How cached translations are managed, and why so.
    #[must_use]
    pub fn tlb_choice(&self) -> TlbChoice {
        self.tlb
    }

    pub(crate) fn per_cpu(&self) -> &[CachePadded<PerCpu<M>>] {
        // SAFETY: `with_storage` initialised cpu_count() of them, which live as long as the system.
        unsafe { core::slice::from_raw_parts(self.per_cpu.as_ptr(), self.machine.cpu_count()) }
    }

    /// Adds to a counter of the current CPU.
    pub(crate) fn count(&self, which: impl FnOnce(&Counters) -> &AtomicU64, amount: u64) {
        self.machine.without_preemption(|| {
            if let Some(cpu) = self.per_cpu().get(self.machine.current_cpu().index()) {
                let counter = which(&cpu.counters);
                // ORD: Relaxed, both; only this CPU writes, and nothing comes in between on it. So no locked instruction.
                counter.store(counter.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
            }
        });
    }

    /// What has happened so far.
    #[must_use]
    pub fn statistics(&self) -> Statistics {
        stats::sum(self.per_cpu().iter().map(|cpu| &cpu.counters), &self.rare)
    }

    /// A new, empty address space (`pmap_pinit`).
    ///
    /// # Errors
    ///
    /// [`Shortage`] if there is no frame for the root table.
    pub fn create(&self) -> Result<Pmap<'_, M>, Shortage> {
        let root = self.allocate_frame(FrameUse::PageTable).ok_or(Shortage)?;
        let core = match self.arena.allocate(|| self.page_for_cores(), root, 1, false) {
            Ok(core) => core,
            Err(shortage) => {
                // SAFETY: allocated above, used by nobody yet.
                unsafe { self.free_frame(root, FrameUse::PageTable) };
                return Err(shortage);
            }
        };
        self.count(|c| &c.pt_pages_allocated, 1);
        // The kernel half never changes after set-up: its upper tables exist already.
        for index in KERNEL_SLOT..512 {
            let entry = self.slot(self.kernel().root(), index).load();
            if entry.is_present() {
                self.slot(root, index).create(entry);
            }
        }
        // SAFETY: cores are type-stable (INV-P-1).
        Ok(Pmap::from_core(self, unsafe { core.as_ref() }))
    }

    /// Frees the root and the core of an address space that maps nothing and is active nowhere.
    pub(crate) fn release(&self, core: &Core<M>) {
        let root = core.root();
        debug_assert_eq!(core.resident(), 1, "only the root is left of a released address space");
        let mut state = core.lock();
        self.discard_unused_chunks(core, &mut state);
        debug_assert!(state.chunks.is_empty(), "no PV entry is left of a released address space");
        debug_assert_eq!(state.saved, 0, "no saved table is left of a released address space");
        drop(state);
        // Takes the lock: whoever removed the last mapping has left it, its flush and its PV entries are done.
        Arena::end(core);
        self.arena.free(core);
        self.count(|c| &c.pt_pages_freed, 1);
        // SAFETY: allocated by `create` for this purpose; every CPU that had it loaded has loaded another
        // root since, and what is cached under its PCIDs is never used again: its tags die with it (INV-C-1).
        unsafe { self.free_frame(root, FrameUse::PageTable) };
    }

    /// A frame for the pmap's own use, which nobody can map.
    pub(crate) fn allocate_frame(&self, purpose: FrameUse) -> Option<Frame> {
        loop {
            let Some(frame) = self.machine.allocate_frame(purpose) else {
                self.rare.frames_refused.fetch_add(1, Ordering::Relaxed); // ORD: counts order nothing
                return None;
            };
            let Some(record) = self.page(frame) else { return Some(frame) };
            // A frame that must never be used stays allocated, which is the best place for it (H-41).
            if record.make_internal(self.mutation().is(Mutation::UseRetired)) {
                return Some(frame);
            }
            self.rare.retired_frames_met.fetch_add(1, Ordering::Relaxed); // ORD: counts order nothing
        }
    }

    /// Gives a frame back that [`allocate_frame`](Self::allocate_frame) gave.
    ///
    /// # Safety
    ///
    /// As [`Machine::free_frame`].
    pub(crate) unsafe fn free_frame(&self, frame: Frame, purpose: FrameUse) {
        if let Some(record) = self.page(frame) {
            record.forget_internal();
        }
        // SAFETY: the caller's promise.
        unsafe { self.machine.free_frame(frame, purpose) };
    }

    fn page_for_cores(&self) -> Option<NonNull<u8>> {
        self.allocate_frame(FrameUse::PmapRecord).map(|frame| self.machine.direct_map(frame))
    }

    /// Panics if `page` belongs to another system: its locks and its direct map would be the wrong ones.
    #[track_caller]
    pub(crate) fn assert_own(&self, page: &PageRecord) {
        assert!(
            self.records.all().as_ptr_range().contains(&core::ptr::from_ref(page)),
            "the page record belongs to another system"
        );
    }
}

impl<M: Machine> Drop for System<M> {
    fn drop(&mut self) {
        self.machine.shootdowns().release();
        // Per-CPU state, records and locks are atomics and need no drop of their own.
        #[cfg(feature = "std")]
        if let Some((base, layout)) = self.owned_storage.take() {
            // SAFETY: allocated by `new` with this layout; nobody can reach the records any more.
            unsafe { std::alloc::dealloc(base.as_ptr(), layout) };
        }
    }
}

impl<M: Machine> core::fmt::Debug for System<M> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("System").field("statistics", &self.statistics()).finish_non_exhaustive()
    }
}
