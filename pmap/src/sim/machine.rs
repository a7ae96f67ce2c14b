//! The machine itself: its parts, and the [`Machine`] that the pmap sees.

use core::ptr::NonNull;
use std::boxed::Box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::vec::Vec;

use gencount::{Counters, Domain, Participant, PiTurnstiles};

use super::baton::{Baton, Event};
use super::config::{Config, Mode, SimError};
use super::context;
use super::cpu::{self, Cpu};
use super::doorbell::{Doorbell, Doorbells};
use super::fault::{Fallible, Faults};
use super::lock::{RawMutex, RawRwLock};
use super::memory::{Memory, Owner};
use super::mmu::Board;
use super::report::{Ledger, Report};
use super::run::Poison;
use super::scheduler::{SimScheduler, SimThreads};
use super::turns::{Executor, Turns};
use crate::machine::{FrameUse, Guarantee, Machine};
use crate::shootdown::Shootdowns;
use crate::translation::{Cr3, Invlpgb, Invpcid, TlbFeatures};
use crate::{CpuId, CpuSet, Frame, FrameRange, PAGE_SIZE, VirtAddr, VirtRange};

/// First address of the kernel window, and its pages: one page table's worth.
const KERNEL_WINDOW: VirtAddr = VirtAddr(0xffff_ff00_0000_0000);
const KERNEL_PAGES: u64 = 512;

/// A software machine. See the [module documentation](super).
pub struct SimMachine {
    pub(super) config: Config,
    pub(super) memory: Memory,
    pub(super) ledger: Ledger,
    pub(super) cpus: Box<[Cpu]>,
    pub(super) doorbells: Arc<Doorbells>,
    pub(super) shootdowns: Box<Shootdowns>,
    pub(super) poison: Poison,
    pub(super) faults: Faults,
    pub(super) searches: AtomicU64,
    pub(super) skipped: AtomicU64,
    pub(super) broadcasts: AtomicU64,
    /// What CPUID says.
    pub(super) features: TlbFeatures,
    boot_root: Option<Frame>,
    participants: Vec<Participant<SimScheduler>>,
    domain: Arc<Domain<SimScheduler>>,
}

impl core::fmt::Debug for SimMachine {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SimMachine").field("config", &self.config).finish_non_exhaustive()
    }
}

impl SimMachine {
    /// A machine with empty memory, and no CPU running.
    ///
    /// # Errors
    ///
    /// A [`SimError`] that names the field of `config` that is out of range, or says that the host has
    /// too little memory.
    pub fn new(config: Config) -> Result<Self, SimError> {
        config.validate()?;
        let baton = || Baton::new(config.cpus, config.seed, config.adversary.switch_one_in);
        let turns = (config.mode == Mode::Deterministic).then(|| Turns::Baton(baton()));
        Self::with_turns(config, turns)
    }

    /// A machine whose CPUs an executor runs, whatever [`Config::mode`] says: not with [`run_cpus`](Self::run_cpus), which
    /// starts host threads, but each in a task of the executor that calls [`run_cpu`](Self::run_cpu).
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn with_executor(config: Config, executor: impl Executor + 'static) -> Result<Self, SimError> {
        Self::with_turns(config, Some(Turns::Executor(Box::new(executor))))
    }

    fn with_turns(config: Config, turns: Option<Turns>) -> Result<Self, SimError> {
        config.validate()?;
        let memory = Memory::new(config.frames, config.domains)?;
        let bells = (0..config.cpus).map(|_| Doorbell::default()).collect();
        let doorbells = Arc::new(Doorbells { bells, turns });
        let scheduler = Arc::new(PiTurnstiles::new(SimThreads { doorbells: Arc::clone(&doorbells) }));
        let domain = Arc::new(Domain::new(config.di, scheduler));
        Ok(Self {
            memory,
            ledger: Ledger::new(config.seed),
            cpus: cpu::cpus(&config),
            doorbells,
            shootdowns: Box::new(Shootdowns::new()),
            poison: Poison::default(),
            faults: Faults::default(),
            searches: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            broadcasts: AtomicU64::new(0),
            features: features(&config),
            boot_root: None,
            participants: (0..config.cpus).map(|_| domain.join()).collect(),
            domain,
            config,
        })
    }

    /// The memory domain next to the calling thread's CPU; the first one for a thread that is none.
    fn domain_here(&self) -> usize {
        context::cpu_of(self).map_or(0, |cpu| self.domain_of(cpu))
    }

    fn domain_of(&self, cpu: usize) -> usize {
        cpu * self.config.domains / self.cpus.len()
    }

    /// Lets the machine have booted with the tables below `root`, whose kernel half a system then adopts. They are made of frames
    /// allocated as page tables, and stay.
    #[must_use]
    pub fn booted_with(self, root: Frame) -> Self {
        Self { boot_root: Some(root), ..self }
    }

    /// What the machine was made of.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The machine's domain of delayed invalidation; every CPU is a participant of it.
    #[must_use]
    pub fn domain(&self) -> &Arc<Domain<SimScheduler>> {
        &self.domain
    }

    /// The domain's statistics.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.domain.counters()
    }

    /// A frame for a page of the layer above, zeroed if asked (otherwise it holds [`POISON`](super::POISON)
    /// or zeroes); `None` if all frames are in use.
    pub fn allocate_data_frame(&self, zero: bool) -> Option<Frame> {
        context::point(Event::Frame);
        self.memory.allocate(Owner::Data, zero, self.domain_here())
    }

    /// Takes a data frame back. A guarantee point: all TLBs and paging-structure caches are searched for
    /// references to it. A frame that is no data frame is left alone and counted as forbidden.
    pub fn free_data_frame(&self, frame: Frame) {
        context::point(Event::Frame);
        self.free(frame, Owner::Data);
    }

    fn free(&self, frame: Frame, owner: Owner) {
        if self.retire(frame, owner) {
            self.memory.recycle(frame, owner);
        }
    }

    /// Takes the frame away from `owner` and searches for references to it; false if it was not `owner`'s.
    fn retire(&self, frame: Frame, owner: Owner) -> bool {
        if let Err(misuse) = self.memory.retire(frame, owner) {
            self.ledger
                .forbidden(|| std::format!("{frame:?} was freed as {owner:?}, but it is {:?}", misuse.found));
            return false;
        }
        self.search_for_frame(frame, owner);
        true
    }

    /// The words of a frame, as the kernel sees them through the direct map.
    ///
    /// # Panics
    ///
    /// If the machine has no such frame.
    #[must_use]
    pub fn frame_words(&self, frame: Frame) -> &[AtomicU64; 512] {
        self.memory.words(frame)
    }

    /// What `frame` is in use for; `None` if the machine has no such frame.
    #[must_use]
    pub fn owner(&self, frame: Frame) -> Option<Owner> {
        self.memory.contains(frame).then(|| self.memory.stamp(frame).owner())
    }

    /// Frames that can be handed out now.
    #[must_use]
    pub fn free_frames(&self) -> u64 {
        self.memory.free()
    }

    /// Frames that the machine has for use: [`Config::frames`].
    #[must_use]
    pub fn total_frames(&self) -> u64 {
        self.memory.total()
    }

    /// Most frames that were in use at once, tables and PV chunks included.
    #[must_use]
    pub fn peak_used_frames(&self) -> u64 {
        self.memory.usage().1
    }

    /// What the machine has seen so far. Exact when no CPU runs.
    #[must_use]
    pub fn report(&self) -> Report {
        let (stale_accesses, forbidden_entries) = self.ledger.counts();
        let (in_use, peak, reused) = self.memory.usage();
        let (history, switches) = self.doorbells.turns.as_ref().map_or((0, 0), Turns::history);
        // ORD: Relaxed; counters, here and below.
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let mut report = Report {
            seed: self.config.seed,
            stale_accesses,
            forbidden_entries,
            pages_reused: reused,
            searches: count(&self.searches),
            searches_skipped: count(&self.skipped),
            broadcasts: count(&self.broadcasts),
            total_frames: self.memory.total(),
            frames_in_use: [Owner::Data, Owner::PageTable, Owner::PvChunk, Owner::PmapRecord]
                .map(|owner| in_use[owner as usize]),
            peak_used_frames: peak,
            history,
            switches,
            first_failures: self.ledger.first(),
            ..Report::default()
        };
        for (index, cpu) in self.cpus.iter().enumerate() {
            let counters = self.mmu(index).counters;
            report.ipis += count(&cpu.sent);
            report.ipis_taken += count(&cpu.taken);
            report.tlb_hits += counters.hits;
            report.tlb_misses += counters.misses;
            report.structure_hits += counters.structure_hits;
            report.faults += counters.faults;
            report.speculative_fills += counters.speculative_fills;
            report.evictions += counters.evictions;
            report.invalidations += counters.invalidations;
            report.stale_before_guarantee += counters.stale_before_guarantee;
        }
        report
    }
}

// SAFETY: item by item. `direct_map` points into one allocation that lives as long as the machine, one
// page per frame. `allocate_frame` pops frames that are in nobody's hands, each once. Invalidation is
// done on the current CPU's `Mmu` before the return. A CPU that is interrupted serves before its next
// access (`poll`, at most `interrupt_delay` of them later, which is the hardware's freedom too: an
// interrupt in flight has not arrived yet, and nothing is acknowledged before it is served), whenever
// it waits, or through its proxy (INV-M-8). The locks exclude. A participant is chosen by the current
// CPU, which one thread is at a time, and that binding is what makes `current_cpu` stable and unique.
unsafe impl Machine for SimMachine {
    type RawMutex = RawMutex;
    type RawRwLock = RawRwLock;
    type Scheduler = SimScheduler;

    fn memory(&self) -> &[FrameRange] {
        self.memory.ranges()
    }

    fn kernel_window(&self) -> VirtRange {
        VirtRange::new(KERNEL_WINDOW, KERNEL_WINDOW.wrapping_add(KERNEL_PAGES * PAGE_SIZE))
            .expect("the window is page aligned")
    }

    fn boot_root(&self) -> Option<Frame> {
        self.boot_root
    }

    #[inline]
    fn direct_map(&self, frame: Frame) -> NonNull<u8> {
        self.memory.direct_map(frame)
    }

    fn frame_at(&self, address: NonNull<u8>) -> Frame {
        self.memory.frame_at(address)
    }

    fn allocate_frame(&self, purpose: FrameUse) -> Option<Frame> {
        context::point(Event::Frame);
        if self.faults.strikes(Fallible::Allocation) {
            return None;
        }
        self.memory.allocate(purpose.into(), true, self.domain_here())
    }

    unsafe fn free_frame(&self, frame: Frame, purpose: FrameUse) {
        context::point(Event::Frame);
        self.free(frame, purpose.into());
    }

    fn domain_count(&self) -> usize {
        self.config.domains
    }

    fn domain_of_frame(&self, frame: Frame) -> usize {
        self.memory.domain(frame)
    }

    fn domain_of_cpu(&self, cpu: CpuId) -> usize {
        self.domain_of(cpu.index())
    }

    unsafe fn reuse_frame(&self, frame: Frame, from: FrameUse, to: FrameUse) {
        if self.retire(frame, from.into()) {
            self.memory.hand_over(frame, from.into(), to.into());
        }
    }

    fn cpu_count(&self) -> usize {
        self.cpus.len()
    }

    /// # Panics
    ///
    /// If the calling thread is no CPU of this machine.
    fn current_cpu(&self) -> CpuId {
        CpuId::new(self.here()).expect("a machine has at most MAX_CPUS")
    }

    fn without_preemption<R>(&self, f: impl FnOnce() -> R) -> R {
        self.pinned(self.here(), f)
    }

    fn is_pinned(&self) -> bool {
        let cpu = &self.cpus[self.here()];
        // ORD: Relaxed, both; own thread's words.
        cpu.pinned.load(Ordering::Relaxed) + cpu.masked.load(Ordering::Relaxed) > 0
    }

    fn without_interrupts<R>(&self, f: impl FnOnce() -> R) -> R {
        self.masked(self.here(), f)
    }

    fn shootdowns(&self) -> &Shootdowns {
        &self.shootdowns
    }

    fn send_shootdown(&self, targets: &CpuSet) {
        // ORD: Relaxed; a counter.
        self.cpus[self.here()].sent.fetch_add(targets.len() as u64, Ordering::Relaxed);
        for target in targets.iter() {
            self.interrupt(target.index());
        }
    }

    fn may_acknowledge_early(&self) -> bool {
        self.config.early_acknowledgements
    }

    fn relax(&self) {
        match context::cpu_of(self) {
            Some(cpu) if !context::is_proxy() => self.relax_on(cpu),
            _ => std::thread::yield_now(),
        }
    }

    fn wake(&self, cpu: CpuId) {
        self.doorbells.ring(cpu.index());
    }

    fn tlb_features(&self) -> TlbFeatures {
        self.features
    }

    fn has_no_execute(&self) -> bool {
        self.config.cpu_model.has_no_execute()
    }

    fn invlpg_misses_globals(&self) -> bool {
        self.config.cpu_model.invlpg_misses_globals(self.here())
    }

    unsafe fn load_cr3(&self, cr3: Cr3) {
        let cpu = self.here();
        let Cr3 { root, pcid, no_flush } = cr3;
        if self.owner(root) != Some(Owner::PageTable) {
            self.ledger.forbidden(|| {
                std::format!("cpu {cpu} loads {root:?} as its root, which is {:?}", self.owner(root))
            });
        }
        if pcid.get() >= self.features.pcids.max(1) || (no_flush && self.features.pcids == 0) {
            self.ledger.forbidden(|| std::format!("cpu {cpu} loads {cr3:?} and has {:?}", self.features));
        }
        let mut mmu = self.mmu(cpu);
        mmu.load_cr3(Board { memory: &self.memory, ledger: &self.ledger, cpu }, cr3);
        // ORD: SeqCst; under the lock, and before any walk of the new tables: a checker that misses it
        // searches a TLB that has nothing of them yet.
        self.cpus[cpu].root.store(root.0, Ordering::SeqCst);
        drop(mmu);
        self.speculate_anew(cpu);
    }

    fn invalidate_page(&self, va: VirtAddr) {
        self.mmu(self.here()).invalidate_page(&self.memory, va);
    }

    fn invalidate_everything(&self) {
        self.mmu(self.here()).invalidate_everything(&self.memory);
    }

    fn invpcid(&self, what: Invpcid) {
        let cpu = self.here();
        if !self.features.invpcid {
            self.ledger.forbidden(|| std::format!("cpu {cpu} executes INVPCID and has none"));
        }
        self.mmu(cpu).invpcid(&self.memory, what);
    }

    fn invlpgb(&self, what: Invlpgb) {
        self.broadcast(self.here(), what);
    }

    fn tlbsync(&self) {
        self.wait_for_broadcasts(self.here());
    }

    #[inline]
    fn participant(&self) -> &Participant<SimScheduler> {
        &self.participants[self.here()]
    }

    #[inline]
    fn point(&self) {
        context::point(Event::Point);
    }

    fn guarantee(&self, guarantee: Guarantee) {
        self.search_for(guarantee);
    }
}

fn features(config: &Config) -> TlbFeatures {
    let features = config.cpu_model.features();
    TlbFeatures { pcids: features.pcids.min(config.pcids), ..features }
}
