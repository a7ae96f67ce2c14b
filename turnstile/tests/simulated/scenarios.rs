//! Inversion with and without lending; time-outs, cancelling, disowning and changes of priority in between.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use turnstile::simulated::Machine;
use turnstile::{
    Address, Deadlock, Decision, Ending, Hold, PiTurnstiles, Priority, Queue, Scheduler as _, ThreadId,
};

const LOW: u8 = 10;
const MIDDLE: u8 = 20;
const HIGH: u8 = 30;
/// How long the middle thread hogs the processor.
const HOG: u64 = 1000;
/// What is short in comparison.
const SHORT: u64 = 150;

/// An own priority, and what the thread does.
type Body = (u8, fn(&World));

/// A machine, its table and locks whose words hold the owner's id, or 0.
struct World {
    machine: Arc<Machine>,
    table: PiTurnstiles<Arc<Machine>, 4>,
    locks: [AtomicUsize; 3],
    holds: [Hold; 2],
    readers: AtomicUsize,
    /// When the high thread got what it wanted.
    got: AtomicU64,
    seen: Mutex<Vec<Option<u8>>>,
}

impl World {
    fn new(honours_loans: bool) -> Arc<Self> {
        let machine = Arc::new(if honours_loans { Machine::new() } else { Machine::ignoring_loans() });
        Arc::new(Self {
            table: PiTurnstiles::new(machine.clone()),
            machine,
            locks: Default::default(),
            holds: Default::default(),
            readers: AtomicUsize::new(0),
            got: AtomicU64::new(0),
            seen: Mutex::default(),
        })
    }

    fn me(&self) -> ThreadId {
        self.machine.current()
    }

    fn decide(&self, lock: usize) -> Decision {
        match self.locks[lock].compare_exchange(0, self.me().get().get(), SeqCst, SeqCst) {
            Ok(_) => Decision::Proceed,
            Err(owner) => Decision::WaitFor(ThreadId::new(owner.try_into().unwrap())),
        }
    }

    fn lock(&self, lock: usize) -> Result<(), Deadlock> {
        self.table
            .block(Address::of(&self.locks[lock]), Queue::Exclusive, 0, |_| self.decide(lock))
            .map(|ending| assert!(matches!(ending, Ending::NotBlocked | Ending::Woken)))
    }

    /// Hands the lock to the most urgent waiter.
    fn unlock(&self, lock: usize) {
        let address = Address::of(&self.locks[lock]);
        self.table.locked(|table| {
            let next = table.first(address, Queue::Exclusive).map(|waiting| waiting.thread);
            self.locks[lock].store(next.map_or(0, |next| next.get().get()), SeqCst);
            table.wake(address, Queue::Exclusive, 1);
            table.claim(address, next).unwrap();
        });
        self.machine.point();
    }

    fn run(self: &Arc<Self>, bodies: Vec<Body>) {
        let threads: Vec<_> = bodies
            .into_iter()
            .map(|(own, body)| {
                let world = Arc::clone(self);
                self.machine.spawn(Priority::new(own), move || body(&world))
            })
            .collect();
        assert_eq!(self.machine.run(), Ok(()));
        assert!(threads.iter().all(|thread| self.machine.loan(*thread).is_none()), "a loan is left over");
    }

    fn hog(&self) {
        self.machine.sleep(20);
        self.machine.work(HOG);
    }

    /// Runs `bodies` with lending and without, and checks when the high thread got what it wanted.
    fn bounded_with_lending_only(bodies: &[Body]) {
        let world = World::new(true);
        world.run(bodies.to_vec());
        let got = world.got.load(SeqCst);
        assert!(got > 0 && got < SHORT, "with lending: {got}");
        let world = World::new(false);
        world.run(bodies.to_vec());
        let got = world.got.load(SeqCst);
        assert!(got > HOG, "without lending: {got}");
    }

    fn high(&self) {
        self.machine.sleep(30);
        self.lock(0).unwrap();
        self.got.store(self.machine.now(), SeqCst);
        self.unlock(0);
    }
}

#[test]
fn one_lock() {
    World::bounded_with_lending_only(&[
        (LOW, |world| {
            world.lock(0).unwrap();
            world.machine.work(50);
            world.unlock(0);
        }),
        (MIDDLE, World::hog),
        (HIGH, World::high),
    ]);
}

#[test]
fn a_chain_of_three_locks() {
    World::bounded_with_lending_only(&[
        (LOW, |world| {
            world.lock(2).unwrap();
            world.machine.work(50);
            world.unlock(2);
        }),
        (LOW + 1, |world| {
            world.machine.sleep(5);
            world.lock(1).unwrap();
            world.lock(2).unwrap();
            world.unlock(2);
            world.unlock(1);
        }),
        (LOW + 2, |world| {
            world.machine.sleep(10);
            world.lock(0).unwrap();
            world.lock(1).unwrap();
            world.unlock(1);
            world.unlock(0);
        }),
        (MIDDLE, World::hog),
        (HIGH, World::high),
    ]);
}

/// Two readers, both less urgent than the hog; the high thread waits until both are gone.
#[test]
fn several_owners() {
    fn reader(world: &World, number: usize) {
        let address = Address::of(&world.readers);
        world.readers.fetch_add(1, SeqCst);
        world.table.locked(|table| {
            // SAFETY: not registered; lives in the world, which outlives the threads.
            unsafe { table.hold(&world.holds[number], address, world.me(), 0) }.unwrap();
        });
        world.machine.work(30);
        world.table.locked(|table| {
            // SAFETY: used with this table only.
            assert!(unsafe { table.release(&world.holds[number]) });
            if world.readers.fetch_sub(1, SeqCst) == 1 {
                table.wake(address, Queue::Shared, usize::MAX);
            }
        });
        world.machine.point();
    }
    World::bounded_with_lending_only(&[
        (LOW, |world| reader(world, 0)),
        (LOW + 1, |world| {
            world.machine.sleep(5);
            reader(world, 1);
        }),
        (MIDDLE, World::hog),
        (HIGH, |world| {
            world.machine.sleep(25);
            let ending = world.table.block(Address::of(&world.readers), Queue::Shared, 0, |_| {
                if world.readers.load(SeqCst) == 0 { Decision::Proceed } else { Decision::Wait }
            });
            assert_eq!(ending, Ok(Ending::Woken));
            world.got.store(world.machine.now(), SeqCst);
        }),
    ]);
}

/// What the low thread, which owns the lock for long, is lent over time; threads after it do things to it.
fn observed(bodies: &[Body]) -> Vec<Option<u8>> {
    let mut all: Vec<Body> = vec![(LOW, |world| {
        world.lock(0).unwrap();
        for _ in 0..4 {
            world.machine.sleep(100);
            let lent = world.machine.loan(world.me());
            world.seen.lock().unwrap().push(lent.map(Priority::level));
        }
        world.unlock(0);
    })];
    all.extend_from_slice(bodies);
    let world = World::new(true);
    world.run(all);
    let seen = world.seen.lock().unwrap();
    seen.clone()
}

#[test]
fn a_time_out_takes_its_lending_back() {
    let seen = observed(&[
        (HIGH, |world| {
            world.machine.sleep(10);
            let address = Address::of(&world.locks[0]);
            let ending = world.table.block_until(address, Queue::Exclusive, 0, 150, |_| world.decide(0));
            assert_eq!(ending, Ok(Ending::TimedOut));
            assert_eq!(world.table.statistics().time_outs, 1);
        }),
        (MIDDLE, |world| {
            world.machine.sleep(20);
            world.lock(0).unwrap();
            world.unlock(0);
        }),
    ]);
    assert_eq!(seen, [Some(HIGH), Some(MIDDLE), Some(MIDDLE), Some(MIDDLE)]);
}

#[test]
fn cancelling_takes_its_lending_back() {
    let seen = observed(&[
        (HIGH, |world| {
            world.machine.sleep(10);
            let address = Address::of(&world.locks[0]);
            let ending = world.table.block(address, Queue::Exclusive, 0, |_| world.decide(0));
            assert_eq!(ending, Ok(Ending::Cancelled));
        }),
        (MIDDLE, |world| {
            world.machine.sleep(250);
            let waiting =
                world.table.locked(|table| table.first(Address::of(&world.locks[0]), Queue::Exclusive));
            assert!(world.table.cancel(waiting.unwrap().thread));
        }),
    ]);
    assert_eq!(seen, [Some(HIGH), Some(HIGH), None, None]);
}

#[test]
fn priorities_change_and_owners_disown_while_somebody_waits() {
    let seen = observed(&[
        (HIGH, |world| {
            world.machine.sleep(10);
            world.lock(0).unwrap();
            world.unlock(0);
        }),
        (HIGH + 10, |world| {
            world.machine.sleep(150);
            let address = Address::of(&world.locks[0]);
            let waiting = world.table.locked(|table| table.first(address, Queue::Exclusive)).unwrap();
            world.machine.set_own_priority(waiting.thread, Priority::new(HIGH - 5));
            world.table.priority_changed(waiting.thread);
            world.machine.sleep(100);
            world.table.disown(address);
            world.machine.sleep(100);
            let owner = ThreadId::new(world.locks[0].load(SeqCst).try_into().unwrap());
            world.table.claim(address, owner).unwrap();
        }),
    ]);
    assert_eq!(seen, [Some(HIGH), Some(HIGH - 5), None, Some(HIGH - 5)]);
}

#[test]
fn a_deadlock_is_reported_and_can_be_left() {
    let world = World::new(true);
    world.run(vec![
        (LOW, |world| {
            world.lock(0).unwrap();
            world.machine.sleep(20);
            world.lock(1).unwrap();
            world.unlock(1);
            world.unlock(0);
        }),
        (HIGH, |world| {
            world.machine.sleep(10);
            world.lock(1).unwrap();
            world.machine.sleep(30);
            let deadlock = world.lock(0).unwrap_err();
            let links: Vec<_> = deadlock.links().collect();
            assert_eq!(deadlock.length(), 2);
            assert_eq!((links[0].thread, links[0].address), (world.me(), Address::of(&world.locks[0])));
            assert_eq!(links[1].address, Address::of(&world.locks[1]));
            assert!(deadlock.to_string().starts_with("deadlock of 2 threads"));
            world.unlock(1);
            world.lock(0).unwrap();
            world.unlock(0);
            assert_eq!(world.table.statistics().deadlocks, 1);
        }),
    ]);
}
