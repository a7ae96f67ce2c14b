//! Lending among ordinary threads: shares of a processor instead of precedence.
//!
//! A thread of nice 19 owns what one of nice −15 waits for, and has 40 ms to compute; three of nice 0 compute as well. By itself the owner
//! gets one part in two hundred of the processor, with the loan most of it. What counts is who is done first, in use of the processor.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use turnstile::{LinuxRt, LockScheduler, Policy};

use crate::inversion::{leaked, lock, unlock};
use crate::scene::until_edges;
use crate::scheduling::{Indifferent, alone, compute, conduct, on_one_processor, scheduler, within};

const HOGS: usize = 3;
const HOG: Duration = Duration::from_millis(300);
const SECTION: Duration = Duration::from_millis(40);

/// How many hogs were done when the waiter had what it wanted.
fn hogs_done_first<S: LockScheduler>() -> usize {
    let mutex = leaked::<S>();
    let (owns, owned) = mpsc::channel();
    let (go, gone) = mpsc::channel::<()>();
    let low = std::thread::spawn(move || {
        on_one_processor(Policy::Other(19));
        lock(mutex);
        owns.send(()).unwrap();
        gone.recv().unwrap();
        compute(SECTION);
        unlock(mutex);
    });
    owned.recv().unwrap();
    let done = Arc::new(AtomicUsize::new(0));
    let high = std::thread::spawn({
        let done = done.clone();
        move || {
            on_one_processor(Policy::Other(-15));
            lock(mutex);
            let done = done.load(SeqCst);
            unlock(mutex);
            done
        }
    });
    until_edges::<S>(1);
    let hogs: Vec<_> = (0..HOGS)
        .map(|_| {
            let done = done.clone();
            std::thread::spawn(move || {
                on_one_processor(Policy::Other(0));
                compute(HOG);
                done.fetch_add(1, SeqCst);
            })
        })
        .collect();
    go.send(()).unwrap();
    let first = high.join().unwrap();
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
    low.join().unwrap();
    first
}

#[test]
fn a_share_of_the_processor_is_lent() {
    if scheduler().is_none() {
        return;
    }
    within(Duration::from_secs(60), || {
        let _alone = alone();
        conduct();
        let (with, without) = (hogs_done_first::<LinuxRt>(), hogs_done_first::<Indifferent>());
        println!("nice: {with} of {HOGS} hogs were done before the owner with lending, {without} without");
        assert_eq!(with, 0, "with lending");
        assert_eq!(without, HOGS, "without lending");
    });
}
