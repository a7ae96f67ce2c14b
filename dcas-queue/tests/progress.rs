//! What a thread that stops for ever costs the others, in steps: the queue, the published algorithm, and a mutex.
//!
//! A victim is stopped before each of its steps, and while it stands there others run many sections; here on one
//! thread, inside the victim's hook, so the count is exact and the same on every machine and under any load. The
//! others' rate is sections per atomic step. It is compared with the same queue in which the victim is at rest: idle or, where its section
//! is open, in an open section. `examples/progress.rs` shows the same in time, with threads.
//!
//! What this cannot see: the cost of a step. A stopped thread's cache lines are as warm as anybody's.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::Mutex;

use dcas_queue::{Entry, Node, Observer, Operation, Queue, Step};

#[path = "published/mod.rs"]
#[expect(unreachable_pub, reason = "an example includes the module too")]
mod published;

use published::{GaveUp, Hook, Point, Published};

const ONE: NonZeroU64 = NonZeroU64::MIN;
const ROUNDS: u64 = 200;

/// Counts steps.
#[derive(Default)]
struct Count(Cell<u64>);

impl Observer for Count {
    fn step(&self, _: Step) {
        self.0.set(self.0.get() + 1);
    }

    fn backoff(&self, pauses: u32) {
        // A pause is time lost as well.
        self.0.set(self.0.get() + u64::from(pauses));
    }
}

/// The others: two sections that overlap, again and again. Returns the steps that it took.
fn others(queue: &Queue, nodes: &[Node; 2]) -> u64 {
    let count = Count::default();
    let [a, b] = nodes;
    for _ in 0..ROUNDS {
        for node in [a, b] {
            // SAFETY: nodes and queue live to the end of the test; one thread; idle. The same below.
            unsafe { queue.append(node, ONE, &count) }.expect("small");
        }
        for node in [a, b] {
            // SAFETY: as above; in the queue.
            unsafe { queue.remove(node, &count) };
        }
    }
    count.0.get()
}

/// Runs a closure before the first occurrence of a step, which stands for being stopped there meanwhile.
struct StopAt<F> {
    step: Step,
    meanwhile: Cell<Option<F>>,
}

impl<F: FnOnce()> StopAt<F> {
    fn new(step: Step, meanwhile: F) -> Self {
        Self { step, meanwhile: Cell::new(Some(meanwhile)) }
    }
}

impl<F: FnOnce()> Observer for StopAt<F> {
    fn step(&self, step: Step) {
        if step == self.step
            && let Some(meanwhile) = self.meanwhile.take()
        {
            meanwhile();
        }
    }
}

/// Steps of the others while the victim stands before `step` of `operation`. As in `stopped_threads`, an open section and
/// a removal that stopped half-way are in its way.
fn stopped(step: Step, operation: Operation) -> u64 {
    let (queue, [open, half_way, victim]) = (Queue::new(0), [const { Node::new() }; 3]);
    let workers = [const { Node::new() }; 2];
    // SAFETY: as in `others`. The operations nest, but never on the same node. The same below.
    let append = |node| unsafe { queue.append(node, ONE, ()) }.expect("small");
    append(&open);
    append(&half_way);
    if operation == Operation::Remove {
        append(&victim);
    }
    let steps = Cell::new(None);
    let victim_runs = || {
        let obs = StopAt::new(step, || steps.set(Some(others(&queue, &workers))));
        match operation {
            // SAFETY: as above.
            Operation::Append => drop(unsafe { queue.append(&victim, ONE, &obs) }.expect("small")),
            // SAFETY: as above.
            Operation::Remove => drop(unsafe { queue.remove(&victim, &obs) }),
            // SAFETY: as above.
            Operation::CompleteRemovals => drop(unsafe { queue.complete_removals(&obs) }),
            // SAFETY: as above.
            Operation::Snapshot => drop(unsafe { queue.snapshot(&mut [Entry::default(); 8], &obs) }),
        }
    };
    // SAFETY: as above.
    unsafe { queue.remove(&half_way, &StopAt::new(Step::ReadOwnPayload, victim_runs)) };
    steps.get().unwrap_or_else(|| panic!("the scenario does not lead to {step:?} in {operation:?}"))
}

/// Steps of the others with as many open sections and nobody stopped.
fn at_rest(open: usize) -> u64 {
    let (queue, nodes, workers) = (Queue::new(0), [const { Node::new() }; 2], [const { Node::new() }; 2]);
    for node in &nodes[..open] {
        // SAFETY: as in `others`.
        unsafe { queue.append(node, ONE, ()) }.expect("small");
    }
    others(&queue, &workers)
}

#[test]
fn a_stopped_thread_costs_the_others_no_more_than_one_at_rest() {
    let append = [
        Step::ReadIdlePayload,
        Step::ReadHeadPayload,
        Step::ReadHeadLink,
        Step::ReadNextPayload,
        Step::ReadNextLink,
        Step::RecheckLink,
        Step::RecheckPayload,
        Step::ReadFrozenPayload,
        Step::Unlink,
        Step::PreparePayload,
        Step::PrepareLink,
        Step::LinkTail,
    ]
    .map(|step| (Operation::Append, step));
    let remove = [
        Step::Mark,
        Step::ReadOwnPayload,
        Step::ReadHeadPayload,
        Step::ReadHeadLink,
        Step::ReadNextPayload,
        Step::ReadNextLink,
        Step::RecheckLink,
        Step::RecheckPayload,
        Step::ReadFrozenPayload,
        Step::Unlink,
    ]
    .map(|step| (Operation::Remove, step));
    let complete = [
        Step::ReadHeadPayload,
        Step::ReadHeadLink,
        Step::ReadNextPayload,
        Step::ReadNextLink,
        Step::RecheckLink,
        Step::RecheckPayload,
        Step::ReadFrozenPayload,
        Step::Unlink,
    ]
    .map(|step| (Operation::CompleteRemovals, step));
    for (operation, step) in append.into_iter().chain(remove).chain(complete) {
        // Before its mark the victim's own section is open, and keeps its place in the queue.
        let rest = at_rest(if step == Step::Mark { 2 } else { 1 });
        let steps = stopped(step, operation);
        println!(
            "{operation:?} before {step:?}: {:.2} steps per section, {:.2} at rest: {:.1} % of the rate",
            steps as f64 / (2 * ROUNDS) as f64,
            rest as f64 / (2 * ROUNDS) as f64,
            100.0 * rest as f64 / steps as f64
        );
        assert!(rest * 100 >= steps * 80, "{operation:?} before {step:?}: {steps} steps, {rest} at rest");
    }
}

/// After so many attempts it is agreed that somebody is held up.
const ATTEMPTS: u32 = 10_000;

/// A thread of the published algorithm that gives up at last.
#[derive(Default)]
struct Persistent(Cell<u32>);

impl Hook for Persistent {
    fn at(&self, _: Point) {}

    fn again(&self) -> bool {
        self.0.set(self.0.get() + 1);
        self.0.get() < ATTEMPTS
    }
}

/// Runs a closure at a point.
struct PublishedStop<F>(Point, Cell<Option<F>>);

impl<F: FnOnce()> Hook for PublishedStop<F> {
    fn at(&self, point: Point) {
        if point == self.0
            && let Some(meanwhile) = self.1.take()
        {
            meanwhile();
        }
    }

    fn again(&self) -> bool {
        true
    }
}

/// Sections that others complete while a victim stands at `point` of the published algorithm.
fn published_others(point: Point) -> u64 {
    let list = Published::new(3);
    let completed = Cell::new(None);
    let victim = PublishedStop(
        point,
        Cell::new(Some(|| {
            let mut sections = 0;
            for _ in 0..ROUNDS {
                let section = || -> Result<(), GaveUp> {
                    list.begin(2, &Persistent::default())?;
                    list.begin(3, &Persistent::default())?;
                    list.finish(2, &Persistent::default())?;
                    list.finish(3, &Persistent::default())
                };
                if section().is_err() {
                    break;
                }
                sections += 1;
            }
            completed.set(Some(sections));
        })),
    );
    list.begin(1, &victim).expect("nobody else is stopped");
    list.finish(1, &victim).expect("nobody else is stopped");
    completed.get().expect("every section comes by every point")
}

/// The counter-proof: where the bit is set and its owner stands still, everybody stands still.
#[test]
fn the_published_algorithm_stops_with_a_thread_between_its_steps() {
    for point in Point::ALL {
        let sections = published_others(point);
        let stops = matches!(point, Point::Validate | Point::ReadPredecessor | Point::Unlink);
        println!("published, {point:?}: {sections} of {ROUNDS} rounds");
        assert_eq!(sections, if stops { 0 } else { ROUNDS }, "{point:?}");
    }
}

/// It also works, otherwise its stopping would say nothing.
#[test]
fn the_published_algorithm_keeps_the_watermark() {
    let (list, hook) = (Published::new(3), Persistent::default());
    assert_eq!((1..=3).map(|n| list.begin(n, &hook).expect("alone")).collect::<Vec<_>>(), [1, 2, 3]);
    for (n, watermark) in [(2, 0), (1, 2), (3, 3)] {
        list.finish(n, &hook).expect("alone");
        assert_eq!(list.watermark(), watermark);
    }
    assert_eq!(list.begin(2, &hook).expect("alone"), 4);
}

/// And a mutex, of course.
#[test]
fn a_mutex_stops_with_its_holder() {
    let open = Mutex::new(std::collections::BTreeSet::from([1_u64]));
    let _stopped = open.lock().expect("free");
    assert!((0..ATTEMPTS).all(|_| open.try_lock().is_err()));
}
