//! No wake-up is lost, with more threads than cores. What this cannot see: reorderings that the machine it runs on
//! does not make.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::within;
use lock_api::RawMutex as _;
use turnstile::{Address, Hosted, Queue, RawParkingMutex, Turnstiles};

const DURATION: Duration = Duration::from_millis(700);

/// A counting semaphore whose every blocked acquire sleeps on the table. If a wake-up is lost, it stops for good.
struct Semaphore {
    table: Turnstiles<Hosted, 2>,
    permits: AtomicUsize,
}

impl Semaphore {
    fn try_acquire(&self) -> bool {
        self.permits.fetch_update(SeqCst, SeqCst, |permits| permits.checked_sub(1)).is_ok()
    }

    fn acquire(&self, queue: Queue) {
        while !self.try_acquire() {
            let _ = self.table.block(Address::of(&self.permits), queue, 0, || self.permits.load(SeqCst) == 0);
        }
    }

    fn release(&self, queue: Queue) {
        self.permits.fetch_add(1, SeqCst);
        match queue {
            Queue::Exclusive => self.table.wake_one(Address::of(&self.permits), queue),
            Queue::Shared => self.table.wake_all(Address::of(&self.permits), queue),
        };
    }
}

fn semaphore_stress(queue: Queue) {
    within(Duration::from_secs(60), move || {
        let semaphore = Arc::new(Semaphore { table: Turnstiles::new(Hosted), permits: AtomicUsize::new(2) });
        let (inside, rounds) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..8)
            .map(|number| {
                let (semaphore, inside, rounds) = (semaphore.clone(), inside.clone(), rounds.clone());
                std::thread::spawn(move || {
                    Hosted.set_priority(turnstile::Priority::new(number));
                    let start = Instant::now();
                    while start.elapsed() < DURATION {
                        semaphore.acquire(queue);
                        assert!(inside.fetch_add(1, SeqCst) < 2);
                        if rounds.fetch_add(1, SeqCst).is_multiple_of(7) {
                            std::thread::yield_now();
                        }
                        inside.fetch_sub(1, SeqCst);
                        semaphore.release(queue);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(semaphore.permits.load(SeqCst), 2);
        assert!(rounds.load(SeqCst) > 100);
    });
}

#[test]
fn semaphore_with_wake_one() {
    semaphore_stress(Queue::Exclusive);
}

#[test]
fn semaphore_with_wake_all() {
    semaphore_stress(Queue::Shared);
}

/// What the parking mutex protects: not atomic on purpose.
struct Shared {
    lock: RawParkingMutex,
    count: Cell<u64>,
}

// SAFETY: `count` is touched under `lock` only.
unsafe impl Sync for Shared {}

#[test]
fn parking_mutex_excludes() {
    within(Duration::from_secs(60), || {
        let shared = Arc::new(Shared { lock: RawParkingMutex::INIT, count: Cell::new(0) });
        let threads: Vec<_> = (0..6)
            .map(|_| {
                let shared = shared.clone();
                std::thread::spawn(move || {
                    for round in 0..20_000 {
                        let guard = shared.lock.lock();
                        let count = shared.count.get();
                        if round % 512 == 0 {
                            std::thread::yield_now();
                        }
                        shared.count.set(count + 1);
                        // SAFETY: locked above, by this thread.
                        unsafe { shared.lock.unlock(guard) };
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert!(!shared.lock.is_locked());
        assert_eq!(shared.count.get(), 120_000);
    });
}
