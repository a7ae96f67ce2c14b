//! The software machine with one promise broken.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use gencount::{Domain, Implementation, Participant};
use lock_api::{RawMutex, RawRwLock};
use pmap::shootdown::Shootdowns;
use pmap::sim::{self, SimMachine, SimScheduler};
use pmap::{
    CpuId, CpuSet, Cr3, Frame, FrameRange, FrameUse, Guarantee, Invlpgb, Invpcid, Machine, PAGE_SIZE, Pcid,
    TlbFeatures, VirtAddr, VirtRange,
};

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Fault {
    None,
    GivesFrameZero,
    GivesForeignFrames,
    GivesFramesTwice,
    GivesDirtyFrames,
    KeepsFrames,
    WrongFrameAt,
    WanderingDirectMap,
    OverlappingDirectMap,
    ChangingWindow,
    DomainBeyond,
    OnePcid,
    TwoCpusAlike,
    CpuBeyond,
    WanderingCpu,
    NeverPinned,
    ForgetfulInvlpg,
    InvlpgOfSmallCores,
    InvlpgOfOnePcid,
    NoFullFlush,
    FullFlushKeepsGlobals,
    FullFlushOfOnePcid,
    LoadsKeepEverything,
    OnePcidForAll,
    NoInvpcid,
    InvpcidOfCurrent,
    NoGlobalInvpcid,
    InvpcidAllOfCurrent,
    InvpcidAllButGlobalsOfCurrent,
    InvlpgbKeepsGlobals,
    LocalInvlpgb,
    SendsNothing,
    InterruptsAreNeverMasked,
    OneParticipant,
    WanderingParticipant,
    ManyDomains,
}

/// See the module documentation. `L` and `R` are its locks.
pub(crate) struct Broken<L = sim::RawMutex, R = sim::RawRwLock> {
    pub(crate) sim: SimMachine,
    /// In force from the moment at which it is told to be.
    fault: Fault,
    armed: AtomicBool,
    calls: AtomicU64,
    /// A frame, or the PCID that is loaded.
    kept: AtomicU64,
    others: Vec<Participant<SimScheduler>>,
    locks: PhantomData<fn() -> (L, R)>,
}

impl<L, R> Broken<L, R> {
    pub(crate) fn new(sim: SimMachine, fault: Fault) -> Self {
        // Participants of domains of their own, in the table of the machine's threads.
        let domain = |_| Domain::new(Implementation::Sharded, Arc::clone(sim.domain().scheduler()));
        let others = (0..sim.config().cpus).map(domain).map(|domain| Arc::new(domain).join()).collect();
        Self {
            sim,
            fault,
            armed: AtomicBool::new(false),
            calls: AtomicU64::new(0),
            kept: AtomicU64::new(0),
            others,
            locks: PhantomData,
        }
    }

    /// From now on the promise is broken.
    pub(crate) fn arm(&self) {
        self.armed.store(true, SeqCst);
    }

    fn is(&self, fault: Fault) -> bool {
        self.fault == fault && self.armed.load(SeqCst)
    }

    /// True every other time.
    fn alternates(&self) -> bool {
        self.calls.fetch_add(1, SeqCst).is_multiple_of(2)
    }
}

// SAFETY: none is kept: it is broken on purpose. On the software machine a broken promise is seen by the suite and has no other
// effect on memory than that frames of the machine hold something else than they should.
unsafe impl<L: RawMutex + Send + Sync, R: RawRwLock + Send + Sync> Machine for Broken<L, R> {
    type RawMutex = L;
    type RawRwLock = R;
    type Scheduler = SimScheduler;

    fn memory(&self) -> &[FrameRange] {
        self.sim.memory()
    }

    fn kernel_window(&self) -> VirtRange {
        let window = self.sim.kernel_window();
        let end = window.end().wrapping_add(if self.is(Fault::ChangingWindow) && self.alternates() {
            PAGE_SIZE
        } else {
            0
        });
        VirtRange::new(window.start(), end).expect("aligned")
    }

    fn direct_map(&self, frame: Frame) -> NonNull<u8> {
        if self.is(Fault::OverlappingDirectMap) {
            self.kept.store(frame.0, SeqCst);
            return self.sim.direct_map(Frame(frame.0 & !1));
        }
        let wanders = self.is(Fault::WanderingDirectMap) && self.alternates();
        self.sim.direct_map(if wanders { Frame(frame.0 ^ 1) } else { frame })
    }

    fn frame_at(&self, address: NonNull<u8>) -> Frame {
        if self.is(Fault::OverlappingDirectMap) {
            return Frame(self.kept.load(SeqCst));
        }
        let frame = self.sim.frame_at(address);
        if self.is(Fault::WrongFrameAt) { Frame(frame.0 + 1) } else { frame }
    }

    fn allocate_frame(&self, purpose: FrameUse) -> Option<Frame> {
        if self.is(Fault::GivesFrameZero) {
            return Some(Frame(0));
        }
        if self.is(Fault::GivesForeignFrames) {
            return Some(Frame(1 << 30));
        }
        if self.is(Fault::GivesFramesTwice) && self.kept.load(SeqCst) != 0 {
            return Some(Frame(self.kept.load(SeqCst)));
        }
        let frame = self.sim.allocate_frame(purpose)?;
        self.kept.store(frame.0, SeqCst);
        if self.is(Fault::GivesDirtyFrames) {
            self.sim.frame_words(frame)[511].store(1, SeqCst);
        }
        Some(frame)
    }

    unsafe fn free_frame(&self, frame: Frame, purpose: FrameUse) {
        if !self.is(Fault::KeepsFrames) {
            // SAFETY: the caller's promise.
            unsafe { self.sim.free_frame(frame, purpose) };
        }
    }

    fn domain_of_frame(&self, _: Frame) -> usize {
        if self.is(Fault::DomainBeyond) { 1 } else { 0 }
    }

    fn cpu_count(&self) -> usize {
        self.sim.cpu_count()
    }

    fn current_cpu(&self) -> CpuId {
        let cpu = self.sim.current_cpu();
        let other = |index| CpuId::new(index).expect("few CPUs");
        match self.fault {
            Fault::TwoCpusAlike if self.is(Fault::TwoCpusAlike) => other(0),
            Fault::CpuBeyond if self.is(Fault::CpuBeyond) => other(200),
            // The first one says now and then that it is the second.
            Fault::WanderingCpu if self.is(Fault::WanderingCpu) && cpu.index() == 0 => {
                other(usize::from(self.calls.fetch_add(1, SeqCst) % 64 == 63))
            }
            _ => cpu,
        }
    }

    fn without_preemption<T>(&self, f: impl FnOnce() -> T) -> T {
        self.sim.without_preemption(f)
    }

    fn is_pinned(&self) -> bool {
        !self.is(Fault::NeverPinned) && self.sim.is_pinned()
    }

    fn without_interrupts<T>(&self, f: impl FnOnce() -> T) -> T {
        // The thread stays on its CPU at least.
        let masks = !self.is(Fault::InterruptsAreNeverMasked);
        if masks { self.sim.without_interrupts(f) } else { self.sim.without_preemption(f) }
    }

    fn shootdowns(&self) -> &Shootdowns {
        self.sim.shootdowns()
    }

    fn send_shootdown(&self, targets: &CpuSet) {
        if !self.is(Fault::SendsNothing) {
            self.sim.send_shootdown(targets);
        }
    }

    fn relax(&self) {
        self.sim.relax();
    }

    fn wake(&self, cpu: CpuId) {
        self.sim.wake(cpu);
    }

    fn tlb_features(&self) -> TlbFeatures {
        let features = self.sim.tlb_features();
        if self.is(Fault::OnePcid) { TlbFeatures { pcids: 1, ..features } } else { features }
    }

    fn invlpg_misses_globals(&self) -> bool {
        self.sim.invlpg_misses_globals() && !self.is(Fault::InvlpgOfSmallCores)
    }

    unsafe fn load_cr3(&self, cr3: Cr3) {
        let mut cr3 = cr3;
        cr3.no_flush |= self.is(Fault::LoadsKeepEverything);
        if self.is(Fault::OnePcidForAll) {
            cr3.pcid = Pcid::new(1).expect("it is below 4096");
        }
        self.kept.store(cr3.pcid.get().into(), SeqCst);
        // SAFETY: the caller's promise.
        unsafe { self.sim.load_cr3(cr3) };
    }

    fn invalidate_page(&self, va: VirtAddr) {
        // As if nothing were global, and all had been walked in the suite's first address space, not in its second one.
        let is_elsewhere = || self.sim.kernel_window().contains(va) && self.loaded().get() == 2;
        let misses = self.is(Fault::InvlpgOfOnePcid) && is_elsewhere();
        if !self.is(Fault::ForgetfulInvlpg) && !misses {
            self.sim.invalidate_page(va);
        }
    }

    fn invalidate_everything(&self) {
        if self.is(Fault::FullFlushKeepsGlobals) {
            self.sim.invpcid(Invpcid::AllButGlobals);
        } else if self.is(Fault::FullFlushOfOnePcid) {
            self.sim.invalidate_page(self.sim.kernel_window().start());
            self.sim.invpcid(Invpcid::Context { pcid: self.loaded() });
        } else if !self.is(Fault::NoFullFlush) {
            self.sim.invalidate_everything();
        }
    }

    fn invpcid(&self, what: Invpcid) {
        match what {
            _ if self.is(Fault::NoInvpcid) => {}
            Invpcid::Context { .. } if self.is(Fault::InvpcidOfCurrent) => {
                self.sim.invpcid(Invpcid::Context { pcid: self.loaded() });
            }
            Invpcid::AllWithGlobals if self.is(Fault::InvpcidAllOfCurrent) => {
                self.sim.invpcid(Invpcid::Context { pcid: self.loaded() });
            }
            Invpcid::AllButGlobals if self.is(Fault::InvpcidAllButGlobalsOfCurrent) => {
                self.sim.invpcid(Invpcid::Context { pcid: self.loaded() });
            }
            Invpcid::AllWithGlobals if self.is(Fault::NoGlobalInvpcid) => {
                self.sim.invpcid(Invpcid::AllButGlobals)
            }
            what => self.sim.invpcid(what),
        }
    }

    fn invlpgb(&self, what: Invlpgb) {
        if self.is(Fault::LocalInvlpgb) {
            what.va.into_iter().for_each(|va| self.sim.invalidate_page(va));
        } else {
            self.sim
                .invlpgb(Invlpgb { globals: what.globals && !self.is(Fault::InvlpgbKeepsGlobals), ..what });
        }
    }

    fn tlbsync(&self) {
        self.sim.tlbsync();
    }

    fn participant(&self) -> &Participant<SimScheduler> {
        let own = &self.others[self.sim.current_cpu().index()];
        match self.fault {
            Fault::OneParticipant if self.is(Fault::OneParticipant) => &self.others[0],
            Fault::ManyDomains if self.is(Fault::ManyDomains) => own,
            Fault::WanderingParticipant if self.is(Fault::WanderingParticipant) && self.alternates() => own,
            _ => self.sim.participant(),
        }
    }

    fn point(&self) {
        self.sim.point();
    }

    fn guarantee(&self, guarantee: Guarantee) {
        self.sim.guarantee(guarantee);
    }
}

impl<L, R> Broken<L, R> {
    /// The PCID that was loaded last. For programs in which one CPU at a time loads any.
    fn loaded(&self) -> Pcid {
        Pcid::new(self.kept.load(SeqCst) as u16).expect("it was one")
    }
}

/// A lock that does not lock.
pub(crate) struct Open;

// SAFETY: it does not exclude, on purpose; what the suite protects with it are atomics.
unsafe impl RawMutex for Open {
    const INIT: Self = Self;
    type Guard = ();

    fn lock(&self) {}

    fn try_lock(&self) -> Option<()> {
        Some(())
    }

    unsafe fn unlock(&self, (): ()) {}

    fn is_locked(&self) -> bool {
        false
    }
}

// SAFETY: as above.
unsafe impl RawRwLock for Open {
    const INIT: Self = Self;
    type SharedGuard = ();
    type ExclusiveGuard = ();

    fn lock_shared(&self) {}

    fn try_lock_shared(&self) -> Option<()> {
        Some(())
    }

    unsafe fn unlock_shared(&self, (): ()) {}

    fn lock_exclusive(&self) {}

    fn try_lock_exclusive(&self) -> Option<()> {
        Some(())
    }

    unsafe fn unlock_exclusive(&self, (): ()) {}

    fn is_locked(&self) -> bool {
        false
    }

    fn is_locked_exclusive(&self) -> bool {
        false
    }
}

/// A lock whose try functions say yes although somebody else has it.
pub(crate) struct Eager<T>(T);

// SAFETY: it does not exclude those who try, on purpose; what the suite protects with it are atomics. Only who really has the
// lock unlocks it.
unsafe impl<T: RawMutex> RawMutex for Eager<T> {
    #[allow(clippy::declare_interior_mutable_const, reason = "as the trait has it")]
    const INIT: Self = Self(T::INIT);
    type Guard = Option<T::Guard>;

    fn lock(&self) -> Self::Guard {
        Some(self.0.lock())
    }

    fn try_lock(&self) -> Option<Self::Guard> {
        Some(self.0.try_lock())
    }

    unsafe fn unlock(&self, guard: Self::Guard) {
        // SAFETY: the guard is the lock's own.
        guard.into_iter().for_each(|guard| unsafe { self.0.unlock(guard) });
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }
}

// SAFETY: as above.
unsafe impl<T: RawRwLock> RawRwLock for Eager<T> {
    #[allow(clippy::declare_interior_mutable_const, reason = "as the trait has it")]
    const INIT: Self = Self(T::INIT);
    type SharedGuard = T::SharedGuard;
    type ExclusiveGuard = Option<T::ExclusiveGuard>;

    fn lock_shared(&self) -> Self::SharedGuard {
        self.0.lock_shared()
    }

    fn try_lock_shared(&self) -> Option<Self::SharedGuard> {
        self.0.try_lock_shared()
    }

    unsafe fn unlock_shared(&self, guard: Self::SharedGuard) {
        // SAFETY: the caller's promise.
        unsafe { self.0.unlock_shared(guard) };
    }

    fn lock_exclusive(&self) -> Self::ExclusiveGuard {
        Some(self.0.lock_exclusive())
    }

    fn try_lock_exclusive(&self) -> Option<Self::ExclusiveGuard> {
        Some(self.0.try_lock_exclusive())
    }

    unsafe fn unlock_exclusive(&self, guard: Self::ExclusiveGuard) {
        // SAFETY: the guard is the lock's own.
        guard.into_iter().for_each(|guard| unsafe { self.0.unlock_exclusive(guard) });
    }

    fn is_locked(&self) -> bool {
        self.0.is_locked()
    }

    fn is_locked_exclusive(&self) -> bool {
        self.0.is_locked_exclusive()
    }
}
