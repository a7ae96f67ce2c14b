//! Waiting for the end of a thread.

use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use turnstile::{Address, Decision, LockScheduler as _, Queue, ThreadId};

use super::scheduler::KernelScheduler;

/// Whether a thread has ended, for those who wait for it.
pub(crate) struct Completion(AtomicBool);

impl Completion {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self(AtomicBool::new(false)))
    }

    /// Lets everybody go on who waits.
    pub(super) fn finish(&self) {
        // ORD: Release pairs with the Acquire in `is_finished`.
        self.0.store(true, Ordering::Release);
        KernelScheduler::table().wake_all(Address::of(self), Queue::Shared);
    }

    fn is_finished(&self) -> bool {
        // ORD: Acquire pairs with the Release in `finish`: what the thread did is visible.
        self.0.load(Ordering::Acquire)
    }

    /// Waits without lending: one waits for the end of a thread's life, not for a section that it should hurry through.
    fn wait(&self) {
        while !self.is_finished() {
            // Without an owner there is no cycle, hence no error.
            let _ = KernelScheduler::table().block(Address::of(self), Queue::Shared, 0, |_| {
                if self.is_finished() { Decision::Proceed } else { Decision::Wait }
            });
        }
    }
}

/// A thread that was started.
#[must_use = "a thread is waited for by `join`, or let go by `detach`"]
pub(crate) struct Handle {
    pub(super) completion: Arc<Completion>,
    pub(super) thread: ThreadId,
}

impl Handle {
    /// Waits until the thread has ended. All that it did happens-before the return.
    pub(crate) fn join(self) {
        self.completion.wait();
    }

    /// Whether the thread has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.completion.is_finished()
    }

    /// Lets the thread go its way.
    pub(crate) fn detach(self) {}

    /// The thread's id, until it ends.
    pub(crate) fn id(&self) -> ThreadId {
        self.thread
    }
}
