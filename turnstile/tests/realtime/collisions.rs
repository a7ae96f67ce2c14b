//! Low threads block on addresses that share the high thread's bucket, 10^5 times, and are preempted wherever they happen to be: inside
//! the bucket's lock, too.
//!
//! The high thread comes every hundred microseconds, sets the middle thread on the processor, and uses the table. If a low thread
//! holds the lock, it must finish first, and before the middle thread: the lock has to inherit. Time is the middle thread's own
//! use of the processor, so whatever else runs on the machine does not count.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use turnstile::{Address, Decision, LinuxRt, PiTurnstiles, Queue, Scheduler, Turnstiles};

use crate::scheduling::{
    OrdinaryLock, Variant, alone, conduct, fifo_on_one_processor, scheduler, used, within,
};

const ROUNDS: usize = 100_000;
const LOW: u8 = 10;
const MIDDLE: u8 = 20;
const HIGH: u8 = 30;
/// After so much use of the processor the middle thread concludes that the high one is held up, and lets go.
const HELD_UP: Duration = Duration::from_millis(20);

/// A table with one bucket.
trait Table: Send + Sync + 'static {
    fn block(&self, address: Address, still_blocked: &dyn Fn() -> bool);
    fn wake(&self, address: Address);
}

impl<S: turnstile::LendingScheduler + 'static> Table for PiTurnstiles<S, 1> {
    fn block(&self, address: Address, still_blocked: &dyn Fn() -> bool) {
        let decide = |_: &mut turnstile::Locked<'_, S, 1>| {
            if still_blocked() { Decision::Wait } else { Decision::Proceed }
        };
        let _ =
            PiTurnstiles::block(self, address, Queue::Exclusive, 0, decide).expect("nobody owns anything");
    }

    fn wake(&self, address: Address) {
        self.wake_one(address, Queue::Exclusive);
    }
}

impl<S: Scheduler + 'static> Table for Turnstiles<S, 1> {
    fn block(&self, address: Address, still_blocked: &dyn Fn() -> bool) {
        let _ = Turnstiles::block(self, address, Queue::Exclusive, 0, still_blocked);
    }

    fn wake(&self, address: Address) {
        self.wake_one(address, Queue::Exclusive);
    }
}

#[derive(Default)]
struct Scene {
    /// Whose turn it is among the two low threads, each with an address of its own.
    turn: AtomicUsize,
    rounds: AtomicUsize,
    over: AtomicBool,
    /// How often the high thread has come, and how often it got what it came for.
    came: AtomicUsize,
    went: AtomicUsize,
    held_up: AtomicUsize,
}

/// Plays the scene on a table until the low threads have blocked so often, or the high one was held up; returns how often it came and
/// was held up, and its longest visit.
fn play(table: impl Table) -> (usize, usize, Duration) {
    let (table, scene) = (Arc::new(table), Arc::new(Scene::default()));
    let lows: Vec<_> = (0..2)
        .map(|me| {
            let (table, scene) = (table.clone(), scene.clone());
            std::thread::spawn(move || {
                fifo_on_one_processor(LOW);
                let ends = || scene.over.load(SeqCst);
                while !ends() && scene.rounds.fetch_add(1, SeqCst) < ROUNDS {
                    let waits = || scene.turn.load(SeqCst) != me && !ends();
                    while waits() {
                        table.block(Address::new(me), &waits);
                    }
                    scene.turn.store(1 - me, SeqCst);
                    table.wake(Address::new(1 - me));
                }
                scene.over.store(true, SeqCst);
                table.wake(Address::new(1 - me));
            })
        })
        .collect();
    let middle = std::thread::spawn({
        let scene = scene.clone();
        move || {
            fifo_on_one_processor(MIDDLE);
            while !scene.over.load(SeqCst) {
                let start = used();
                while scene.went.load(SeqCst) != scene.came.load(SeqCst) {
                    if used() - start > HELD_UP {
                        scene.held_up.fetch_add(1, SeqCst);
                        scene.over.store(true, SeqCst);
                        return;
                    }
                }
                std::thread::park();
            }
        }
    });
    let mut longest = Duration::ZERO;
    fifo_on_one_processor(HIGH);
    while !scene.over.load(SeqCst) {
        std::thread::sleep(Duration::from_micros(100));
        scene.came.fetch_add(1, SeqCst);
        middle.thread().unpark();
        let start = Instant::now();
        table.wake(Address::new(2));
        longest = longest.max(start.elapsed());
        scene.went.fetch_add(1, SeqCst);
    }
    middle.thread().unpark();
    // Whoever still waits for its turn.
    lows.iter().enumerate().for_each(|(low, _)| table.wake(Address::new(low)));
    middle.join().unwrap();
    lows.into_iter().for_each(|low| low.join().unwrap());
    (scene.came.load(SeqCst), scene.held_up.load(SeqCst), longest)
}

/// With an inheriting lock and with an ordinary one.
fn shown<A: Table, B: Table>(name: &'static str, inheriting: fn(LinuxRt) -> A, ordinary: fn() -> B) {
    let Some(real) = scheduler() else { return };
    within(Duration::from_secs(60), move || {
        let _alone = alone();
        conduct();
        let (came, held_up, longest) = play(inheriting(real));
        println!("{name}: {came} visits, the longest {longest:?}, with a lock that inherits");
        assert_eq!(held_up, 0, "the high thread was held up by the middle one");
        assert!(came > 100, "the high thread came {came} times only");
        let (came, held_up, longest) = play(ordinary());
        println!("{name}: held up at visit {came}, for {longest:?}, with one that does not");
        assert_eq!(held_up, 1, "an ordinary lock was never held by a low thread when the high one came");
    });
}

#[test]
fn colliding_addresses_of_the_lending_table() {
    shown("colliding, lending", PiTurnstiles::<LinuxRt, 1>::new, || {
        PiTurnstiles::<OrdinaryLock, 1>::new(Variant::new())
    });
}

#[test]
fn colliding_addresses_of_the_plain_table() {
    shown("colliding, plain", Turnstiles::<LinuxRt, 1>::new, || {
        Turnstiles::<OrdinaryLock, 1>::new(Variant::new())
    });
}
