//! The lock of the deterministic scheduler: who finds it taken lets others run, so its holder may pass scheduling points.

use core::cell::RefCell;
use core::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread_local;

use super::Steps;

thread_local! {
    /// The run that the current thread belongs to.
    static RUN: RefCell<Option<Arc<Steps>>> = const { RefCell::new(None) };
}

/// Says which run the current thread belongs to.
pub(super) fn enter(steps: &Arc<Steps>) {
    RUN.set(Some(Arc::clone(steps)));
}

/// Test-and-set.
pub(crate) struct StepLock(AtomicBool);

impl StepLock {
    fn key(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }
}

// SAFETY: only a transition from false enters (Acquire), and the holder's unlock is a Release.
unsafe impl lock_api::RawMutex for StepLock {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = lock_api::GuardSend;

    fn lock(&self) -> Self::Guard {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            match RUN.with_borrow(Clone::clone) {
                Some(steps) => steps.block(self.key()),
                None => std::thread::yield_now(),
            }
        }
    }

    fn try_lock(&self) -> Option<Self::Guard> {
        // ORD: Acquire pairs with the Release in `unlock`.
        (!self.0.swap(true, Ordering::Acquire)).then(lock_api::GuardSend::new)
    }

    unsafe fn unlock(&self, _: Self::Guard) {
        // ORD: Release pairs with the Acquire in `try_lock`.
        self.0.store(false, Ordering::Release);
        // Gone if the thread's own values are being destroyed: then its run is over.
        let steps = RUN.try_with(|run| run.borrow().clone()).ok().flatten();
        if let Some(steps) = steps {
            steps.unblock(self.key());
        }
    }

    fn is_locked(&self) -> bool {
        // ORD: Relaxed: a snapshot.
        self.0.load(Ordering::Relaxed)
    }
}
