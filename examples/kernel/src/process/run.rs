//! A run of a workload: what its processes share, and how they start.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

use pmap::CpuId;
use turnstile::{Address, Decision, LockScheduler as _, Priority, Queue};

use super::table::Processes;
use super::{Process, Program, ProgramError, STACK_TOP, limits};
use crate::abi::{Figure, Role, Tally};
use crate::arch::trap::TrapFrame;
use crate::sched::{self, KernelScheduler, Mutex, NoStack};
use crate::vm::{LimitReached, Object, Shortage, Vm};

/// What the processes of one run of a workload share.
pub(crate) struct Run {
    pub(super) vm: &'static Vm,
    pub(super) program: Program,
    shared: Arc<Object>,
    pub(super) processes: Processes,
    tallies: [AtomicU64; 5],
    /// The only CPU for its threads, if there is one.
    pub(super) cpu: Option<CpuId>,
    figures: Mutex<Figures>,
}

/// What programs have measured.
#[derive(Default)]
struct Figures {
    measured: Vec<Measured>,
    /// Interrupts for shootdowns until the measurement that goes on began.
    ipis_before: u64,
}

/// One measurement.
#[derive(Clone, Copy)]
pub(crate) struct Measured {
    pub(crate) what: Figure,
    pub(crate) pages: u64,
    /// Counts of the time-stamp counter.
    pub(crate) ticks: u64,
    /// Interrupts for shootdowns.
    pub(crate) ipis: u64,
}

impl Run {
    /// A run of the program `init` from the boot module, without any process yet. Its threads run on all CPUs, or on `cpu` only.
    ///
    /// # Errors
    ///
    /// [`ProgramError`].
    pub(crate) fn new(
        vm: &'static Vm,
        module: Option<&'static [u8]>,
        cpu: Option<CpuId>,
    ) -> Result<Arc<Self>, ProgramError> {
        let program = Program::load(vm, module, "init")?;
        let shared = Object::anonymous(vm);
        Ok(Arc::new(Self {
            vm,
            program,
            shared,
            processes: Processes::default(),
            tallies: [const { AtomicU64::new(0) }; 5],
            cpu,
            figures: Mutex::default(),
        }))
    }

    /// Memory that all its processes can map.
    pub(super) fn shared(&self) -> &Arc<Object> {
        &self.shared
    }

    /// The file that the program came from.
    pub(super) fn file(&self) -> &Arc<Object> {
        self.program.file()
    }

    /// What was counted so far.
    #[must_use]
    pub(crate) fn tally(&self, which: Tally) -> u64 {
        // ORD: Relaxed; counts order nothing.
        self.tallies[which as usize].load(Ordering::Relaxed)
    }

    pub(super) fn add_tally(&self, which: Tally, amount: u64) {
        // ORD: Relaxed; as above.
        self.tallies[which as usize].fetch_add(amount, Ordering::Relaxed);
    }

    /// Notes what a program has measured, or that it begins to.
    ///
    /// # Errors
    ///
    /// [`LimitReached`] if there are too many.
    pub(super) fn add_figure(&self, what: Figure, pages: u64, ticks: u64) -> Result<(), LimitReached> {
        let ipis = self.vm.system().statistics().shootdown_ipis;
        let mut figures = self.figures.lock();
        if what == Figure::Begin {
            figures.ipis_before = ipis;
        } else if figures.measured.len() < limits::FIGURES {
            let ipis = ipis - figures.ipis_before;
            figures.measured.push(Measured { what, pages, ticks, ipis });
        } else {
            return Err(LimitReached);
        }
        Ok(())
    }

    /// What programs have measured.
    pub(crate) fn figures(&self) -> Vec<Measured> {
        self.figures.lock().measured.clone()
    }

    /// Starts a process in this role. The arguments are for the role to interpret.
    ///
    /// # Errors
    ///
    /// [`StartError`].
    pub(crate) fn start(
        self: &Arc<Self>,
        role: Role,
        arguments: [u64; 4],
        priority: Priority,
    ) -> Result<u64, StartError> {
        let process = self.processes.add(|id| Process::load(self.clone(), id))?;
        let mut frame = TrapFrame::user(self.program.entry().0, STACK_TOP);
        frame.rdi = role as u64;
        frame.rsi = process.id;
        [frame.rdx, frame.rcx, frame.r8, frame.r9] = arguments;
        process.begin(frame, priority)
    }

    /// Waits until the process has ended, and forgets it; its status. `None` if there is no such process.
    pub(crate) fn wait(&self, id: u64) -> Option<u64> {
        self.wait_unless(id, || false)
    }

    /// As [`wait`](Self::wait), but gives up, with `None`, when `gives_up` says so after [`wake_waiters`](Self::wake_waiters).
    pub(super) fn wait_unless(&self, id: u64, gives_up: impl Fn() -> bool) -> Option<u64> {
        let process = self.processes.get(id)?;
        let status = loop {
            if let Some(status) = process.status() {
                break status;
            }
            if gives_up() {
                return None;
            }
            // Nobody owns the end of a process, so there is no cycle, hence no error.
            let _ = KernelScheduler::table().block(self.waiters(), Queue::Shared, 0, |_| {
                if process.status().is_some() || gives_up() { Decision::Proceed } else { Decision::Wait }
            });
        };
        drop(process);
        // Of several who wait one takes it away.
        let process = self.processes.remove(id)?;
        // Its threads are about to let go of it, too. The last to do so takes the address space down: we, so that it is gone on return.
        while Arc::strong_count(&process) > 1 {
            sched::sleep(0);
        }
        Some(status)
    }

    /// Where those wait who wait for the end of any of the processes: it may be their own that ends.
    fn waiters(&self) -> Address {
        Address::of(&self.processes)
    }

    /// A process has ended, or is to end: has everybody look who waits for one.
    pub(super) fn wake_waiters(&self) {
        KernelScheduler::table().wake_all(self.waiters(), Queue::Shared);
    }

    /// Whether the process has ended, waited for or not.
    pub(crate) fn has_ended(&self, id: u64) -> bool {
        self.processes.get(id).is_none_or(|process| process.status().is_some())
    }

    /// Waits for all that nobody has waited for.
    pub(crate) fn wait_for_all(&self) {
        while let Some(id) = self.processes.any() {
            self.wait(id);
        }
    }

    /// Has all processes end at their next opportunity, those included that somebody is about to add.
    pub(crate) fn stop(&self) {
        self.processes.stop().iter().for_each(|process| process.stop());
    }

    /// Ends the run: no process is left. Its memory goes back.
    pub(crate) fn end(self: Arc<Self>) {
        let vm = self.vm;
        if Arc::into_inner(self).is_none() {
            vm.violations().note(format_args!("a run ends, and there is a process that belongs to it"));
        }
    }
}

/// Why a process was not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StartError {
    /// No memory.
    Shortage,
    /// The program's segments overlap one another or the stack.
    Overlap,
    /// There are as many processes as there may be.
    TooMany,
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shortage => "there is no memory for another process",
            Self::TooMany => "there are as many processes as there may be",
            Self::Overlap => "the program's segments overlap one another or the stack",
        })
    }
}

impl core::error::Error for StartError {}

impl From<Shortage> for StartError {
    fn from(_: Shortage) -> Self {
        Self::Shortage
    }
}

impl From<NoStack> for StartError {
    fn from(_: NoStack) -> Self {
        Self::Shortage
    }
}
