//! The crate as a kernel embeds it: a scheduler of its own, nothing of the hosted one. Runs with default features off.

use core::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::*};
use std::thread::Thread;
use std::time::Duration;

use turnstile::{Address, Outcome, Priority, Queue, Scheduler, ThreadId, Turnstiles};

/// A test-and-set spin lock, as a kernel might bring.
struct Spin(AtomicBool);

// SAFETY: only a transition from false enters (Acquire), and the holder's unlock is a Release.
unsafe impl lock_api::RawMutex for Spin {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = lock_api::GuardNoSend;

    fn lock(&self) -> Self::Guard {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            std::thread::yield_now();
        }
    }

    fn try_lock(&self) -> Option<Self::Guard> {
        (!self.0.swap(true, Acquire)).then(lock_api::GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: Self::Guard) {
        self.0.store(false, Release);
    }

    fn is_locked(&self) -> bool {
        self.0.load(Relaxed)
    }
}

/// Threads with small numbers, each of which says its number itself.
struct Kernel {
    threads: Mutex<Vec<Option<Thread>>>,
}

std::thread_local! {
    static NUMBER: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

impl Kernel {
    fn enter(&self, number: usize) {
        NUMBER.set(number);
        let mut threads = self.threads.lock().unwrap();
        if threads.len() <= number {
            threads.resize(number + 1, None);
        }
        threads[number] = Some(std::thread::current());
    }
}

// SAFETY: numbers are given once each by the test; std's parker has the token that rule 5 asks for.
unsafe impl Scheduler for Kernel {
    type RawLock = Spin;

    fn current(&self) -> ThreadId {
        ThreadId::new(NonZeroUsize::new(NUMBER.get()).expect("a thread of this kernel"))
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        Priority::new(thread.get().get() as u8)
    }

    fn park(&self) {
        std::thread::park();
    }

    fn unpark(&self, thread: ThreadId) {
        if let Ok(threads) = self.threads.lock()
            && let Some(Some(thread)) = threads.get(thread.get().get())
        {
            thread.unpark();
        }
    }
}

static TABLE: Turnstiles<Kernel, 4> = Turnstiles::new(Kernel { threads: Mutex::new(Vec::new()) });
static GO: AtomicUsize = AtomicUsize::new(0);

#[test]
fn blocks_and_wakes_in_priority_order() {
    let order = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let order = &order;
            scope.spawn(move || {
                TABLE.scheduler().enter(number);
                let outcome = TABLE.block(Address::of(&GO), Queue::Exclusive, 0, || GO.load(Acquire) == 0);
                assert_eq!(outcome, Outcome::Woken);
                order.lock().unwrap().push(number);
            });
        }
        while TABLE.waiting(Address::of(&GO), Queue::Exclusive) < 4 {
            std::thread::sleep(Duration::from_millis(1));
        }
        GO.store(1, Release);
        for woken in 1..=4 {
            assert_eq!(TABLE.wake_one(Address::of(&GO), Queue::Exclusive).count, 1);
            while order.lock().unwrap().len() < woken {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    });
    // Larger numbers are more urgent.
    assert_eq!(*order.lock().unwrap(), [4, 3, 2, 1]);
}
