//! The tables' park and unpark protocols: no wake-up is lost (INV-T-4, INV-L-5), waits end once (INV-T-5), and what a waker did is visible
//! (INV-T-3, INV-L-1).

use std::sync::Arc;
use std::vec::Vec;

use super::explore;
use super::scheduler::{Checked, spawn};
#[cfg(turnstile_shuttle)]
use super::{Fault, noticed};
use crate::primitive::{AtomicUsize, Relaxed};
use crate::{Address, Decision, Ending, LockScheduler as _, Queue, Scheduler as _, Turnstiles};

const HERE: Address = Address::new(0x1000);

/// A condition and a table; the accesses are Relaxed, so what orders them is the table.
struct Event {
    table: Turnstiles<Checked, 1>,
    happened: AtomicUsize,
}

fn event(waiters: usize) -> impl Fn() + Send + Sync + 'static {
    move || {
        let event = Arc::new(Event { table: Turnstiles::new(Checked), happened: AtomicUsize::new(0) });
        // Makes what is made at its first use, before the others start.
        // ORD: Relaxed: nothing is read yet.
        assert_eq!((event.table.waiting(HERE, Queue::Shared), event.happened.load(Relaxed)), (0, 0));
        let waiters: Vec<_> = (0..waiters)
            .map(|number| {
                let event = event.clone();
                spawn(number as u8, move || {
                    // ORD: Relaxed: the chain's lock orders it.
                    let blocked = || event.happened.load(Relaxed) == 0;
                    let _ = event.table.block(HERE, Queue::Shared, 0, blocked);
                    // ORD: Relaxed: that the table's order is enough is what the test shows.
                    assert_eq!(event.happened.load(Relaxed), 1, "what the waker did is not visible");
                })
            })
            .collect();
        event.happened.store(1, Relaxed); // ORD: as above
        event.table.wake_all(HERE, Queue::Shared);
        waiters.into_iter().for_each(|waiter| waiter.join().unwrap());
    }
}

#[test]
fn an_event_and_its_waiters() {
    explore(20, event(1));
    explore(3, event(2));
}

#[cfg(turnstile_shuttle)]
#[test]
fn an_event_and_five_waiters() {
    explore(0, event(5));
}

/// Without the re-check under the chain lock the event may have come before the waiter (INV-T-4). Not under loom: it unwinds the thread
/// that is parked last, whose drop guard then takes a lock of an execution that is no more.
#[cfg(turnstile_shuttle)]
#[test]
fn without_the_recheck_a_wake_up_is_lost() {
    noticed(Fault::NoRecheck, "deadlock", 2, event(1));
}

/// A wait of the lending table ends in exactly one way, whatever comes first: waking, cancelling, or its deadline.
#[test]
fn a_wait_ends_once() {
    explore(3, || {
        let main = Checked.current();
        let waiter = spawn(2, move || {
            let ending =
                Checked::table().block_until(HERE, Queue::Exclusive, 0, (), |_| Decision::WaitFor(main));
            let ending = ending.expect("no cycle");
            assert!(matches!(ending, Ending::Woken | Ending::Cancelled | Ending::TimedOut));
        });
        let canceller = spawn(3, || {
            Checked::table().locked(|table| {
                if let Some(first) = table.first(HERE, Queue::Exclusive) {
                    assert!(table.cancel(first.thread));
                }
            });
        });
        let woken = Checked::table().wake_all(HERE, Queue::Exclusive);
        assert!(woken.count <= 1);
        waiter.join().unwrap();
        canceller.join().unwrap();
    });
}
