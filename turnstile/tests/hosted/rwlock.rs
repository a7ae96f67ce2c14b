//! The inheriting reader-writer lock under the portable scheduler, with more threads than cores.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use crate::support::{until, within};
use turnstile::{
    Hosted, LendingScheduler as _, LockScheduler as _, Priority, RawPiRwLock, ReaderScheduler as _,
    Scheduler as _, ThreadId,
};

type RwLock<T> = lock_api::RwLock<RawPiRwLock<Hosted>, T>;

fn waits(of: ThreadId) -> bool {
    Hosted::table().chain_of(of, &mut []) > 0
}

fn mine() -> u8 {
    Hosted.priority(Hosted.current()).level()
}

#[test]
fn one_word() {
    static_assertions::assert_eq_size!(RawPiRwLock<Hosted>, usize);
    static_assertions::assert_impl_all!(RawPiRwLock<Hosted>: Send, Sync);
    static_assertions::assert_not_impl_any!(turnstile::Share: Send);
}

#[test]
fn writers_exclude_and_readers_share() {
    within(Duration::from_secs(60), || {
        let lock = Arc::new(RwLock::new((0_u64, 0_u64)));
        let (inside, together) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let written = Arc::new(AtomicU64::new(0));
        let threads: Vec<_> = (0..6_u64)
            .map(|number| {
                let (lock, inside, together, written) =
                    (lock.clone(), inside.clone(), together.clone(), written.clone());
                std::thread::spawn(move || {
                    Hosted.set_priority(Priority::new(number as u8 % 3 + 1));
                    for round in 0..4000_u64 {
                        let limit = Duration::from_micros(50);
                        if (round + number) % 3 == 0 {
                            let guard = match round % 4 {
                                0 => lock.try_write(),
                                1 => lock.try_write_for(limit),
                                _ => Some(lock.write()),
                            };
                            let Some(mut guard) = guard else { continue };
                            assert_eq!(inside.load(SeqCst), 0);
                            guard.0 += 1;
                            if round % 256 == 0 {
                                std::thread::yield_now();
                            }
                            guard.1 += 1;
                            written.fetch_add(1, SeqCst);
                        } else {
                            let guard = match round % 4 {
                                0 => lock.try_read(),
                                1 => lock.try_read_for(limit),
                                _ => Some(lock.read()),
                            };
                            let Some(guard) = guard else { continue };
                            together.fetch_max(inside.fetch_add(1, SeqCst) + 1, SeqCst);
                            assert_eq!(guard.0, guard.1);
                            if round % 16 == 0 {
                                std::thread::yield_now();
                            }
                            inside.fetch_sub(1, SeqCst);
                        }
                    }
                    assert_eq!(mine(), Hosted.own_priority(Hosted.current()).level(), "a loan is left over");
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(lock.read().0, written.load(SeqCst));
        assert!(together.load(SeqCst) > 1, "readers were never inside together");
        assert!(!lock.is_locked());
    });
}

/// A waiting writer lends to every reader, those included that enter while it waits because they are more urgent.
#[test]
fn a_writer_lends_to_all_readers_and_is_next() {
    within(Duration::from_secs(30), || {
        let lock = Arc::new(RwLock::new(0));
        Hosted.set_priority(Priority::new(1));
        let here = lock.read();
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let reader = std::thread::spawn({
            let lock = lock.clone();
            move || {
                Hosted.set_priority(Priority::new(2));
                let guard = lock.read();
                tell.send(Hosted.current()).unwrap();
                gone.recv().unwrap();
                drop(guard);
                assert_eq!(mine(), 2);
            }
        });
        let reader_id = told.recv().unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let writer = std::thread::spawn({
            let lock = lock.clone();
            move || {
                Hosted.set_priority(Priority::new(30));
                tell.send(Hosted.current()).unwrap();
                *lock.write() = 1;
            }
        });
        let writer_id = told.recv().unwrap();
        until(|| waits(writer_id));
        assert_eq!((mine(), Hosted.priority(reader_id).level()), (30, 30));
        // Less urgent than the writer: waits, and lends nothing that matters. More urgent: enters.
        assert!(lock.try_read_for(Duration::from_millis(1)).is_none());
        let late = std::thread::spawn({
            let lock = lock.clone();
            move || {
                Hosted.set_priority(Priority::new(40));
                assert_eq!(*lock.read(), 0);
            }
        });
        late.join().unwrap();
        drop(here);
        assert_eq!((mine(), Hosted.priority(reader_id).level()), (1, 30));
        go.send(()).unwrap();
        reader.join().unwrap();
        writer.join().unwrap();
        assert_eq!(*lock.read(), 1);
    });
}

/// Readers lend to the writer; when it leaves, they enter together, and a waiting writer lends to them before they have run.
#[test]
fn readers_lend_to_the_writer_and_are_handed_the_lock() {
    within(Duration::from_secs(30), || {
        let lock = Arc::new(RwLock::new(()));
        Hosted.set_priority(Priority::new(1));
        let guard = lock.write();
        let barrier = Arc::new(std::sync::Barrier::new(3));
        let threads: Vec<_> = [20_u8, 25, 10]
            .into_iter()
            .map(|level| {
                let (lock, barrier) = (lock.clone(), barrier.clone());
                let (name, named) = std::sync::mpsc::channel();
                let thread = std::thread::spawn(move || {
                    Hosted.set_priority(Priority::new(level));
                    name.send(Hosted.current()).unwrap();
                    if level == 10 {
                        drop(lock.write());
                    } else {
                        let _guard = lock.read();
                        // Ends only if both readers are inside at once.
                        barrier.wait();
                    }
                });
                let name = named.recv().unwrap();
                until(|| waits(name));
                thread
            })
            .collect();
        assert_eq!(mine(), 25);
        drop(guard);
        assert_eq!(mine(), 1);
        barrier.wait();
        for thread in threads {
            thread.join().unwrap();
        }
    });
}

/// A writer that becomes a reader keeps what it wrote from other writers, lets urgent readers in, and is lent to by the writers that wait.
#[test]
fn a_writer_becomes_a_reader() {
    within(Duration::from_secs(30), || {
        let lock = Arc::new(RwLock::new(0));
        Hosted.set_priority(Priority::new(1));
        let mut guard = lock.write();
        let waiting = |level: u8, writes: bool| {
            let lock = lock.clone();
            let (name, named) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                Hosted.set_priority(Priority::new(level));
                name.send(Hosted.current()).unwrap();
                if writes {
                    *lock.write() += 1;
                } else {
                    assert_eq!(*lock.read(), 1);
                }
            });
            let name = named.recv().unwrap();
            until(|| waits(name));
            thread
        };
        let (writer, urgent) = (waiting(20, true), waiting(30, false));
        assert_eq!(mine(), 30);
        *guard = 1;
        let guard = lock_api::RwLockWriteGuard::downgrade(guard);
        // Ends although this thread is still inside: both read.
        urgent.join().unwrap();
        assert_eq!((*guard, mine()), (1, 20));
        assert!(lock.is_locked() && !lock.is_locked_exclusive());
        drop(guard);
        writer.join().unwrap();
        assert_eq!((*lock.read(), mine()), (2, 1));
        // Without waiters it is one exchange.
        assert_eq!(*lock_api::RwLockWriteGuard::downgrade(lock.write()), 2);
        assert!(!lock.is_locked());
    });
}

/// Beyond eight holds a reader inherits nothing, and that is counted.
#[test]
fn holds_beyond_eight_are_counted_as_unlent() {
    within(Duration::from_secs(30), || {
        let locks: Arc<Vec<RwLock<()>>> = Arc::new((0..9).map(|_| RwLock::new(())).collect());
        Hosted.set_priority(Priority::new(1));
        let guards: Vec<_> = locks.iter().map(|lock| lock.read()).collect();
        let holds = Hosted.read_holds(Hosted.current()).unwrap();
        assert_eq!(holds.unlent(), 1);
        let write = |lock: usize, level| {
            let locks = locks.clone();
            let (name, named) = std::sync::mpsc::channel();
            let thread = std::thread::spawn(move || {
                Hosted.set_priority(Priority::new(level));
                name.send(Hosted.current()).unwrap();
                drop(locks[lock].write());
            });
            let name = named.recv().unwrap();
            until(|| waits(name));
            thread
        };
        let unlent = write(8, 50);
        assert_eq!(mine(), 1);
        let lent = [write(7, 20), write(0, 30)];
        assert_eq!(mine(), 30);
        let mut guards = guards.into_iter();
        drop(guards.next());
        assert_eq!(mine(), 20);
        drop(guards);
        assert_eq!(mine(), 1);
        unlent.join().unwrap();
        lent.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn a_reader_that_wants_to_write_is_a_deadlock() {
    within(Duration::from_secs(30), || {
        let lock = RwLock::new(());
        let guard = lock.read();
        let upgrade = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(lock.write())));
        assert!(upgrade.is_err());
        assert!(lock.try_write_for(Duration::from_secs(10)).is_none());
        drop(guard);
        drop(lock.write());
        assert!(!lock.is_locked());
    });
}

/// Nothing that they wait for is left but readers like them, who may stay for ever.
#[test]
fn readers_behind_a_writer_that_gives_up_go_in() {
    within(Duration::from_secs(60), || {
        let lock = Arc::new(RwLock::new(()));
        let inside = lock.read();
        let (here, who) = std::sync::mpsc::channel();
        let (writing, writer) = (lock.clone(), here.clone());
        let writer = std::thread::spawn(move || {
            writer.send(Hosted.current()).unwrap();
            let mut limit = Duration::from_millis(20);
            // Until the reader has been seen to wait behind it.
            while writing.try_write_for(limit).is_none() && limit < Duration::from_secs(1) {
                limit *= 2;
            }
        });
        let writer_thread = who.recv().unwrap();
        let mut went_in_behind_it = 0;
        while !writer.is_finished() {
            until(|| waits(writer_thread) || writer.is_finished());
            let (reading, reader) = (lock.clone(), here.clone());
            let reader = std::thread::spawn(move || {
                reader.send(Hosted.current()).unwrap();
                drop(reading.read());
            });
            let reader_thread = who.recv().unwrap();
            until(|| waits(reader_thread) || reader.is_finished());
            went_in_behind_it += u32::from(!reader.is_finished());
            reader.join().unwrap();
        }
        writer.join().unwrap();
        assert!(went_in_behind_it > 0, "no reader was seen to wait");
        drop(inside);
        assert!(lock.try_write().is_some());
    });
}

/// A reader waits for a mutex whose owner wants to write until a limit: that one gives up, and lets in who waited behind it.
#[test]
fn a_writer_with_a_limit_gives_way_to_a_reader() {
    within(Duration::from_secs(30), || {
        let lock = Arc::new(RwLock::new(()));
        let mutex = Arc::new(lock_api::Mutex::<turnstile::RawPiMutex<Hosted>, ()>::new(()));
        let inside = lock.read();
        let (here, who) = std::sync::mpsc::channel();
        let (writing, owned, writer) = (lock.clone(), mutex.clone(), here.clone());
        let (let_go, may_let_go) = std::sync::mpsc::channel();
        let writer = std::thread::spawn(move || {
            let _guard = owned.lock();
            writer.send(Hosted.current()).unwrap();
            assert!(writing.try_write_for(Duration::from_secs(1000)).is_none());
            may_let_go.recv().unwrap();
        });
        let writer_thread = who.recv().unwrap();
        until(|| waits(writer_thread));
        let reading = lock.clone();
        let reader = std::thread::spawn(move || {
            here.send(Hosted.current()).unwrap();
            drop(reading.read());
            let_go.send(()).unwrap();
        });
        let reader_thread = who.recv().unwrap();
        until(|| waits(reader_thread));
        drop(mutex.lock());
        reader.join().unwrap();
        writer.join().unwrap();
        drop(inside);
        assert!(lock.try_write().is_some());
    });
}
