//! Locks, chains of them, and queues with several owners.

use std::sync::Mutex;
use std::time::Duration;

use crate::scene::{LIMIT, LOW, contest, owner, shown, until_edges};
use crate::scheduling::{Indifferent, alone, fifo_on_one_processor, scheduler, system_says, within};
use lock_api::{RawMutex as _, RawMutexTimed as _};
use turnstile::{
    Address, Decision, Edge, Ending, Hold, LinuxRt, LockScheduler, Policy, Queue, RawPiMutex, Scheduler as _,
};

pub(crate) fn leaked<S: LockScheduler>() -> &'static RawPiMutex<S> {
    Box::leak(Box::new(RawPiMutex::INIT))
}

pub(crate) fn lock<S: LockScheduler>(mutex: &RawPiMutex<S>) {
    // The guard says nothing; `unlock` makes one anew.
    let _ = mutex.lock();
}

pub(crate) fn unlock<S: LockScheduler>(mutex: &RawPiMutex<S>) {
    // SAFETY: the scenarios unlock what the same thread locked.
    unsafe { mutex.unlock(lock_api::GuardNoSend::new()) };
}

fn one_lock<S: LockScheduler>() -> (bool, Duration) {
    let mutex = leaked::<S>();
    let low = owner(LOW, || lock(mutex), || unlock(mutex));
    contest::<S>(1, vec![low], || {
        lock(mutex);
        unlock(mutex);
    })
}

#[test]
fn a_lock() {
    shown("one lock", one_lock::<LinuxRt>, one_lock::<Indifferent>);
}

fn chain<S: LockScheduler>() -> (bool, Duration) {
    let [first, second, third] = [leaked::<S>(), leaked::<S>(), leaked::<S>()];
    let low = owner(LOW, || lock(third), || unlock(third));
    let link = |priority, owned: &'static RawPiMutex<S>, wanted: &'static RawPiMutex<S>| {
        std::thread::spawn(move || {
            fifo_on_one_processor(priority);
            lock(owned);
            lock(wanted);
            unlock(wanted);
            unlock(owned);
        })
    };
    let middle = link(LOW + 1, second, third);
    until_edges::<S>(1);
    let top = link(LOW + 2, first, second);
    until_edges::<S>(2);
    let result = contest::<S>(3, vec![low], || {
        lock(first);
        unlock(first);
    });
    middle.join().unwrap();
    top.join().unwrap();
    result
}

#[test]
fn a_chain_of_three_locks() {
    shown("a chain of three locks", chain::<LinuxRt>, chain::<Indifferent>);
}

/// Two low threads that both must let go.
fn shared_queue<S: LockScheduler>() -> (bool, Duration) {
    let left: &'static Mutex<usize> = Box::leak(Box::new(Mutex::new(2)));
    let here = Address::of(left);
    let owners = (0..2_u8)
        .map(|number| {
            let hold: &'static Hold = Box::leak(Box::default());
            owner(
                LOW + number,
                move || {
                    let me = S::table().scheduler().current();
                    // SAFETY: new, never freed, and used with this table only.
                    S::table().locked(|table| unsafe { table.hold(hold, here, me, 0) }).unwrap();
                },
                move || {
                    S::table().locked(|table| {
                        // SAFETY: used with this table only.
                        assert!(unsafe { table.release(hold) });
                        let mut left = left.lock().unwrap();
                        *left -= 1;
                        if *left == 0 {
                            table.wake(here, Queue::Shared, usize::MAX);
                        }
                    });
                },
            )
        })
        .collect();
    contest::<S>(2, owners, move || {
        let ending = S::table().block(here, Queue::Shared, 0, |_| Decision::Wait);
        assert_eq!(ending, Ok(Ending::Woken));
    })
}

#[test]
fn a_shared_queue_with_several_owners() {
    shown("a shared queue", shared_queue::<LinuxRt>, shared_queue::<Indifferent>);
}

/// Nice values are lent among ordinary threads, and go back when a wait times out.
#[test]
fn nice_values_and_time_outs() {
    let Some(real) = scheduler() else { return };
    within(LIMIT, move || {
        let _alone = alone();
        let nice = || {
            // SAFETY: plain numbers; 0 names the calling thread.
            unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
        };
        let mutex = leaked::<LinuxRt>();
        real.set_policy(Policy::Other(15)).unwrap();
        lock(mutex);
        assert_eq!(nice(), 15);
        let waiter = std::thread::spawn(move || {
            real.set_policy(Policy::Other(-5)).unwrap();
            mutex.try_lock_for(Duration::from_millis(50)).is_some()
        });
        until_edges::<LinuxRt>(1);
        assert_eq!(nice(), -5);
        assert!(!waiter.join().unwrap());
        assert_eq!(nice(), 15);
        let waiter = std::thread::spawn(move || {
            real.set_policy(Policy::RoundRobin(7)).unwrap();
            lock(mutex);
            unlock(mutex);
        });
        until_edges::<LinuxRt>(1);
        assert_eq!(system_says(), (libc::SCHED_FIFO, 7));
        // A new policy of its own, while it is lent more: it takes effect when the loan ends.
        real.set_policy(Policy::Other(10)).unwrap();
        assert_eq!(system_says(), (libc::SCHED_FIFO, 7));
        unlock(mutex);
        assert_eq!((system_says(), nice()), ((libc::SCHED_OTHER, 0), 10));
        waiter.join().unwrap();
        assert!(real.set_policy(Policy::Fifo(100)).is_err());
        assert_eq!(real.refusals(), 0);
        let mut room: [Edge; 0] = [];
        assert_eq!(LinuxRt::table().chain_of(real.current(), &mut room), 0);
    });
}

/// Without the capability, construction fails: the test drops it on one thread, which then ends.
#[test]
fn without_the_capability_construction_fails() {
    if scheduler().is_none() {
        return;
    }
    within(LIMIT, || {
        // SAFETY: version 3, this thread, and two elements of no capability at all.
        let dropped = unsafe {
            let header: [u32; 2] = [0x2008_0522, 0];
            let none = [0_u32; 6];
            libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr())
        };
        assert_eq!(dropped, 0);
        let missing = LinuxRt::new().unwrap_err();
        assert!(missing.to_string().contains("CAP_SYS_NICE"));
        // A lock on such a thread does not silently do without.
        let locked = std::panic::catch_unwind(|| lock(leaked::<LinuxRt>()));
        assert!(locked.is_err());
    });
}
