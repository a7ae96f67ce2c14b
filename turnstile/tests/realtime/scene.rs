//! The scene of every scenario: low threads own, a middle thread hogs, a high thread waits.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use turnstile::LockScheduler;

use crate::scheduling::{alone, compute, conduct, fifo_on_one_processor, scheduler, system_says, within};

pub(crate) const LOW: u8 = 10;
const MIDDLE: u8 = 20;
const HIGH: u8 = 30;
const HOG: Duration = Duration::from_millis(400);
/// What a low thread has still to do when the high one waits.
const SECTION: Duration = Duration::from_millis(10);
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits until `count` edges are in the scheduler's table.
pub(crate) fn until_edges<S: LockScheduler>(count: usize) {
    let start = Instant::now();
    while S::table().edges(&mut []) != count {
        assert!(start.elapsed() < Duration::from_secs(10), "the threads do not block");
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// A thread that owns something: told to go on by a message.
pub(crate) struct Owner {
    pub(crate) go: mpsc::Sender<()>,
    pub(crate) thread: JoinHandle<()>,
}

/// Starts a low thread that acquires, says so, waits for its message, computes, and releases.
pub(crate) fn owner(
    priority: u8,
    acquire: impl FnOnce() + Send + 'static,
    release: impl FnOnce() + Send + 'static,
) -> Owner {
    let (go, gone) = mpsc::channel();
    let (owns, owned) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        fifo_on_one_processor(priority);
        acquire();
        owns.send(()).unwrap();
        gone.recv().unwrap();
        compute(SECTION);
        release();
        assert_eq!(system_says(), (libc::SCHED_FIFO, i32::from(priority)), "the loan is still there");
    });
    owned.recv().unwrap();
    Owner { go, thread }
}

/// Lets a middle thread hog the processor and a high one `wait`; `blocked` edges later the owners go on. Returns whether the hog was
/// still running when the high thread had what it wanted, and how long that took.
pub(crate) fn contest<S: LockScheduler>(
    blocked: usize,
    owners: Vec<Owner>,
    wait: impl FnOnce() + Send + 'static,
) -> (bool, Duration) {
    let hogging = Arc::new(AtomicBool::new(false));
    let started = Arc::new(Barrier::new(2));
    let hog = std::thread::spawn({
        let (hogging, started) = (hogging.clone(), started.clone());
        move || {
            fifo_on_one_processor(MIDDLE);
            hogging.store(true, SeqCst);
            started.wait();
            let start = Instant::now();
            while start.elapsed() < HOG {
                std::hint::spin_loop();
            }
            hogging.store(false, SeqCst);
        }
    });
    started.wait();
    let high = std::thread::spawn(move || {
        fifo_on_one_processor(HIGH);
        let start = Instant::now();
        wait();
        (hogging.load(SeqCst), start.elapsed())
    });
    until_edges::<S>(blocked);
    for owner in &owners {
        owner.go.send(()).unwrap();
    }
    let result = high.join().unwrap();
    hog.join().unwrap();
    for owner in owners {
        owner.thread.join().unwrap();
    }
    until_edges::<S>(0);
    result
}

/// Runs a scenario with loans and without.
pub(crate) fn shown(name: &'static str, with: fn() -> (bool, Duration), without: fn() -> (bool, Duration)) {
    if scheduler().is_none() {
        return;
    }
    within(LIMIT, move || {
        let _alone = alone();
        conduct();
        let (hog_still_running, waited) = with();
        println!("{name}: {waited:?} with lending");
        assert!(hog_still_running, "with lending, {name} took {waited:?}");
        let (hog_still_running, waited) = without();
        println!("{name}: {waited:?} without");
        assert!(!hog_still_running, "without lending, {name} took {waited:?}");
    });
}
