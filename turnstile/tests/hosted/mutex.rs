//! The inheriting mutex under the portable scheduler, with more threads than cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use crate::support::{until, within};
use lock_api::{MutexGuard, RawMutex as _};
use turnstile::{Hosted, LendingScheduler as _, LockScheduler as _, Priority, RawPiMutex, Scheduler as _};

type Mutex<T> = lock_api::Mutex<RawPiMutex<Hosted>, T>;

/// Whether thread `of` waits for anything.
fn waits(of: turnstile::ThreadId) -> bool {
    Hosted::table().chain_of(of, &mut []) > 0
}

#[test]
fn one_word() {
    static_assertions::assert_eq_size!(RawPiMutex<Hosted>, usize);
    static_assertions::assert_impl_all!(RawPiMutex<Hosted>: Send, Sync);
}

#[test]
fn excludes_however_it_is_locked_and_unlocked() {
    within(Duration::from_secs(60), || {
        // A pair that differs whenever two threads are inside at once.
        let mutex = Arc::new(Mutex::new((0_u64, 0_u64)));
        let given_up = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..6_u64)
            .map(|number| {
                let (mutex, given_up) = (mutex.clone(), given_up.clone());
                std::thread::spawn(move || {
                    Hosted.set_priority(Priority::new(number as u8 % 3 + 1));
                    let mut entered = 0;
                    for round in 0..6000_u64 {
                        let guard = match (round + number) % 4 {
                            0 => mutex.try_lock(),
                            1 => mutex.try_lock_for(Duration::from_micros(50)),
                            _ => Some(mutex.lock()),
                        };
                        let Some(mut guard) = guard else {
                            given_up.fetch_add(1, SeqCst);
                            continue;
                        };
                        entered += 1;
                        guard.0 += 1;
                        if round % 512 == 0 {
                            std::thread::yield_now();
                        }
                        guard.1 += 1;
                        assert_eq!(guard.0, guard.1);
                        if round % 3 == 0 {
                            MutexGuard::unlock_fair(guard);
                        }
                    }
                    assert_eq!(Hosted.priority(Hosted.current()), Hosted.own_priority(Hosted.current()));
                    entered
                })
            })
            .collect();
        let entered: u64 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert_eq!(mutex.lock().0, entered);
        assert_eq!(entered + given_up.load(SeqCst), 36_000);
        assert!(!mutex.is_locked());
    });
}

/// The owner runs at its most urgent waiter's priority, and the waiters lend to the next owner.
#[test]
fn waiters_lend_to_each_owner_in_turn() {
    within(Duration::from_secs(30), || {
        static ORDER: Mutex<Vec<(u8, u8)>> = Mutex::new(Vec::new());
        let mutex = Arc::new(Mutex::new(()));
        Hosted.set_priority(Priority::new(1));
        let guard = mutex.lock();
        let threads: Vec<_> = [20_u8, 40, 30]
            .into_iter()
            .map(|level| {
                let mutex = mutex.clone();
                let (name, named) = std::sync::mpsc::channel();
                let thread = std::thread::spawn(move || {
                    Hosted.set_priority(Priority::new(level));
                    name.send(Hosted.current()).unwrap();
                    let _guard = mutex.lock();
                    ORDER.lock().push((level, Hosted.priority(Hosted.current()).level()));
                });
                let name = named.recv().unwrap();
                until(|| waits(name));
                thread
            })
            .collect();
        assert_eq!(Hosted.priority(Hosted.current()), Priority::new(40));
        drop(guard);
        assert_eq!(Hosted.priority(Hosted.current()), Priority::new(1));
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*ORDER.lock(), [(40, 40), (30, 30), (20, 20)]);
    });
}

#[test]
fn a_deadlock_panics_or_is_returned() {
    within(Duration::from_secs(30), || {
        let own = RawPiMutex::<Hosted>::INIT;
        let guard = own.lock_or_deadlock().unwrap();
        assert_eq!(own.lock_or_deadlock().err().unwrap().length(), 1);
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| own.lock())).is_err());
        // SAFETY: locked above.
        unsafe { own.unlock(guard) };
        assert!(!own.is_locked());

        let both = Arc::new((Mutex::new(()), Mutex::new(())));
        let there = both.clone();
        let first = both.0.lock();
        let blocked = std::thread::spawn(move || {
            let _second = there.1.lock();
            drop(there.0.lock());
        });
        until(|| both.1.is_locked());
        let start = Instant::now();
        // The other thread may still be on its way to its wait; then this is an ordinary wait, which times out.
        while both.1.try_lock_for(Duration::from_millis(1)).is_some()
            || Hosted::table().statistics().deadlocks < 3
        {
            assert!(start.elapsed() < Duration::from_secs(20), "no deadlock was seen");
        }
        drop(first);
        blocked.join().unwrap();
    });
}

/// It would go away by itself at its limit, so nothing is wrong with the wait that closes the cycle.
#[test]
fn a_wait_with_a_limit_gives_way_to_one_without() {
    within(Duration::from_secs(30), || {
        let both = Arc::new((Mutex::new(()), Mutex::new(())));
        let there = both.clone();
        let second = both.1.lock();
        let (here, who) = std::sync::mpsc::channel();
        let limited = std::thread::spawn(move || {
            let _first = there.0.lock();
            here.send(Hosted.current()).unwrap();
            there.1.try_lock_for(Duration::from_secs(1000)).is_some()
        });
        let limited_thread = who.recv().unwrap();
        until(|| waits(limited_thread));
        // SAFETY: it is unlocked below.
        let first = unsafe { both.0.raw() }.lock_or_deadlock().expect("the other one gives up");
        assert!(!limited.join().unwrap());
        drop(second);
        // SAFETY: locked above.
        unsafe { both.0.raw().unlock(first) };
    });
}

/// A waiter that keeps losing to a thread that locks again at once is handed the mutex in the end.
#[test]
fn equals_do_not_starve() {
    within(Duration::from_secs(30), || {
        let mutex = Arc::new(Mutex::new(0_u64));
        let stop = Arc::new(AtomicBool::new(false));
        let greedy = std::thread::spawn({
            let (mutex, stop) = (mutex.clone(), stop.clone());
            move || {
                while !stop.load(SeqCst) {
                    let mut count = mutex.lock();
                    let start = Instant::now();
                    while start.elapsed() < Duration::from_micros(50) {
                        std::hint::spin_loop();
                    }
                    *count += 1;
                }
            }
        });
        for _ in 0..200 {
            *mutex.lock() += 1;
        }
        stop.store(true, SeqCst);
        greedy.join().unwrap();
    });
}
