//! The lending table with real threads under the hosted scheduler, more threads than cores. What this cannot see: reorderings
//! that the machine it runs on does not make.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::{until, within};
use turnstile::{
    Address, Decision, Ending, Hosted, LendingScheduler, PiTurnstiles, Priority, Queue, Scheduler, ThreadId,
    TimedScheduler as _,
};

/// Locks whose words hold the owner's id or 0, handed to the most urgent waiter.
struct Locks<S: LendingScheduler> {
    table: PiTurnstiles<S, 4>,
    words: [AtomicUsize; 3],
}

impl<S: LendingScheduler> Locks<S> {
    fn new(scheduler: S) -> Self {
        Self { table: PiTurnstiles::new(scheduler), words: Default::default() }
    }

    fn decide(&self, lock: usize) -> Decision {
        let me = self.table.scheduler().current().get().get();
        match self.words[lock].compare_exchange(0, me, SeqCst, SeqCst) {
            Ok(_) => Decision::Proceed,
            Err(owner) => Decision::WaitFor(ThreadId::new(owner.try_into().unwrap())),
        }
    }

    fn unlock(&self, lock: usize) {
        let address = Address::of(&self.words[lock]);
        self.table.locked(|table| {
            let next = table.first(address, Queue::Exclusive).map(|waiting| waiting.thread);
            self.words[lock].store(next.map_or(0, |next| next.get().get()), SeqCst);
            table.wake(address, Queue::Exclusive, 1);
            table.claim(address, next).unwrap();
        });
    }
}

/// Blocking, time-outs and cancelling from everywhere; at the end nothing is lent and nobody was lost.
#[test]
fn waits_end_in_every_way_at_once() {
    within(Duration::from_secs(60), || {
        let locks = Arc::new(Locks::new(Hosted));
        let inside: Arc<[AtomicUsize; 3]> = Arc::default();
        let endings: Arc<[AtomicU64; 3]> = Arc::default();
        let threads: Vec<_> = (0..8_usize)
            .map(|number| {
                let (locks, inside, endings) = (locks.clone(), inside.clone(), endings.clone());
                std::thread::spawn(move || {
                    Hosted.set_priority(Priority::new(number as u8 + 1));
                    let start = Instant::now();
                    let mut round = number;
                    while start.elapsed() < Duration::from_millis(700) {
                        round += 1;
                        let lock = round % 3;
                        let address = Address::of(&locks.words[lock]);
                        let deadline = Hosted.after(Duration::from_micros(200)).unwrap();
                        let ending = if round % 4 == 0 {
                            locks.table.block(address, Queue::Exclusive, 0, |_| locks.decide(lock))
                        } else {
                            locks
                                .table
                                .block_until(address, Queue::Exclusive, 0, deadline, |_| locks.decide(lock))
                        };
                        match ending.unwrap() {
                            Ending::Woken | Ending::NotBlocked => {
                                assert_eq!(inside[lock].fetch_add(1, SeqCst), 0);
                                if round % 5 == 0 {
                                    std::thread::sleep(Duration::from_micros(300));
                                }
                                let other =
                                    locks.table.locked(|table| table.first(address, Queue::Exclusive));
                                if let Some(other) = other
                                    && round % 7 == 0
                                {
                                    let _ = locks.table.cancel(other.thread);
                                }
                                inside[lock].fetch_sub(1, SeqCst);
                                locks.unlock(lock);
                                endings[0].fetch_add(1, SeqCst);
                            }
                            Ending::TimedOut => drop(endings[1].fetch_add(1, SeqCst)),
                            Ending::Cancelled => drop(endings[2].fetch_add(1, SeqCst)),
                        }
                    }
                    Hosted.current()
                })
            })
            .collect();
        for thread in threads {
            let thread = thread.join().unwrap();
            assert_eq!(Hosted.priority(thread), Hosted.own_priority(thread));
        }
        let statistics = locks.table.statistics();
        assert_eq!(statistics.time_outs, endings[1].load(SeqCst));
        assert_eq!(statistics.cancels, endings[2].load(SeqCst));
        assert!(endings.iter().all(|count| count.load(SeqCst) > 10), "{endings:?}");
        for word in &locks.words {
            assert_eq!(word.load(SeqCst), 0);
            assert_eq!(locks.table.waiting(Address::of(word), Queue::Exclusive), 0);
        }
    });
}

#[test]
fn more_wake_ups_than_one_batch() {
    within(Duration::from_secs(60), || {
        let table = Arc::new(PiTurnstiles::<Hosted, 2>::default());
        let here = Address::new(0x1000);
        let threads: Vec<_> = (0..37)
            .map(|_| {
                let table = table.clone();
                std::thread::spawn(move || table.block(here, Queue::Shared, 0, |_| Decision::Wait))
            })
            .collect();
        until(|| table.waiting(here, Queue::Shared) == 37);
        assert_eq!(table.wake_all(here, Queue::Shared).count, 37);
        for thread in threads {
            assert_eq!(thread.join().unwrap(), Ok(Ending::Woken));
        }
    });
}

/// A scheduler whose `park` unwinds, as a simulator's does that ends a stuck thread.
#[derive(Default)]
struct Impatient;

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
        panic!("no more parking");
    }

    fn unpark(&self, thread: ThreadId) {
        Hosted.unpark(thread);
    }
}

// SAFETY: all calls go to `Hosted`.
unsafe impl LendingScheduler for Impatient {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        Hosted.own_priority(thread)
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        LENT.store(true, SeqCst);
        Hosted.lend(thread, priority);
    }

    fn unlend(&self, thread: ThreadId) {
        Hosted.unlend(thread);
    }
}

static LENT: AtomicBool = AtomicBool::new(false);

#[test]
fn a_park_that_unwinds_takes_its_lending_back() {
    within(Duration::from_secs(30), || {
        let table = PiTurnstiles::<Impatient, 1>::default();
        let owner = Hosted.current();
        let here = Address::new(0x1000);
        std::thread::scope(|scope| {
            let blocked = scope.spawn(|| {
                Hosted.set_priority(Priority::HIGHEST);
                let _ = table.block(here, Queue::Exclusive, 0, |_| Decision::WaitFor(owner));
            });
            assert!(blocked.join().is_err());
        });
        assert!(LENT.load(SeqCst), "it did lend");
        assert_eq!(Hosted.priority(owner), Priority::NORMAL);
        assert_eq!(table.waiting(here, Queue::Exclusive), 0);
        // And a decision that unwinds has not queued anything.
        let decided = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = table.block(here, Queue::Exclusive, 0, |_| panic!("decision"));
        }));
        assert!(decided.is_err());
        assert_eq!(table.waiting(here, Queue::Exclusive), 0);
    });
}
