//! The software machine's CPUs as shuttle's tasks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pmap::CpuId;
use pmap::sim::Executor;
use shuttle::scheduler::{DfsScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::thread::{self, Thread};

/// Where shuttle decides who runs next, once it is told to.
#[derive(Clone, Default)]
pub(crate) struct Tasks(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Looked at, for shuttle to have a place where it may switch.
    place: shuttle::sync::atomic::AtomicBool,
    on: AtomicBool,
    threads: Mutex<Vec<(CpuId, Thread)>>,
}

impl Tasks {
    /// From now on points are places where others may run; before, one task did everything.
    pub(crate) fn switch_on(&self) {
        self.0.on.store(true, Ordering::Relaxed);
    }

    /// From now on there is one task again.
    pub(crate) fn switch_off(&self) {
        self.0.on.store(false, Ordering::Relaxed);
    }

    fn is_on(&self) -> bool {
        self.0.on.load(Ordering::Relaxed)
    }
}

impl Executor for Tasks {
    fn begin(&self, cpu: CpuId) {
        if self.is_on() {
            self.0.threads.lock().unwrap_or_else(PoisonError::into_inner).push((cpu, thread::current()));
        }
    }

    fn point(&self) {
        if self.is_on() {
            self.0.place.load(Ordering::SeqCst);
        }
    }

    fn relax(&self) {
        thread::yield_now();
    }

    fn park(&self) {
        thread::park();
    }

    fn unpark(&self, cpu: CpuId) {
        let threads = self.0.threads.lock().unwrap_or_else(PoisonError::into_inner);
        let found = threads.iter().find(|(c, _)| *c == cpu).map(|(_, thread)| thread.clone());
        drop(threads);
        if let Some(thread) = found {
            thread.unpark();
        }
    }
}

/// Every schedule with so many preemptions at most, in depth-first order.
pub(crate) struct FewPreemptions {
    all: DfsScheduler,
    most: usize,
    left: usize,
}

impl FewPreemptions {
    pub(crate) fn new(most: usize) -> Self {
        Self { all: DfsScheduler::new(None, false), most, left: most }
    }
}

impl Scheduler for FewPreemptions {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.left = self.most;
        self.all.new_execution()
    }

    fn next_task(&mut self, runnable: &[&Task], current: Option<TaskId>, yields: bool) -> Option<TaskId> {
        let Some(current) = runnable.iter().find(|task| Some(task.id()) == current) else {
            return self.all.next_task(runnable, current, yields);
        };
        if yields {
            // Who cannot go on by himself gives way, as long as there is anybody to give way to.
            let others: Vec<&Task> =
                runnable.iter().copied().filter(|task| task.id() != current.id()).collect();
            let among = if others.is_empty() { runnable } else { &others };
            return self.all.next_task(among, Some(current.id()), yields);
        }
        if self.left == 0 {
            return self.all.next_task(&[current], Some(current.id()), yields);
        }
        let chosen = self.all.next_task(runnable, Some(current.id()), yields);
        self.left -= usize::from(chosen != Some(current.id()));
        chosen
    }

    fn next_u64(&mut self) -> u64 {
        self.all.next_u64()
    }
}
