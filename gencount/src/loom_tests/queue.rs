//! `lockfree`: waiting against finishing, and begin against both, on the real queue under loom. A waiter registers and walks; a
//! finish marks, unlinks, and looks at the waiter count. If both missed each other, the waiter would sleep for ever.
//!
//! `--cfg dcas_queue_loom` puts loom's atomics into the queue as well.

use core::num::NonZeroU64;

use dcas_queue::{Node, Observer, Queue};
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::fails;
use super::waiting::{Missing, Parking};

/// Backs off by letting others run.
struct Yield;

impl Observer for Yield {
    fn backoff(&self, _: u32) {
        thread::yield_now();
    }
}

struct Domain {
    queue: Queue,
    nodes: [Node; 3],
    parking: Parking,
    /// What each section does before its finish, and whoever waited for it reads.
    work: [UnsafeCell<u32>; 3],
}

impl Domain {
    /// With the first so many nodes open, as sections 1, 2 and so on.
    fn with_open(sections: usize) -> Arc<Self> {
        let domain = Arc::new(Self {
            queue: Queue::new(0),
            nodes: core::array::from_fn(|_| Node::new()),
            parking: Parking::new(),
            work: core::array::from_fn(|_| UnsafeCell::new(0)),
        });
        for section in 0..sections {
            domain.begin(section);
        }
        domain
    }

    fn begin(&self, section: usize) -> u64 {
        // SAFETY: nodes live and stay as long as the queue, which is their only one; each has one thread.
        unsafe { self.queue.append(&self.nodes[section], NonZeroU64::MIN, &Yield) }.expect("few")
    }

    fn finish(&self, section: usize, missing: Missing) {
        // SAFETY: loom reports it if somebody else accesses the cell meanwhile.
        self.work[section].with_mut(|work| unsafe { *work += 1 });
        // SAFETY: as in `begin`; the section is open.
        unsafe { self.queue.remove(&self.nodes[section], &Yield) };
        let count = &self.parking.count;
        let any = if missing == Missing::Finishers { count.any_unfenced() } else { count.any_after_pair() };
        if any {
            self.parking.wake();
        }
    }

    /// Waits for the sections up to `target`.
    fn wait(&self, target: u64, missing: Missing) {
        self.parking.wait(missing, || {
            // SAFETY: as in `begin`.
            unsafe { self.queue.complete_removals(&Yield) };
            self.queue.watermark() < target
        });
        for work in &self.work[..target as usize] {
            // SAFETY: as in `finish`.
            work.with(|work| assert_eq!(unsafe { *work }, 1));
        }
    }
}

/// All executions with so many preemptions.
fn check(preemptions: usize, body: impl Fn() + Sync + Send + 'static) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = model.preemption_bound.or(Some(preemptions));
    model.max_branches = 10_000;
    model.check(body);
}

/// A waiter for all of so many sections, each of which another thread finishes.
fn wait_against_finishes(sections: usize, missing: Missing) {
    let domain = Domain::with_open(sections);
    let finishes: std::vec::Vec<_> = (0..sections)
        .map(|section| {
            let domain = domain.clone();
            thread::spawn(move || domain.finish(section, missing))
        })
        .collect();
    domain.wait(sections as u64, missing);
    for finish in finishes {
        finish.join().expect("no panic");
    }
}

#[test]
fn no_wake_up_is_lost_between_mark_and_waiter_count() {
    check(4, || wait_against_finishes(1, Missing::Nothing));
}

#[test]
fn of_two_finishes_of_the_queue_one_wakes() {
    check(2, || wait_against_finishes(2, Missing::Nothing));
}

/// A begin may finish the removal on the way, and the finish finds that it was helped.
#[test]
fn a_begin_that_helps_takes_no_wake_up_away() {
    check(3, || {
        let domain = Domain::with_open(1);
        let finish = {
            let domain = domain.clone();
            thread::spawn(move || domain.finish(0, Missing::Nothing))
        };
        let begin = {
            let domain = domain.clone();
            thread::spawn(move || assert_eq!(domain.begin(1), 2))
        };
        domain.wait(1, Missing::Nothing);
        finish.join().expect("no panic");
        begin.join().expect("no panic");
        assert_eq!(domain.queue.watermark(), 1);
    });
}

#[test]
fn without_either_fence_a_wake_up_is_lost_on_the_queue() {
    assert!(fails(|| wait_against_finishes(1, Missing::Waiters)));
    assert!(fails(|| wait_against_finishes(1, Missing::Finishers)));
}
