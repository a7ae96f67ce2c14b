//! CPUs and their interrupts.
//!
//! An interrupt is a flag and a ring of the doorbell. A CPU takes it at its next *poll*: before a
//! simulated access, at a point, and whenever it waits. The adversary may let a running CPU overlook it
//! for a few polls; a CPU that waits takes it at once. The handler runs with interrupts off, and does
//! nothing but serve shootdowns.
//!
//! A request to a CPU is always served (INV-M-8). While a thread runs as the CPU, that thread polls.
//! While none does, whoever sends the interrupt serves it in the CPU's name, under the same exclusive
//! binding; a thread that ceases to be the CPU looks for interrupts once more after giving the binding
//! up. Flag and binding are a store-then-load pair on both sides (SeqCst), so one of the two sees the other.

use std::boxed::Box;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use super::baton::Event;
use super::config::Config;
use super::context;
use super::machine::SimMachine;
use super::mmu::Mmu;
use super::tlb::Filters;
use crate::mutation::Mutation;
use crate::shootdown::Shootdowns;

pub(super) const UNBOUND: u8 = 0;
pub(super) const BOUND: u8 = 1;
/// A sender serves in the name of the CPU at this moment.
pub(super) const PROXY: u8 = 2;

/// Says that no root has been loaded.
pub(super) const NO_ROOT: u64 = u64::MAX;

/// One simulated CPU.
#[repr(align(128))]
pub(super) struct Cpu {
    /// The interrupt request.
    pub(super) pending: AtomicBool,
    pub(super) binding: AtomicU8,
    /// CR3, as a frame number, for checkers; a CPU's own is in its [`Mmu`].
    pub(super) root: AtomicU64,
    pub(super) filters: Arc<Filters>,
    pub(super) mmu: Mutex<Mmu>,
    // The rest is written by the CPU's own thread only.
    /// Depth of interrupts-off sections.
    pub(super) masked: AtomicU32,
    /// Depth of preemption-off sections.
    pub(super) pinned: AtomicU32,
    /// In the handler, with early acknowledgements: no user address is touched until it is over.
    pub(super) sealed: AtomicBool,
    /// Polls that the pending interrupt is still overlooked for; 0 if that was not decided yet.
    delay: AtomicU32,
    /// State of a small generator for delays and pauses.
    dice: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) taken: AtomicU64,
}

impl Cpu {
    pub(super) fn new(index: usize, config: &Config) -> Self {
        let filters = Arc::new(Filters::new());
        Self {
            pending: AtomicBool::new(false),
            binding: AtomicU8::new(UNBOUND),
            root: AtomicU64::new(NO_ROOT),
            mmu: Mutex::new(Mmu::new(index, config.seed, &config.adversary, config.cpu_model, &filters)),
            filters,
            masked: AtomicU32::new(0),
            pinned: AtomicU32::new(0),
            sealed: AtomicBool::new(false),
            delay: AtomicU32::new(0),
            dice: AtomicU64::new(config.seed ^ (index as u64 + 1).wrapping_mul(0xd134_2543_de82_ef95)),
            sent: AtomicU64::new(0),
            taken: AtomicU64::new(0),
        }
    }

    /// A random number; for the CPU's own thread.
    pub(super) fn roll(&self) -> u64 {
        // SplitMix64 (Steele, Lea and Flood, 2014).
        // ORD: Relaxed; own thread's.
        let state = self.dice.load(Ordering::Relaxed).wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.dice.store(state, Ordering::Relaxed); // ORD: as above
        let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

impl SimMachine {
    /// The calling thread's CPU.
    pub(super) fn here(&self) -> usize {
        match context::cpu_of(self) {
            Some(cpu) => cpu,
            None => panic!("the calling thread is no CPU of this machine: use SimMachine::run_cpu"),
        }
    }

    /// Lets a pending interrupt be taken, now or after some more polls.
    #[inline]
    pub(super) fn poll(&self, cpu: usize) {
        // ORD: Relaxed; a late look is a late interrupt, and `take_interrupt` acquires.
        if self.cpus[cpu].pending.load(Ordering::Relaxed) {
            self.take_interrupt(cpu, false);
        }
    }

    /// Takes all pending interrupts.
    pub(super) fn take_all(&self, cpu: usize) {
        while self.take_interrupt(cpu, true) {}
    }

    /// Takes all pending interrupts, for a CPU that waits. Unwinds if the machine is poisoned.
    pub(super) fn poll_now(&self, cpu: usize) {
        self.take_all(cpu);
        self.stop_if_poisoned();
    }

    /// What who waits with interrupts off does in place of taking them: otherwise the CPU that he waits for might wait for
    /// him. The interrupt stays pending, and finds nothing to do later.
    pub(super) fn serve_masked(&self, cpu: usize) {
        let this = &self.cpus[cpu];
        // ORD: Relaxed; own thread's word, and a late look at the other is a late service.
        let asked = this.masked.load(Ordering::Relaxed) != 0 && this.pending.load(Ordering::Relaxed);
        if asked && !self.shootdowns.mutation().is(Mutation::DeafWaiter) {
            self.serve(cpu);
        }
    }

    /// Serves shootdowns on CPU `cpu`, the caller's. What may be left of old translations in between must be gone afterwards.
    fn serve(&self, cpu: usize) {
        if !self.config.early_acknowledgements {
            Shootdowns::serve(self);
            return;
        }
        let sealed = &self.cpus[cpu].sealed;
        // ORD: SeqCst, both; before any acknowledgement, and after all invalidations. Searchers look under the CPU's lock.
        sealed.store(true, Ordering::SeqCst);
        Shootdowns::serve(self);
        let mmu = self.mmu(cpu);
        sealed.store(false, Ordering::SeqCst); // ORD: as above
        for entry in mmu.tlb.iter().filter(|e| e.condemned && !e.global && mmu.is_current(e.pcid)) {
            self.found(cpu, entry, "after its handler, a translation that a guarantee forbade");
        }
    }

    /// Whether an interrupt was taken.
    #[cold]
    pub(super) fn take_interrupt(&self, cpu: usize, now: bool) -> bool {
        let this = &self.cpus[cpu];
        // ORD: Relaxed; own thread's words.
        if this.masked.load(Ordering::Relaxed) != 0 {
            return false;
        }
        if !now {
            let left = match this.delay.load(Ordering::Relaxed) {
                0 => (this.roll() % (u64::from(self.config.adversary.interrupt_delay) + 1)) as u32,
                left => left - 1,
            };
            this.delay.store(left, Ordering::Relaxed); // ORD: as above
            if left > 0 {
                return false;
            }
        }
        this.delay.store(0, Ordering::Relaxed); // ORD: as above
        // ORD: SeqCst; Acquire part pairs with the sender's store, the total order is for INV-M-8.
        if !this.pending.swap(false, Ordering::SeqCst) {
            return false;
        }
        if let Some(turns) = self.doorbells.turns.as_ref().filter(|_| !context::is_proxy()) {
            turns.record(cpu, Event::Interrupt, 0);
        }
        // ORD: Relaxed; own thread's counter, and own thread's mask.
        this.taken.store(this.taken.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        this.masked.store(1, Ordering::Relaxed); // ORD: as above
        self.serve(cpu);
        this.masked.store(0, Ordering::Relaxed); // ORD: as above
        true
    }

    /// Runs `f` with interrupts of CPU `cpu`, the caller's, off.
    pub(super) fn masked<R>(&self, cpu: usize, f: impl FnOnce() -> R) -> R {
        let result = deeper(&self.cpus[cpu].masked, f);
        self.poll(cpu);
        result
    }

    /// Runs `f` with preemption of CPU `cpu`, the caller's, off. A thread is bound to its CPU anyway; this is for the check.
    pub(super) fn pinned<R>(&self, cpu: usize, f: impl FnOnce() -> R) -> R {
        deeper(&self.cpus[cpu].pinned, f)
    }

    /// Interrupts `target`.
    pub(super) fn interrupt(&self, target: usize) {
        // ORD: SeqCst; before the look at the target's binding (INV-M-8). Release part: the request is
        // visible.
        self.cpus[target].pending.store(true, Ordering::SeqCst);
        self.doorbells.ring(target);
        self.serve_if_unbound(target);
    }

    /// Serves what CPU `target` has been asked, if no thread runs as it.
    pub(super) fn serve_if_unbound(&self, target: usize) {
        let cpu = &self.cpus[target];
        // ORD: SeqCst throughout; INV-M-8.
        while cpu.pending.load(Ordering::SeqCst) {
            let taken = cpu.binding.compare_exchange(UNBOUND, PROXY, Ordering::SeqCst, Ordering::SeqCst);
            if taken.is_err() {
                // A thread runs as it and polls; or another proxy, which looks again when it has done.
                return;
            }
            context::bound(self, target, true, || self.take_interrupt(target, true));
            cpu.binding.store(UNBOUND, Ordering::SeqCst); // ORD: as above
        }
    }
}

pub(super) fn cpus(config: &Config) -> Box<[Cpu]> {
    (0..config.cpus).map(|index| Cpu::new(index, config)).collect()
}

/// Runs `f` with the caller's own count one higher.
fn deeper<R>(depth: &AtomicU32, f: impl FnOnce() -> R) -> R {
    struct Leave<'a>(&'a AtomicU32);
    impl Drop for Leave<'_> {
        fn drop(&mut self) {
            // ORD: Relaxed; own thread's word.
            self.0.store(self.0.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        }
    }
    // ORD: Relaxed; own thread's word.
    depth.store(depth.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    let _leave = Leave(depth);
    f()
}
