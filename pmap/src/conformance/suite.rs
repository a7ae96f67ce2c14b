//! The suite: its parts in order, on every CPU.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::locks::Locks;
use super::meeting::{Meeting, Over};
use super::rule::{Broken, Rule, RuleSet};
use super::threads::Threads;
use super::{across, memory, translation};
use crate::addr::{Frame, VirtAddr, VirtRange};
use crate::cpuset::{CpuId, MAX_CPUS};
use crate::entry::{ACCESSED, DIRTY, Entry, MANAGED, Slot, USER};
use crate::error::{EnterError, Shortage};
use crate::machine::Machine;
use crate::pmap::Pmap;
use crate::protection::{Access, EnterFlags, Protection};
use crate::record::PageRecord;
use crate::system::System;

/// Where the two frames are mapped, in leaf tables of their own.
pub(super) const PLACES: [VirtAddr; 2] = [VirtAddr(0x40_0000), VirtAddr(0x60_0000)];

/// How often a waiting CPU relaxes before a shootdown counts as never served.
const PATIENCE: u64 = 1 << 28;

/// What the suite has found out on one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outcome {
    /// The CPU.
    pub cpu: CpuId,
    /// Checks of cached translations that all CPUs together have made.
    pub checks: u32,
    /// Rules about cached translations in whose checks nothing old was ever in use on any CPU, so that they showed nothing. On a
    /// machine whose TLBs keep what they may there is none.
    pub unobserved: RuleSet,
}

/// Why the suite could not be set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SetupError {
    /// See [`Shortage`].
    Shortage,
    /// One of the frames cannot be mapped, is mapped already, is not a managed one of the machine's memory, or is the other one, too.
    Frame(Frame),
}

impl From<Shortage> for SetupError {
    fn from(_: Shortage) -> Self {
        Self::Shortage
    }
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shortage => Shortage.fmt(f),
            Self::Frame(frame) => {
                write!(f, "{frame:?} is not a free frame of the machine's memory: pass two that are")
            }
        }
    }
}

impl core::error::Error for SetupError {}

/// The conformance suite, for one machine. See the [module documentation](super).
pub struct Suite<'s, M: Machine> {
    pub(super) system: &'s System<M>,
    /// Two address spaces with the two frames at [`PLACES`], in either order.
    pub(super) spaces: [Pmap<'s, M>; 2],
    pub(super) frames: [Frame; 2],
    /// The leaves as they were entered, of each space.
    entered: [[Entry; 2]; 2],
    /// The leaf tables of the places, of each space.
    pub(super) tables: [[Frame; 2]; 2],
    pub(super) patience: u64,
    pub(super) meeting: Meeting,
    seats: AtomicUsize,
    /// CPUs that are there.
    present: [AtomicBool; MAX_CPUS],
    /// Index of the CPU of each seat.
    cpus: [AtomicUsize; MAX_CPUS],
    checks: AtomicU32,
    /// Rules that were checked, and those of them in whose checks something old was in use.
    checked: AtomicU64,
    seen: AtomicU64,
    threads: Threads,
    locks: Locks<M>,
}

impl<M: Machine> fmt::Debug for Suite<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Suite").field("broken", &self.meeting.broken()).finish_non_exhaustive()
    }
}

impl<'s, M: Machine> Suite<'s, M> {
    /// Sets the suite up, on a CPU in service. Until it is [finished](Self::finish) nobody else uses the system. The two frames are of the
    /// machine's memory, managed, mapped nowhere, and free to be written.
    ///
    /// # Errors
    ///
    /// [`SetupError`].
    pub fn new(system: &'s System<M>, frames: [Frame; 2]) -> Result<Self, SetupError> {
        let is_free = |page: &PageRecord| page.is_managed() && !system.page_is_mapped(page);
        for frame in frames {
            if !system.page(frame).is_some_and(is_free) {
                return Err(SetupError::Frame(frame));
            }
        }
        if frames[0] == frames[1] {
            return Err(SetupError::Frame(frames[1]));
        }
        let spaces = [system.create()?, system.create()?];
        let mut entered = [[Entry::default(); 2]; 2];
        let mut tables = [frames; 2];
        for (space, (entered, tables)) in spaces.iter().zip(entered.iter_mut().zip(&mut tables)) {
            for (index, place) in PLACES.into_iter().enumerate() {
                let frame = frames[index];
                let rights = Protection::READ | Protection::WRITE;
                space.enter(place, frame, rights, Access::Write, EnterFlags::WIRED).map_err(|error| {
                    match error {
                        EnterError::Shortage => SetupError::Shortage,
                        _ => SetupError::Frame(frame),
                    }
                })?;
                // Reclaiming never takes what is wired, so both are there.
                let slot = system.leaf_slot(space.root(), place).ok_or(Shortage)?;
                (entered[index], tables[index]) = (slot.load(), slot.table());
            }
        }
        let suite = Self {
            system,
            spaces,
            frames,
            entered,
            tables,
            patience: PATIENCE,
            meeting: Meeting::new(),
            seats: AtomicUsize::new(0),
            present: [const { AtomicBool::new(false) }; MAX_CPUS],
            cpus: [const { AtomicUsize::new(0) }; MAX_CPUS],
            checks: AtomicU32::new(0),
            checked: AtomicU64::new(0),
            seen: AtomicU64::new(0),
            threads: Threads::new(),
            locks: Locks::new(),
        };
        suite.write_values();
        Ok(suite)
    }

    /// The same suite, for a machine on which `relax` takes long or short: a shootdown that was not served after so many calls of it never
    /// will be.
    #[must_use]
    pub fn with_patience(self, patience: u64) -> Self {
        Self { patience, ..self }
    }

    /// Fills each frame with its value.
    fn write_values(&self) {
        for (frame, value) in self.frames.into_iter().zip(VALUES) {
            let words = self.system.machine().direct_map(frame).cast::<AtomicU64>();
            // SAFETY: the direct map is valid for the frame's 4096 bytes; the frame is the caller's of `new`, free to be written.
            let first = unsafe { words.as_ref() };
            // ORD: Relaxed; other CPUs hear of the suite later.
            first.store(value, Ordering::Relaxed);
        }
    }

    /// Runs the suite. To be called once for each CPU of the machine, by one thread each, at the same time, all of whose CPUs are in
    /// service ([`System::start_cpu`]). Threads may be preempted and blocked by locks, but not inside
    /// [`without_preemption`](Machine::without_preemption), by which each takes a CPU for itself for a while.
    ///
    /// `read` loads the 8 bytes at an address of the address space that is loaded, as the kernel: by a volatile load on a real
    /// machine. The address is mapped whenever it is called, without the user bit, so that it may be reached with SMAP on.
    ///
    /// # Errors
    ///
    /// [`Broken`], the same on all CPUs: the first rule that was found broken. The system is of no use then.
    pub fn run(&self, read: impl Fn(VirtAddr) -> u64) -> Result<Outcome, Broken> {
        self.run_in_order(&read)
            .map_err(|Over| self.meeting.broken().unwrap_or(Broken { rule: Rule::TooManyThreads, cpu: None }))
    }

    fn run_in_order(&self, read: &dyn Fn(VirtAddr) -> u64) -> Result<Outcome, Over> {
        let machine = self.system.machine();
        let count = machine.cpu_count();
        // ORD: Relaxed; a number for each.
        let seat = self.seats.fetch_add(1, Ordering::Relaxed);
        if seat >= count {
            return Err(self.meeting.found(Rule::TooManyThreads, None));
        }
        let pinned = || machine.is_pinned() && machine.without_interrupts(|| machine.is_pinned());
        if !machine.without_preemption(pinned) {
            return Err(self.meeting.found(Rule::NotPinned, None));
        }
        let round = &mut 0;
        if seat == 0 {
            memory::check(machine).map_err(|rule| self.meeting.found(rule, None))?;
        }
        self.meeting.meet(machine, round, count)?;
        self.threads.check(self, seat, round)?;
        self.locks.check(self, seat, round)?;
        self.system.activate_kernel();
        machine.without_preemption(|| self.on_one_cpu(seat, round, read))
    }

    /// The part in which the thread has a CPU to itself.
    fn on_one_cpu(
        &self,
        seat: usize,
        round: &mut usize,
        read: &dyn Fn(VirtAddr) -> u64,
    ) -> Result<Outcome, Over> {
        let machine = self.system.machine();
        let count = machine.cpu_count();
        let cpu = machine.current_cpu();
        self.identify(cpu).map_err(|rule| self.meeting.found(rule, Some(cpu)))?;
        // ORD: Relaxed; read after a meeting.
        self.cpus[seat].store(cpu.index(), Ordering::Relaxed);
        self.meeting.meet(machine, round, count)?;
        for turn in 0..count {
            if turn == seat {
                translation::check(self, read).map_err(|rule| self.meeting.found(rule, Some(cpu)))?;
            }
            self.meeting.meet(machine, round, count)?;
        }
        self.across(seat, cpu, round, read)?;
        if seat == 0 {
            self.restore();
            // Refused if there is no window.
            let _ = self.system.kremove(machine.kernel_window().start());
        }
        self.meeting.meet(machine, round, count)?;
        // ORD: Relaxed; what the others wrote was seen when they met.
        let seen = self.seen.load(Ordering::Relaxed);
        let unobserved = RuleSet(self.checked.load(Ordering::Relaxed) & !seen); // ORD: as above
        Ok(Outcome { cpu, checks: self.checks.load(Ordering::Relaxed), unobserved }) // ORD: as above
    }

    /// Every CPU asks its neighbour: each is initiator once, and target once.
    fn across(
        &self,
        seat: usize,
        cpu: CpuId,
        round: &mut usize,
        read: &dyn Fn(VirtAddr) -> u64,
    ) -> Result<(), Over> {
        let machine = self.system.machine();
        let count = machine.cpu_count();
        let cpu_of = |seat: usize| CpuId::new(self.cpus[seat].load(Ordering::Relaxed)); // ORD: after a meeting
        for initiator in (0..count).filter(|_| count > 1) {
            let target = (initiator + 1) % count;
            let pair = across::Pair { suite: self, read, cpus: [cpu_of(initiator), cpu_of(target)] };
            for case in across::CASES {
                if seat == initiator || seat == target {
                    pair.play(case, seat == initiator).map_err(|fault| match fault {
                        across::Fault::Rule(rule) => self.meeting.found(rule, Some(cpu)),
                        across::Fault::Over => Over,
                    })?;
                }
                self.meeting.meet(machine, round, count)?;
            }
        }
        Ok(())
    }

    /// CPUs know who they are, and stay it.
    fn identify(&self, cpu: CpuId) -> Result<(), Rule> {
        let machine = self.system.machine();
        if cpu.index() >= machine.cpu_count() {
            return Err(Rule::CpuBeyond);
        }
        // ORD: Relaxed; one of two CPUs with one identifier is the second.
        if self.present[cpu.index()].swap(true, Ordering::Relaxed) {
            return Err(Rule::CpuTwice);
        }
        let stays = || (0..1000).all(|_| machine.current_cpu() == cpu);
        if !stays() || !machine.without_interrupts(stays) {
            return Err(Rule::CpuMoves);
        }
        Ok(())
    }

    /// Notes that a rule was checked, and whether something old was in use before.
    pub(super) fn note(&self, rule: Rule, was_stale: bool) {
        let bit = RuleSet::of(rule).0;
        // ORD: Relaxed; read after a meeting.
        self.checks.fetch_add(1, Ordering::Relaxed);
        self.checked.fetch_or(bit, Ordering::Relaxed); // ORD: as above
        if was_stale {
            self.seen.fetch_or(bit, Ordering::Relaxed); // ORD: as above
        }
    }

    /// The leaf that maps `frame` for the kernel.
    pub(super) fn leaf(&self, frame: usize) -> Entry {
        let made = self.entered[0][frame];
        made.without(MANAGED | USER).with(ACCESSED | DIRTY)
    }

    /// The entry above the leaf of `PLACES[0]` in a space.
    pub(super) fn above(&self, space: usize) -> Slot<'s, M> {
        let mut table = self.spaces[space].root();
        for level in [4, 3] {
            table = self.system.slot(table, PLACES[0].index(level)).load().frame();
        }
        self.system.slot(table, PLACES[0].index(2))
    }

    /// Everything as it was entered.
    fn restore(&self) {
        for (space, entered) in self.spaces.iter().zip(self.entered) {
            for (place, entry) in PLACES.into_iter().zip(entered) {
                if let Some(slot) = self.system.leaf_slot(space.root(), place) {
                    // What the hardware noted in the meantime is of no interest.
                    let _ = slot.exchange(entry);
                }
            }
        }
    }

    /// Gives everything back, on a CPU in service, after all have returned from [`run`](Self::run): the frames are the caller's again.
    pub fn finish(self) {
        for space in &self.spaces {
            space.remove(VirtRange::user());
        }
    }
}

/// What the frames hold.
pub(super) const VALUES: [u64; 2] = [0x1111_1111_1111_1111, 0x2222_2222_2222_2222];
