//! What the machine promises to tests that are run on it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use turnstile::simulated::{Machine, State, Stuck};
use turnstile::{
    Address, Decision, Ending, LendingScheduler as _, PiTurnstiles, Priority, Queue, Scheduler as _,
    TimedScheduler as _, Turnstiles,
};

const NORMAL: Priority = Priority::NORMAL;

/// A list that several threads of a machine write to.
type Notes = Rc<RefCell<Vec<(u64, &'static str)>>>;

fn noting(notes: &Notes, machine: &Arc<Machine>) -> impl Fn(&'static str) + Clone + 'static {
    let (notes, machine) = (notes.clone(), machine.clone());
    move |what| notes.borrow_mut().push((machine.now(), what))
}

#[test]
fn the_most_urgent_runs_then_the_first_to_come() {
    let (machine, notes) = (Arc::new(Machine::new()), Notes::default());
    for (level, sleep, name) in [(1, 0, "low"), (3, 5, "urgent"), (2, 5, "first"), (2, 5, "second")] {
        let (clock, note) = (machine.clone(), noting(&notes, &machine));
        machine.spawn(Priority::new(level), move || {
            clock.sleep(sleep);
            clock.work(10);
            note(name);
        });
    }
    assert_eq!(machine.run(), Ok(()));
    assert_eq!(*notes.borrow(), [(15, "urgent"), (25, "first"), (35, "second"), (40, "low")]);
}

#[test]
fn a_token_is_kept_and_taken_once() {
    let machine = Arc::new(Machine::new());
    let here = machine.clone();
    let thread = machine.spawn(NORMAL, move || {
        here.park();
        here.park_until(100);
        assert!(here.is_past(100), "two unparks in a row are one token");
    });
    machine.unpark(thread);
    machine.unpark(thread);
    assert_eq!(machine.run(), Ok(()));
    assert_eq!((machine.state(thread), machine.now()), (State::Done, 100));
}

#[test]
fn who_is_parked_for_ever_is_named() {
    let machine = Arc::new(Machine::new());
    machine.spawn(NORMAL, || {});
    let here = machine.clone();
    let stuck = machine.spawn(NORMAL, move || here.park());
    let error = machine.run().unwrap_err();
    assert_eq!(error, Stuck { threads: vec![stuck] });
    assert_eq!(error.to_string(), "parked for ever: threads 2");
    machine.unpark(stuck);
    assert_eq!(machine.run(), Ok(()));
}

/// Two machines in one test, one of them inside a thread of the other.
#[test]
fn machines_are_values() {
    let outer = Arc::new(Machine::new());
    let here = outer.clone();
    outer.spawn(NORMAL, move || {
        let inner = Arc::new(Machine::new());
        let there = inner.clone();
        inner.spawn(NORMAL, move || there.work(7));
        here.work(2);
        assert_eq!(inner.run(), Ok(()));
        assert_eq!((inner.now(), here.now()), (7, 2));
    });
    assert_eq!(outer.run(), Ok(()));
}

#[test]
fn a_panic_comes_out_and_the_machine_goes_on() {
    let machine = Arc::new(Machine::new());
    let bad = machine.spawn(Priority::HIGHEST, || panic!("on purpose"));
    let good = machine.spawn(NORMAL, || {});
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| machine.run())).is_err());
    assert_eq!((machine.state(bad), machine.state(good)), (State::Done, State::Ready));
    assert_eq!(machine.run(), Ok(()));
}

/// On another thread of the host it refuses, and there it can be dropped.
#[test]
fn it_stays_at_home() {
    let machine = Arc::new(Machine::new());
    machine.spawn(NORMAL, || unreachable!("never run"));
    let there = machine.clone();
    assert!(std::thread::spawn(move || there.now()).join().is_err());
    std::thread::spawn(move || drop(machine)).join().unwrap();
}

#[test]
#[should_panic(expected = "under the table's lock")]
fn a_scheduling_point_under_the_tables_lock_is_noticed() {
    let machine = Arc::new(Machine::new());
    let table = Arc::new(PiTurnstiles::<_, 1>::new(machine.clone()));
    for _ in 0..2 {
        let (machine, table) = (machine.clone(), table.clone());
        let run = machine.clone();
        run.spawn(NORMAL, move || table.locked(|_| machine.point()));
    }
    let mut turn = 0;
    let _ = machine.run_with(|ready| {
        turn += 1;
        ready[turn % ready.len()]
    });
}

/// The table without lending runs on it as well; every choice of `run_with` is one interleaving.
#[test]
fn every_short_schedule_loses_no_wake_up() {
    for schedule in 0..1 << 10 {
        let machine = Arc::new(Machine::new());
        let table = Arc::new(Turnstiles::<_, 1>::new(machine.clone()));
        let here = Address::new(0x1000);
        let ready = Rc::new(std::cell::Cell::new(false));
        let (waits, condition) = (table.clone(), ready.clone());
        machine.spawn(NORMAL, move || {
            let _ = waits.block(here, Queue::Shared, 0, || !condition.get());
            assert!(condition.get());
        });
        machine.spawn(NORMAL, move || {
            ready.set(true);
            table.wake_all(here, Queue::Shared);
        });
        let mut bits = schedule;
        let choose = |ready: &[turnstile::ThreadId]| {
            bits >>= 1;
            ready[(bits & 1).min(ready.len() - 1)]
        };
        assert_eq!(machine.run_with(choose), Ok(()));
    }
}

#[test]
fn a_wait_with_a_deadline_costs_no_time_but_its_own() {
    let machine = Arc::new(Machine::new());
    let table = Arc::new(PiTurnstiles::<_, 1>::new(machine.clone()));
    let (waits, clock) = (table.clone(), machine.clone());
    let owner = machine.spawn(NORMAL, {
        let clock = machine.clone();
        move || clock.sleep(5000)
    });
    machine.spawn(Priority::HIGHEST, move || {
        let deadline = clock.after(1000).unwrap();
        let ending =
            waits.block_until(Address::new(8), Queue::Exclusive, 0, deadline, |_| Decision::WaitFor(owner));
        assert_eq!((ending, clock.now()), (Ok(Ending::TimedOut), 1000));
        assert_eq!(clock.own_priority(owner), clock.priority(owner));
    });
    assert_eq!(machine.run(), Ok(()));
}
