//! Which process a thread belongs to, and which processes there are.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use turnstile::{Priority, ThreadId};

use super::{Process, StartError, limits};
use crate::arch::trap::TrapFrame;
use crate::sched::{self, Mutex, NoStack};

/// A thread that runs in user mode.
struct UserThread {
    process: Arc<Process>,
    /// What it begins with, until it has begun.
    beginning: Option<Box<TrapFrame>>,
}

/// All of them.
struct UserThreads {
    by_id: BTreeMap<ThreadId, UserThread>,
    /// How many there are, those included that are about to end and belong to no process any more: these have stacks, too.
    count: usize,
}

static THREADS: Mutex<UserThreads> = Mutex::new(UserThreads { by_id: BTreeMap::new(), count: 0 });

/// The process of the calling thread; none for the kernel's own threads.
pub(super) fn current() -> Option<Arc<Process>> {
    THREADS.lock().by_id.get(&sched::current().id()).map(|thread| thread.process.clone())
}

/// Starts a thread of the process, with `body`, which calls [`begin`].
pub(super) fn spawn(
    process: Arc<Process>,
    frame: TrapFrame,
    priority: Priority,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), NoStack> {
    let beginning = Some(Box::new(frame));
    // The thread waits for the lock, so it finds itself.
    let mut threads = THREADS.lock();
    if threads.count >= limits::THREADS {
        return Err(NoStack);
    }
    let handle = match process.run().cpu {
        None => sched::spawn("user", priority, body),
        Some(cpu) => sched::spawn_on(cpu, "user", priority, body),
    }?;
    threads.count += 1;
    threads.by_id.insert(handle.id(), UserThread { process, beginning });
    handle.detach();
    Ok(())
}

/// What the calling thread begins with, and its process.
pub(super) fn begin() -> Option<(Arc<Process>, Box<TrapFrame>)> {
    let mut threads = THREADS.lock();
    let thread = threads.by_id.get_mut(&sched::current().id())?;
    Some((thread.process.clone(), thread.beginning.take()?))
}

/// The calling thread is nobody's any more.
pub(super) fn leave() -> Option<Arc<Process>> {
    THREADS.lock().by_id.remove(&sched::current().id()).map(|thread| thread.process)
}

/// The calling thread, which was somebody's, ends now.
pub(super) fn gone() {
    THREADS.lock().count -= 1;
}

/// The processes of a run that nobody has waited for.
#[derive(Default)]
pub(super) struct Processes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The last identifier.
    last: u64,
    by_id: BTreeMap<u64, Arc<Process>>,
    /// Those that are being made.
    coming: usize,
    /// All are to end, also those that come.
    stopping: bool,
}

impl Processes {
    /// Adds the process that `make` makes with the identifier it gets.
    ///
    /// # Errors
    ///
    /// [`StartError`]: `make`'s, or that there are too many.
    pub(super) fn add(
        &self,
        make: impl FnOnce(u64) -> Result<Process, StartError>,
    ) -> Result<Arc<Process>, StartError> {
        // Not under the lock: making one may wait for memory.
        let id = {
            let mut state = self.state.lock();
            if state.by_id.len() + state.coming >= limits::PROCESSES {
                return Err(StartError::TooMany);
            }
            state.coming += 1;
            state.last += 1;
            state.last
        };
        let made = make(id);
        let mut state = self.state.lock();
        state.coming -= 1;
        let process = Arc::new(made?);
        state.by_id.insert(id, process.clone());
        let stopping = state.stopping;
        drop(state);
        if stopping {
            process.stop();
        }
        Ok(process)
    }

    pub(super) fn get(&self, id: u64) -> Option<Arc<Process>> {
        self.state.lock().by_id.get(&id).cloned()
    }

    pub(super) fn remove(&self, id: u64) -> Option<Arc<Process>> {
        self.state.lock().by_id.remove(&id)
    }

    /// All of them, for the caller to stop; those that come later are stopped as they come.
    pub(super) fn stop(&self) -> Vec<Arc<Process>> {
        let mut state = self.state.lock();
        state.stopping = true;
        state.by_id.values().cloned().collect()
    }

    /// One of those that are left.
    pub(super) fn any(&self) -> Option<u64> {
        self.state.lock().by_id.keys().next().copied()
    }
}
