//! Processes: programs in ring 3, each with an address space and one or more threads.
//!
//! Here is a process from its beginning to its end. `program` reads an executable, `run` is what the processes of a workload
//! share, `table` finds processes and threads, `syscall` is what programs can ask for, and `fault` what happens when they touch
//! what is not there.

pub(crate) mod fault;
mod limits;
mod program;
mod run;
pub(crate) mod syscall;
mod table;

use alloc::sync::Arc;
use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pmap::{PAGE_SIZE, Protection, VirtAddr, VirtRange};
use turnstile::{Address, Decision, LockScheduler as _, Priority, Queue};

use crate::abi::Finding;
use crate::arch::context;
use crate::arch::trap::TrapFrame;
use crate::sched::{self, KernelScheduler, Mutex, NoStack};
use crate::vm::{Backing, Space, Vma};

pub(crate) use program::{Program, ProgramError, boot_file};
pub(crate) use run::{Measured, Run, StartError};

/// Where a process's first stack ends.
const STACK_TOP: u64 = 0x7fff_ff00_0000;
/// Its pages.
const STACK_PAGES: u64 = 16;

/// Instructions that may fault, and where to go on if one does.
#[derive(Clone, Copy)]
pub(super) struct Recovery {
    pub(super) first: u64,
    pub(super) end: u64,
    pub(super) resume: u64,
}

/// A process.
pub(crate) struct Process {
    id: u64,
    run: Arc<Run>,
    space: Space,
    threads: AtomicU64,
    /// All threads are to end at their next opportunity.
    dying: AtomicBool,
    status: AtomicU64,
    ended: AtomicBool,
    recovery: Mutex<Option<Recovery>>,
}

impl Process {
    fn new(run: Arc<Run>, id: u64, space: Space, recovery: Option<Recovery>) -> Self {
        Self {
            id,
            run,
            space,
            threads: AtomicU64::new(0),
            dying: AtomicBool::new(false),
            status: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            recovery: Mutex::new(recovery),
        }
    }

    /// A process that is about to run the program.
    fn load(run: Arc<Run>, id: u64) -> Result<Self, StartError> {
        let space = Space::new(run.vm, limits::SPACE)?;
        let bottom = VirtAddr(STACK_TOP - STACK_PAGES * PAGE_SIZE);
        let range = VirtRange::new(bottom, VirtAddr(STACK_TOP)).ok_or(StartError::Overlap)?;
        let stack =
            Vma { range, protection: Protection::READ | Protection::WRITE, backing: Backing::Anonymous };
        for vma in run.program.segments().iter().cloned().chain([stack]) {
            space.insert(vma).map_err(|_| StartError::Overlap)?;
        }
        Ok(Self::new(run, id, space, None))
    }

    /// A copy of the process with one thread, which goes on from `frame`.
    pub(super) fn fork(&self, frame: TrapFrame, priority: Priority) -> Result<u64, StartError> {
        let recovery = *self.recovery.lock();
        let make = |id| Ok(Self::new(self.run.clone(), id, self.space.fork()?, recovery));
        let child = self.run.processes.add(make)?;
        child.begin(frame, priority)
    }

    /// Starts the process's first thread. Its identifier.
    fn begin(self: Arc<Self>, frame: TrapFrame, priority: Priority) -> Result<u64, StartError> {
        let id = self.id;
        if let Err(no_stack) = self.begin_thread(frame, priority) {
            let run = self.run.clone();
            self.space.clear();
            self.end(0);
            drop(self);
            run.wait(id);
            return Err(no_stack.into());
        }
        Ok(id)
    }

    /// The process of the calling thread, if it has one.
    #[must_use]
    pub(crate) fn current() -> Option<Arc<Self>> {
        table::current()
    }

    pub(super) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    pub(super) fn recovery(&self) -> &Mutex<Option<Recovery>> {
        &self.recovery
    }

    /// Starts a thread that begins with `frame`.
    pub(super) fn begin_thread(
        self: &Arc<Self>,
        frame: TrapFrame,
        priority: Priority,
    ) -> Result<(), NoStack> {
        // ORD: Relaxed; whoever adds a thread is one, or made the process, so that the count is not zero meanwhile.
        self.threads.fetch_add(1, Ordering::Relaxed);
        table::spawn(self.clone(), frame, priority, enter).inspect_err(|_| {
            self.threads.fetch_sub(1, Ordering::Relaxed); // ORD: as above
        })
    }

    /// No thread is left and its memory is gone: tells whoever waits.
    fn end(&self, status: u64) {
        self.status.store(status, Ordering::Relaxed); // ORD: Relaxed; published by `ended`
        // ORD: Release pairs with `status`.
        self.ended.store(true, Ordering::Release);
        self.run.wake_waiters();
    }

    /// How it ended, if it has.
    pub(super) fn status(&self) -> Option<u64> {
        // ORD: Acquire pairs with `end`.
        self.ended.load(Ordering::Acquire).then(|| self.status.load(Ordering::Relaxed)) // ORD: as in `end`
    }

    /// Lets `ticks` ticks pass, unless the process is to end before.
    pub(super) fn sleep(&self, ticks: u64) {
        let deadline = sched::ticks().saturating_add(ticks).saturating_add(1);
        while sched::ticks() < deadline && !self.is_dying() {
            let place = Address::of(&self.dying);
            // Nobody owns it, so there is no cycle, hence no error.
            let _ = KernelScheduler::table().block_until(place, Queue::Shared, 0, deadline, |_| {
                if self.is_dying() { Decision::Proceed } else { Decision::Wait }
            });
        }
    }

    /// Notes that something is wrong with what the program's memory holds.
    pub(super) fn report(&self, what: Finding, va: u64, expected: u64, found: u64) {
        self.run.vm.violations().note(format_args!(
            "process {}: {what:?} at {va:#x}: expected {expected:#x}, found {found:#x}",
            self.id
        ));
    }

    /// Has the process end because of something that it should not have done.
    pub(super) fn kill(&self, why: fmt::Arguments<'_>) {
        self.run.vm.violations().note(format_args!("process {} is ended: {why}", self.id));
        self.stop();
    }

    /// Has all its threads end, those that sleep or wait as well.
    fn stop(&self) {
        // ORD: Relaxed; looked at again and again, and under the table's lock by those who are about to wait.
        self.dying.store(true, Ordering::Relaxed);
        KernelScheduler::table().wake_all(Address::of(&self.dying), Queue::Shared);
        self.run.wake_waiters();
    }

    /// Whether all threads are to end.
    pub(super) fn is_dying(&self) -> bool {
        // ORD: Relaxed; as above.
        self.dying.load(Ordering::Relaxed)
    }
}

/// Body of a thread of a process.
fn enter() {
    if let Some((process, frame)) = table::begin() {
        // SAFETY: the address space is the process's, of which the table has a reference until the thread lets go of both.
        unsafe { sched::set_address_space(Some(NonNull::from(process.space.pmap()))) };
        drop(process);
        // On the stack, so that there is nothing left to drop.
        let frame = *frame;
        context::enter_user(&frame)
    }
}

/// Ends the calling thread, and its process if it is the last one.
pub(super) fn exit_thread(status: u64) -> ! {
    if let Some(process) = table::leave() {
        // ORD: AcqRel: what the other threads did comes before the end of the process.
        let last = process.threads.fetch_sub(1, Ordering::AcqRel) == 1;
        if last {
            // While it is loaded here: that is the fast way.
            process.space.clear();
        }
        // SAFETY: none any more.
        unsafe { sched::set_address_space(None) };
        if last {
            process.end(status);
        }
        drop(process);
        table::gone();
    }
    sched::exit()
}
