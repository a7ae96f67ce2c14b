//! Who is woken, and in which order, with real threads under the hosted scheduler.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::support::{until, within};
use turnstile::{Address, Hosted, Outcome, Priority, Queue, Scheduler, ThreadId, Turnstiles, Woken};

/// The hosted scheduler, which also writes down whom it unparks.
#[derive(Default)]
struct Recording {
    unparked: Mutex<Vec<ThreadId>>,
}

// SAFETY: all calls go to `Hosted`; the record is taken outside of it.
unsafe impl Scheduler for Recording {
    type RawLock = <Hosted as Scheduler>::RawLock;

    fn current(&self) -> ThreadId {
        Hosted.current()
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        Hosted.priority(thread)
    }

    fn park(&self) {
        Hosted.park();
    }

    fn unpark(&self, thread: ThreadId) {
        if let Ok(mut unparked) = self.unparked.lock() {
            unparked.push(thread);
        }
        Hosted.unpark(thread);
    }
}

/// A table and the names of its waiting threads.
struct Waiters {
    table: Arc<Turnstiles<Recording, 2>>,
    threads: Vec<(u64, ThreadId, JoinHandle<()>)>,
}

const HERE: Address = Address::new(0x1000);
const ELSEWHERE: Address = Address::new(0x2000);

impl Waiters {
    fn new() -> Self {
        Self { table: Arc::default(), threads: Vec::new() }
    }

    /// Starts a thread that waits, and returns once it is queued.
    fn add(&mut self, address: Address, queue: Queue, priority: u8, token: u64) {
        let before = self.table.waiting(address, queue);
        let table = Arc::clone(&self.table);
        let (name, named) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            Hosted.set_priority(Priority::new(priority));
            name.send(Hosted.current()).unwrap();
            assert_eq!(table.block(address, queue, token, || true), Outcome::Woken);
        });
        self.threads.push((token, named.recv().unwrap(), thread));
        until(|| self.table.waiting(address, queue) == before + 1);
    }

    /// The tokens of those unparked so far, in that order.
    fn order(&self) -> Vec<u64> {
        let unparked = self.table.scheduler().unparked.lock().unwrap();
        unparked
            .iter()
            .map(|id| self.threads.iter().find(|(_, thread, _)| thread == id).expect("a stranger").0)
            .collect()
    }

    fn join(self) {
        for (_, _, thread) in self.threads {
            thread.join().unwrap();
        }
    }
}

#[test]
fn priority_first_then_arrival() {
    within(Duration::from_secs(30), || {
        let mut waiters = Waiters::new();
        for (token, priority) in [(1, 10), (2, 200), (3, 10), (4, 255), (5, 200), (6, 0)] {
            waiters.add(HERE, Queue::Shared, priority, token);
        }
        assert_eq!(waiters.table.wake_all(HERE, Queue::Shared), Woken { count: 6, remaining: false });
        assert_eq!(waiters.order(), [4, 2, 5, 1, 3, 6]);
        waiters.join();
    });
}

#[test]
fn one_at_a_time_in_the_same_order() {
    within(Duration::from_secs(30), || {
        let mut waiters = Waiters::new();
        for (token, priority) in [(1, 10), (2, 200), (3, 10), (4, 255)] {
            waiters.add(HERE, Queue::Exclusive, priority, token);
        }
        for left in (0..4).rev() {
            assert_eq!(
                waiters.table.wake_one(HERE, Queue::Exclusive),
                Woken { count: 1, remaining: left > 0 }
            );
            assert_eq!(waiters.table.waiting(HERE, Queue::Exclusive), left);
        }
        assert_eq!(waiters.order(), [4, 2, 1, 3]);
        assert_eq!(waiters.table.wake_one(HERE, Queue::Exclusive), Woken::default());
        waiters.join();
    });
}

#[test]
fn the_two_queues_and_the_addresses_are_separate() {
    within(Duration::from_secs(30), || {
        let mut waiters = Waiters::new();
        waiters.add(HERE, Queue::Exclusive, 10, 1);
        waiters.add(HERE, Queue::Shared, 10, 2);
        waiters.add(ELSEWHERE, Queue::Exclusive, 10, 3);
        waiters.add(ELSEWHERE, Queue::Shared, 10, 4);
        assert_eq!(waiters.table.wake_all(HERE, Queue::Shared).count, 1);
        assert_eq!(waiters.order(), [2]);
        assert_eq!(waiters.table.wake_all(HERE, Queue::Exclusive).count, 1);
        assert_eq!(waiters.order(), [2, 1]);
        assert_eq!(waiters.table.wake_one(HERE, Queue::Exclusive), Woken::default());
        assert_eq!(waiters.table.wake_one(ELSEWHERE, Queue::Shared).count, 1);
        assert_eq!(waiters.table.wake_one(ELSEWHERE, Queue::Exclusive).count, 1);
        assert_eq!(waiters.order(), [2, 1, 4, 3]);
        waiters.join();
    });
}

#[test]
fn a_filter_wakes_by_token() {
    within(Duration::from_secs(30), || {
        let mut waiters = Waiters::new();
        for token in [5, 3, 9, 1] {
            waiters.add(HERE, Queue::Shared, 10, token);
        }
        assert_eq!(
            waiters.table.wake_where(HERE, Queue::Shared, |token| token <= 4),
            Woken { count: 2, remaining: true }
        );
        assert_eq!(waiters.order(), [3, 1]);
        assert_eq!(
            waiters.table.wake_where(HERE, Queue::Shared, |token| token <= 4),
            Woken { count: 0, remaining: true }
        );
        assert_eq!(waiters.table.wake_all(HERE, Queue::Shared).count, 2);
        assert_eq!(waiters.order(), [3, 1, 5, 9]);
        waiters.join();
    });
}

#[test]
fn more_waiters_than_one_batch() {
    within(Duration::from_secs(60), || {
        let mut waiters = Waiters::new();
        for token in 0..37 {
            waiters.add(HERE, Queue::Shared, (token % 3) as u8, token);
        }
        assert_eq!(waiters.table.wake_all(HERE, Queue::Shared), Woken { count: 37, remaining: false });
        let mut expected: Vec<u64> = (0..37).collect();
        expected.sort_by_key(|token| (std::cmp::Reverse(token % 3), *token));
        assert_eq!(waiters.order(), expected);
        waiters.join();
    });
}

#[test]
fn not_blocked_neither_queues_nor_parks() {
    let table = Turnstiles::<Hosted>::default();
    assert_eq!(table.block(HERE, Queue::Exclusive, 0, || false), Outcome::NotBlocked);
    assert_eq!(table.waiting(HERE, Queue::Exclusive), 0);
}

#[test]
fn a_spurious_return_of_park_is_not_passed_on() {
    within(Duration::from_secs(30), || {
        let mut waiters = Waiters::new();
        waiters.add(HERE, Queue::Shared, 10, 1);
        let (_, thread, _) = &waiters.threads[0];
        for _ in 0..10 {
            Hosted.unpark(*thread);
            std::thread::sleep(Duration::from_millis(2));
            assert_eq!(waiters.table.waiting(HERE, Queue::Shared), 1);
        }
        waiters.table.wake_one(HERE, Queue::Shared);
        waiters.join();
    });
}

#[test]
fn a_panic_in_a_closure_leaves_the_chain_whole() {
    within(Duration::from_secs(30), || {
        let mut waiters = Waiters::new();
        for token in [1, 2, 3] {
            waiters.add(HERE, Queue::Shared, 10, token);
        }
        let table = Arc::clone(&waiters.table);
        let blocked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = table.block(HERE, Queue::Shared, 0, || panic!("re-check"));
        }));
        assert!(blocked.is_err());
        assert_eq!(table.waiting(HERE, Queue::Shared), 3);
        // The filter had accepted the first when it panicked: that one is woken, the others stay.
        let woken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            table.wake_where(HERE, Queue::Shared, |token| if token == 2 { panic!("filter") } else { true })
        }));
        assert!(woken.is_err());
        assert_eq!(waiters.order(), [1]);
        assert_eq!(table.wake_all(HERE, Queue::Shared).count, 2);
        waiters.join();
    });
}

/// A scheduler whose `park` unwinds once, as a simulator's does that ends a stuck thread.
#[derive(Default)]
struct Impatient {
    panics: AtomicBool,
    /// The next thread that returns from parking unwinds.
    panics_after: AtomicBool,
}

// SAFETY: all calls go to `Hosted`; `park` is allowed to unwind.
unsafe impl Scheduler for Impatient {
    type RawLock = <Hosted as Scheduler>::RawLock;

    fn current(&self) -> ThreadId {
        Hosted.current()
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        Hosted.priority(thread)
    }

    fn park(&self) {
        assert!(!self.panics.load(SeqCst), "no more parking");
        Hosted.park();
        assert!(!self.panics_after.swap(false, SeqCst), "no more parking");
    }

    fn unpark(&self, thread: ThreadId) {
        Hosted.unpark(thread);
    }
}

/// The thread that `wake_one` chose unwinds instead of going on: the next one is woken in its place.
#[test]
fn a_chosen_waiter_that_unwinds_passes_the_wake_up_on() {
    within(Duration::from_secs(20), || {
        let table = Arc::new(Turnstiles::<Impatient, 1>::default());
        let block = |expected| {
            let here = table.clone();
            let thread = std::thread::spawn(move || here.block(HERE, Queue::Exclusive, 0, || true));
            until(|| table.waiting(HERE, Queue::Exclusive) == expected);
            thread
        };
        let (first, second) = (block(1), block(2));
        // Both are parked; the first that returns unwinds.
        table.scheduler().panics_after.store(true, SeqCst);
        assert_eq!(table.wake_one(HERE, Queue::Exclusive).count, 1);
        assert!(first.join().is_err());
        assert_eq!(second.join().unwrap(), Outcome::Woken);
    });
}

#[test]
fn a_park_that_unwinds_takes_the_waiter_off() {
    let table = Turnstiles::<Impatient, 1>::default();
    table.scheduler().panics.store(true, SeqCst);
    let blocked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = table.block(HERE, Queue::Shared, 0, || true);
    }));
    assert!(blocked.is_err());
    assert_eq!(table.waiting(HERE, Queue::Shared), 0);
    assert_eq!(table.wake_all(HERE, Queue::Shared), Woken::default());
}

#[test]
fn auto_traits() {
    static_assertions::assert_impl_all!(Turnstiles<Hosted>: Send, Sync);
    static_assertions::assert_impl_all!(Turnstiles<Arc<Recording>, 1>: Send, Sync);
    static_assertions::assert_impl_all!(turnstile::RawParkingMutex: Send, Sync);
    static_assertions::assert_impl_all!(&'static Recording: Scheduler);
    static_assertions::assert_eq_size!(Option<ThreadId>, usize);
    static_assertions::assert_eq_size!(turnstile::RawParkingMutex, u8);
}
