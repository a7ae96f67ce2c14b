//! Random steps on the table and on the model, compared after each.

use core::cell::{Cell, RefCell};
use core::num::NonZeroUsize;
use std::boxed::Box;
use std::vec::Vec;

use proptest::prelude::*;

use super::model::{Model, Share, Wait};
use crate::lending::node::Waiter;
use crate::lending::{Edge, Ending, Hold, LendingScheduler, Link, Locked, PiTurnstiles};
use crate::{Address, Priority, Queue, RawParkingMutex, Scheduler, ThreadId};

const THREADS: usize = 7;
const ADDRESSES: usize = 4;
const TOKENS: u64 = 3;

fn thread(number: usize) -> ThreadId {
    ThreadId::new(NonZeroUsize::new(number + 1).unwrap())
}

fn number(thread: ThreadId) -> usize {
    thread.get().get() - 1
}

fn queue(shared: bool) -> Queue {
    if shared { Queue::Shared } else { Queue::Exclusive }
}

/// Writes down what it is told. Used from one thread only.
#[derive(Default)]
struct Ledger {
    own: RefCell<Vec<u8>>,
    lent: RefCell<Vec<Option<u8>>>,
    unparked: RefCell<Vec<usize>>,
    current: Cell<usize>,
}

// SAFETY: the tests of this file use it from one thread.
unsafe impl Sync for Ledger {}

// SAFETY: no two threads call it, and the test says which one is current. Nothing calls a table.
unsafe impl Scheduler for Ledger {
    type RawLock = RawParkingMutex;

    fn current(&self) -> ThreadId {
        thread(self.current.get())
    }

    fn priority(&self, of: ThreadId) -> Priority {
        let lent = self.lent.borrow()[number(of)].unwrap_or(0);
        self.own_priority(of).max(Priority::new(lent))
    }

    fn park(&self) {
        unreachable!("the test enrols waiters itself");
    }

    fn unpark(&self, thread: ThreadId) {
        self.unparked.borrow_mut().push(number(thread));
    }
}

// SAFETY: as above.
unsafe impl LendingScheduler for Ledger {
    fn own_priority(&self, of: ThreadId) -> Priority {
        Priority::new(self.own.borrow()[number(of)])
    }

    fn lend(&self, to: ThreadId, priority: Priority) {
        self.lent.borrow_mut()[number(to)] = Some(priority.level());
    }

    fn unlend(&self, to: ThreadId) {
        self.lent.borrow_mut()[number(to)] = None;
    }
}

#[derive(Clone, Debug)]
enum Step {
    Block { thread: usize, address: usize, shared: bool, token: u64, owner: Option<usize> },
    Wake { address: usize, shared: bool, limit: usize, least_token: u64 },
    Claim { address: usize, owner: Option<usize> },
    Hold { name: usize, owner: usize, address: usize, level: u64 },
    Release { name: usize },
    Cancel { thread: usize },
    TimeOut { thread: usize },
    Priority { thread: usize, own: u8 },
}

fn step() -> impl Strategy<Value = Step> {
    let (threads, addresses) = (0..THREADS, 0..ADDRESSES);
    prop_oneof![
        6 => (threads.clone(), addresses.clone(), any::<bool>(), 0..TOKENS, proptest::option::weighted(0.8, threads.clone()))
            .prop_map(|(thread, address, shared, token, owner)| Step::Block { thread, address, shared, token, owner }),
        1 => (addresses.clone(), any::<bool>(), 1..3_usize, 0..TOKENS)
            .prop_map(|(address, shared, limit, least_token)| Step::Wake { address, shared, limit, least_token }),
        1 => (addresses.clone(), proptest::option::of(threads.clone()))
            .prop_map(|(address, owner)| Step::Claim { address, owner }),
        2 => (0..6_usize, threads.clone(), addresses, 0..TOKENS)
            .prop_map(|(name, owner, address, level)| Step::Hold { name, owner, address, level }),
        1 => (0..6_usize).prop_map(|name| Step::Release { name }),
        1 => threads.clone().prop_map(|thread| Step::Cancel { thread }),
        1 => threads.clone().prop_map(|thread| Step::TimeOut { thread }),
        2 => (threads, 0..6_u8).prop_map(|(thread, own)| Step::Priority { thread, own }),
    ]
}

type Table<const CHAINS: usize> = PiTurnstiles<Ledger, CHAINS>;

#[expect(clippy::vec_box, reason = "linked waiters must not move when the vector grows")]
struct Machine<const CHAINS: usize> {
    table: Table<CHAINS>,
    waiters: Vec<Box<Waiter>>,
    holds: [Box<Hold>; 6],
    model: Model,
}

impl<const CHAINS: usize> Machine<CHAINS> {
    fn new() -> Self {
        let table = Table::<CHAINS>::default();
        *table.scheduler().own.borrow_mut() = std::vec![0; THREADS];
        *table.scheduler().lent.borrow_mut() = std::vec![None; THREADS];
        let model = Model { own: std::vec![0; THREADS], waits: Vec::new(), shares: Vec::new(), arrivals: 0 };
        Self { table, waiters: Vec::new(), holds: core::array::from_fn(|_| Box::default()), model }
    }

    fn remove(&mut self, thread: usize, ending: Option<Ending>) {
        let place = self.waiters.iter().position(|waiter| number(waiter.thread) == thread).unwrap();
        assert_eq!(self.waiters.remove(place).ended(), ending);
        self.model.waits.retain(|wait| wait.thread != thread);
    }

    /// What `block` does up to parking.
    fn enrol(
        table: &mut Locked<'_, Ledger, CHAINS>,
        waiter: &Waiter,
    ) -> Result<(), crate::lending::Deadlock> {
        for owner in table.graph.owners(waiter) {
            let closing = Link { thread: waiter.thread, address: waiter.address };
            table.graph.refuse_cycle(owner, |reached| (reached == waiter.thread).then_some(closing))?;
        }
        // SAFETY: new, and boxed until it has been taken off.
        unsafe { table.graph.enrol(table.scheduler, waiter) };
        Ok(())
    }

    fn check_cycle(&self, deadlock: &crate::lending::Deadlock, last: impl Fn(usize) -> bool) {
        let links: Vec<_> = deadlock.links().collect();
        assert_eq!(links.len(), deadlock.length().min(7));
        for pair in links.windows(2).skip(1) {
            let wait = self.model.wait_of(number(pair[0].thread)).unwrap();
            assert_eq!(Address::new(wait.address), pair[0].address);
            assert!(self.model.owners(wait).contains(&number(pair[1].thread)));
        }
        if let (Some(end), true) = (links.get(1..).and_then(<[_]>::last), links.len() == deadlock.length()) {
            let wait = self.model.wait_of(number(end.thread)).unwrap();
            assert!(self.model.owners(wait).into_iter().any(last));
        }
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Block { thread: who, address, shared, token, owner } => {
                if self.model.wait_of(who).is_some() {
                    return;
                }
                let wait = Wait { thread: who, address, shared, token, owner, arrival: self.model.arrivals };
                let expected =
                    self.model.owners(&wait).into_iter().any(|owner| self.model.reaches(owner, who));
                let waiter = Box::new(Waiter::new(Address::new(address), queue(shared), token, thread(who)));
                waiter.owner.set(owner.map(thread));
                match self.table.locked(|table| Self::enrol(table, &waiter)) {
                    Ok(()) => {
                        assert!(!expected);
                        self.model.arrivals += 1;
                        self.model.waits.push(wait);
                        self.waiters.push(waiter);
                    }
                    Err(deadlock) => {
                        assert!(expected);
                        assert_eq!(deadlock.links().next().unwrap().thread, thread(who));
                        self.check_cycle(&deadlock, |owner| owner == who);
                    }
                }
            }
            Step::Wake { address, shared, limit, least_token } => {
                let waits = self.model.queue(address, shared);
                // Those taken off first change the priorities of those behind, if they lent to them: the model goes
                // one by one too.
                let mut order = Vec::new();
                let mut model = self.model.clone();
                while order.len() < limit {
                    let next =
                        model.queue(address, shared).into_iter().find(|wait| wait.token >= least_token);
                    let Some(next) = next else { break };
                    order.push(next.thread);
                    model.waits.retain(|wait| wait.thread != next.thread);
                }
                self.table.scheduler().unparked.borrow_mut().clear();
                let woken = self.table.locked(|table| {
                    table.wake_where(Address::new(address), queue(shared), limit, |waiting| {
                        waiting.token >= least_token
                    })
                });
                assert_eq!(woken.count, order.len());
                assert_eq!(woken.remaining, waits.len() > order.len());
                assert_eq!(*self.table.scheduler().unparked.borrow(), order);
                for thread in order {
                    self.remove(thread, Some(Ending::Woken));
                }
            }
            Step::Claim { address, owner } => {
                let waiting: Vec<_> = self
                    .model
                    .waits
                    .iter()
                    .filter(|wait| wait.address == address)
                    .map(|wait| wait.thread)
                    .collect();
                let cycle = owner
                    .is_some_and(|owner| waiting.iter().any(|waiter| self.model.reaches(owner, *waiter)));
                match self.table.locked(|table| table.claim(Address::new(address), owner.map(thread))) {
                    Ok(()) => {
                        assert!(!cycle);
                        for wait in self.model.waits.iter_mut().filter(|wait| wait.address == address) {
                            wait.owner = owner;
                        }
                    }
                    Err(deadlock) => {
                        assert!(cycle);
                        self.check_cycle(&deadlock, |end| waiting.contains(&end));
                    }
                }
            }
            Step::Hold { name, owner, address, level } => {
                if self.model.shares.iter().any(|share| share.name == name) {
                    return;
                }
                let waiting: Vec<_> = self
                    .model
                    .waits
                    .iter()
                    .filter(|wait| wait.address == address && wait.token >= level)
                    .map(|wait| wait.thread)
                    .collect();
                let cycle = waiting.iter().any(|waiter| self.model.reaches(owner, *waiter));
                let held = self.table.locked(|table| {
                    // SAFETY: not registered, says the model; boxed for the machine's life.
                    unsafe { table.hold(&self.holds[name], Address::new(address), thread(owner), level) }
                });
                assert_eq!(held.is_err(), cycle);
                if !cycle {
                    self.model.shares.push(Share { name, owner, address, level });
                }
            }
            Step::Release { name } => {
                let known = self.model.shares.iter().any(|share| share.name == name);
                // SAFETY: the hold is used with this table only.
                let released = self.table.locked(|table| unsafe { table.release(&self.holds[name]) });
                assert_eq!(released, known);
                self.model.shares.retain(|share| share.name != name);
            }
            Step::Cancel { thread: who } => {
                let waits = self.model.wait_of(who).is_some();
                assert_eq!(self.table.cancel(thread(who)), waits);
                if waits {
                    self.remove(who, Some(Ending::Cancelled));
                }
            }
            Step::TimeOut { thread: who } => {
                let Some(waiter) = self.waiters.iter().find(|waiter| number(waiter.thread) == who) else {
                    return;
                };
                let enrolled = crate::lending::Enrolled { table: &self.table, waiter };
                assert!(enrolled.withdraw(|_| {}));
                core::mem::forget(enrolled);
                self.remove(who, None);
            }
            Step::Priority { thread: who, own } => {
                self.model.own[who] = own;
                self.table.scheduler().own.borrow_mut()[who] = own;
                self.table.priority_changed(thread(who));
            }
        }
        self.check();
    }

    /// INV-L-2 to INV-L-4, and that introspection tells the truth.
    fn check(&self) {
        for who in 0..THREADS {
            assert_eq!(self.table.scheduler().lent.borrow()[who], self.model.loan(who), "loan of {who}");
        }
        for address in 0..ADDRESSES {
            for shared in [false, true] {
                let expected: Vec<_> =
                    self.model.queue(address, shared).into_iter().map(|wait| wait.thread).collect();
                let found: Vec<_> = self.table.locked(|table| {
                    table
                        .graph
                        .waiters(Address::new(address))
                        .filter(|waiter| waiter.queue == queue(shared))
                        .map(|waiter| number(waiter.thread))
                        .collect()
                });
                assert_eq!(found, expected, "queue of {address}");
            }
        }
        let nothing = Edge {
            thread: thread(0),
            address: Address::new(0),
            queue: Queue::Shared,
            token: 0,
            priority: Priority::LOWEST,
            owner: None,
            depth: 0,
        };
        let mut room = [nothing; 100];
        let all = self.table.edges(&mut room);
        for edge in &room[..all] {
            let wait = self.model.wait_of(number(edge.thread)).unwrap();
            assert_eq!(edge.priority.level(), self.model.effective(wait.thread));
            match edge.owner {
                Some(owner) => assert!(self.model.owners(wait).contains(&number(owner))),
                None => assert!(self.model.owners(wait).is_empty()),
            }
        }
        let blocked = |room: &[Edge]| {
            let mut threads: Vec<_> = room.iter().map(|edge| number(edge.thread)).collect();
            threads.sort_unstable();
            threads.dedup();
            threads
        };
        assert_eq!(blocked(&room[..all]).len(), self.model.waits.len());
        for who in 0..THREADS {
            let count = self.table.chain_of(thread(who), &mut room);
            let expected: Vec<_> = (0..THREADS)
                .filter(|other| self.model.wait_of(*other).is_some() && self.model.reaches(who, *other))
                .collect();
            assert_eq!(blocked(&room[..count]), expected, "chain of {who}");
            let count = self.table.tree_of(thread(who), &mut room);
            let expected: Vec<_> =
                (0..THREADS).filter(|other| *other != who && self.model.reaches(*other, who)).collect();
            assert_eq!(blocked(&room[..count]), expected, "tree of {who}");
        }
    }
}

impl<const CHAINS: usize> Drop for Machine<CHAINS> {
    fn drop(&mut self) {
        // A failing test may leave records linked: they must not be walked again, and are not.
        if std::thread::panicking() {
            for waiter in self.waiters.drain(..) {
                core::mem::forget(waiter);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn lending_is_the_maximum_over_what_remains(steps in proptest::collection::vec(step(), 1..120)) {
        let mut machine = Machine::<3>::new();
        for step in steps {
            machine.apply(step);
        }
    }

    /// Everything in one bucket: what is looked up must be told apart by more than the bucket.
    #[test]
    fn the_same_in_one_bucket(steps in proptest::collection::vec(step(), 1..120)) {
        let mut machine = Machine::<1>::new();
        for step in steps {
            machine.apply(step);
        }
    }
}

fn block(thread: usize, address: usize, owner: usize) -> Step {
    Step::Block { thread, address, shared: false, token: 0, owner: Some(owner) }
}

/// A second lock's release must not drop a boost that the first still needs.
#[test]
fn locks_released_in_any_order() {
    for order in [[0, 1], [1, 0]] {
        let mut machine = Machine::<4>::new();
        for (thread, own) in [(0, 1), (1, 3), (2, 5)] {
            machine.apply(Step::Priority { thread, own });
        }
        // Thread 0 owns addresses 0 and 1; thread 1 waits for the first, thread 2 for the second.
        machine.apply(block(1, 0, 0));
        machine.apply(block(2, 1, 0));
        assert_eq!(machine.table.scheduler().priority(thread(0)), Priority::new(5));
        machine.apply(Step::Wake { address: order[0], shared: false, limit: 1, least_token: 0 });
        let left = if order[0] == 0 { 5 } else { 3 };
        assert_eq!(machine.table.scheduler().priority(thread(0)), Priority::new(left));
        machine.apply(Step::Wake { address: order[1], shared: false, limit: 1, least_token: 0 });
        assert_eq!(machine.table.scheduler().priority(thread(0)), Priority::new(1));
    }
}

/// Longer than a report has room for.
#[test]
fn a_long_cycle_is_reported_with_its_length() {
    const LONG: usize = 40;
    let table = Table::<8>::default();
    *table.scheduler().own.borrow_mut() = std::vec![1; LONG];
    *table.scheduler().lent.borrow_mut() = std::vec![None; LONG];
    let waiters: Vec<_> = (0..LONG)
        .map(|who| {
            let waiter = Box::new(Waiter::new(Address::new(who), Queue::Exclusive, 0, thread(who)));
            waiter.owner.set(Some(thread((who + 1) % LONG)));
            waiter
        })
        .collect();
    table.locked(|table| {
        for waiter in &waiters[..LONG - 1] {
            Machine::enrol(table, waiter).unwrap();
        }
        let deadlock = Machine::enrol(table, &waiters[LONG - 1]).unwrap_err();
        assert_eq!(deadlock.length(), LONG);
        assert_eq!(number(deadlock.links().next().unwrap().thread), LONG - 1);
        assert_eq!(deadlock.links().count(), 7);
    });
    // The loan travels the whole chain, and back.
    table.scheduler().own.borrow_mut()[0] = 200;
    table.priority_changed(thread(0));
    assert_eq!(table.scheduler().priority(thread(LONG - 1)), Priority::new(200));
    table.scheduler().own.borrow_mut()[0] = 1;
    table.priority_changed(thread(0));
    assert_eq!(table.scheduler().priority(thread(LONG - 1)), Priority::new(1));
    for who in 0..LONG - 1 {
        assert!(table.cancel(thread(who)));
    }
}
