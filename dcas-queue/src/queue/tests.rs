//! One thread: what each operation promises, and its edges. Concurrency is tested in `tests/`.

use core::cell::{Cell, RefCell};
use core::num::NonZeroU64;
use std::vec;
use std::vec::Vec;

use crate::{Entry, Node, Observer, Operation, Overflow, Queue, Removed, Snapshot, Step};

const ONE: NonZeroU64 = NonZeroU64::MIN;

fn step(n: u64) -> NonZeroU64 {
    NonZeroU64::new(n).expect("not zero")
}

/// Appends for tests whose nodes outlive their queue's last operation and belong to it alone.
fn append(queue: &Queue, node: &Node, n: u64) -> Result<u64, Overflow> {
    // SAFETY: as said; one thread.
    unsafe { queue.append(node, step(n), ()) }
}

fn remove(queue: &Queue, node: &Node) -> Removed {
    // SAFETY: as for `append`.
    unsafe { queue.remove(node, ()) }
}

fn snapshot(queue: &Queue, out: &mut [Entry]) -> Snapshot {
    // SAFETY: as for `append`.
    unsafe { queue.snapshot(out, &()) }
}

#[test]
fn payloads_count_from_the_watermark_in_steps() {
    let (queue, a, b) = (Queue::new(10), Node::new(), Node::new());
    assert!(queue.is_empty() && a.is_marked());
    assert_eq!(append(&queue, &a, 1), Ok(11));
    assert_eq!(append(&queue, &b, 5), Ok(16));
    assert!(!queue.is_empty() && !a.is_marked());
    assert_eq!((a.payload(), b.payload(), queue.watermark()), (11, 16, 10));
}

#[test]
fn removal_out_of_order_holds_the_watermark_back() {
    let (queue, [a, b, c]) = (Queue::new(0), [const { Node::new() }; 3]);
    for node in [&a, &b, &c] {
        append(&queue, node, 1).expect("small");
    }
    assert_eq!(remove(&queue, &b), Removed { payload: 2, watermark_advanced: false, helped: false });
    assert_eq!((queue.watermark(), a.payload()), (0, 2), "donated to the predecessor");
    assert_eq!(remove(&queue, &a), Removed { payload: 2, watermark_advanced: true, helped: false });
    assert_eq!(queue.watermark(), 2);
    assert_eq!(remove(&queue, &c), Removed { payload: 3, watermark_advanced: true, helped: false });
    assert_eq!(queue.watermark(), 3);
    assert!(queue.is_empty());
}

#[test]
fn removing_the_tail_keeps_the_largest_payload() {
    let (queue, a, b) = (Queue::new(0), Node::new(), Node::new());
    append(&queue, &a, 1).expect("small");
    append(&queue, &b, 1).expect("small");
    remove(&queue, &b);
    assert_eq!(append(&queue, &b, 1), Ok(3), "not 2 again");
    remove(&queue, &b);
    remove(&queue, &a);
    assert_eq!((queue.watermark(), append(&queue, &a, 1)), (3, Ok(4)));
}

#[test]
fn overflow_is_an_error_and_leaves_the_node_idle() {
    let (queue, node) = (Queue::new(u64::MAX - 3), Node::new());
    let error = append(&queue, &node, 4).expect_err("one too many");
    assert_eq!(error, Overflow { tail: u64::MAX - 3, step: step(4) });
    assert!(std::format!("{error}").contains("smaller steps"));
    assert!(node.is_marked() && queue.is_empty());
    assert_eq!(append(&queue, &node, 3), Ok(u64::MAX), "the last payload is usable");
    assert!(remove(&queue, &node).watermark_advanced);
    append(&queue, &node, 1).expect_err("exhausted for good");
}

/// Runs a closure before the `at`-th step of a kind: a single-threaded stand-in for another thread.
struct Intruder<F> {
    at: RefCell<Option<(Step, F)>>,
    seen: RefCell<Vec<Step>>,
    restarts: RefCell<Vec<Operation>>,
}

impl<F: FnOnce()> Intruder<F> {
    fn before(step: Step, act: F) -> Self {
        let (at, seen, restarts) = Default::default();
        let intruder = Self { at, seen, restarts };
        *intruder.at.borrow_mut() = Some((step, act));
        intruder
    }
}

impl<F: FnOnce()> Observer for Intruder<F> {
    fn step(&self, step: Step) {
        self.seen.borrow_mut().push(step);
        let act = self.at.borrow_mut().take_if(|(at, _)| *at == step);
        if let Some((_, act)) = act {
            act();
        }
    }

    fn restarted(&self, operation: Operation) {
        self.restarts.borrow_mut().push(operation);
    }
}

#[test]
fn a_lost_race_for_the_tail_restarts_and_then_exhausts_cleanly() {
    let (queue, ours, theirs) = (Queue::new(u64::MAX - 1), Node::new(), Node::new());
    let rival = Intruder::before(Step::LinkTail, || {
        append(&queue, &theirs, 1).expect("the last payload");
    });
    // SAFETY: nodes and queue live to the end of the test; the operations nest but never on the same node.
    let result = unsafe { queue.append(&ours, ONE, &rival) };
    assert_eq!(result, Err(Overflow { tail: u64::MAX, step: ONE }));
    assert!(ours.is_marked(), "retracted: idle again");
    assert_eq!(*rival.restarts.borrow(), vec![Operation::Append]);
    assert_eq!(rival.seen.borrow().last_chunk(), Some(&[Step::RetractLink, Step::RetractPayload]));
    remove(&queue, &theirs);
    assert_eq!(queue.watermark(), u64::MAX);
}

/// Found by fuzzing: the payload that a failed append prepared stayed in the node, above anything that smaller steps
/// could derive, and the next append restarted for ever.
#[test]
fn a_node_whose_append_overflowed_takes_smaller_steps() {
    let (queue, ours, theirs) = (Queue::new(u64::MAX - 4), Node::new(), Node::new());
    let rival = Intruder::before(Step::LinkTail, || {
        assert_eq!(append(&queue, &theirs, 2), Ok(u64::MAX - 2));
    });
    // It prepares MAX - 1, loses the race, and then there is no room for 3.
    // SAFETY: as above.
    unsafe { queue.append(&ours, step(3), &rival) }.expect_err("one too many");
    assert_eq!(ours.payload(), 0, "as it was");
    assert_eq!(append(&queue, &ours, 1), Ok(u64::MAX - 1));
}

/// The payload of a failed attempt may come again: the tail is removed between attempt and retry.
#[test]
fn a_failed_attempts_payload_may_be_issued_later() {
    let (queue, a, b) = (Queue::new(0), Node::new(), Node::new());
    append(&queue, &a, 1).expect("small");
    let rival = Intruder::before(Step::LinkTail, || {
        remove(&queue, &a);
    });
    // SAFETY: as above.
    let result = unsafe { queue.append(&b, ONE, &rival) };
    assert_eq!(result, Ok(2));
    assert_eq!(*rival.restarts.borrow(), vec![Operation::Append]);
    let prepared = rival.seen.borrow().iter().filter(|&&s| s == Step::PreparePayload).count();
    assert_eq!(prepared, 1, "the same value needs no second store");
}

#[test]
fn a_walk_that_meets_a_marked_node_finishes_its_removal() {
    let (queue, [a, b, c]) = (Queue::new(0), [const { Node::new() }; 3]);
    append(&queue, &a, 1).expect("small");
    append(&queue, &b, 1).expect("small");
    // Another thread appends while the removal of `a` stands between mark and unlink.
    let helper = Intruder::before(Step::ReadHeadPayload, || {
        assert_eq!(append(&queue, &c, 1), Ok(3));
        assert_eq!(queue.watermark(), 1, "the append finished the removal");
    });
    // SAFETY: as above.
    let removed = unsafe { queue.remove(&a, &helper) };
    assert_eq!(removed, Removed { payload: 1, watermark_advanced: false, helped: true });
    // `complete_removals` does the same.
    let helper = Intruder::before(Step::ReadHeadPayload, || {
        // SAFETY: as above.
        assert!(unsafe { queue.complete_removals(()) });
        assert_eq!(queue.watermark(), 2);
        // SAFETY: as above.
        assert!(!unsafe { queue.complete_removals(()) }, "nothing left");
    });
    // SAFETY: as above.
    assert!(unsafe { queue.remove(&b, &helper) }.helped);
}

#[test]
fn donation_is_read_after_the_mark() {
    let (queue, a, b) = (Queue::new(0), Node::new(), Node::new());
    append(&queue, &a, 1).expect("small");
    append(&queue, &b, 1).expect("small");
    // `b` donates to `a` at the last moment before `a`'s mark.
    let rival = Intruder::before(Step::Mark, || {
        remove(&queue, &b);
    });
    // SAFETY: as above.
    assert_eq!(unsafe { queue.remove(&a, &rival) }.payload, 2);
    assert_eq!(queue.watermark(), 2);
}

/// Counts what the hook tells.
#[derive(Default)]
struct Advances(RefCell<Vec<u64>>);

impl Observer for Advances {
    fn watermark_advanced(&self, watermark: u64) {
        self.0.borrow_mut().push(watermark);
    }
}

#[test]
fn the_observer_hears_of_every_advance() {
    let (queue, a, b) = (Queue::new(0), Node::new(), Node::new());
    let advances = Advances::default();
    append(&queue, &a, 3).expect("small");
    append(&queue, &b, 4).expect("small");
    for node in [&b, &a] {
        // SAFETY: as above.
        unsafe { queue.remove(node, &advances) };
    }
    assert_eq!(*advances.0.borrow(), vec![7]);
}

/// Collects the open nodes that a walk meets.
#[derive(Default)]
struct Open(RefCell<Vec<(usize, u64)>>);

impl Observer for Open {
    fn open_node(&self, node: usize, predecessor: u64) {
        self.0.borrow_mut().push((node, predecessor));
    }
}

/// Adds up what walks met.
#[derive(Default)]
struct Walked(Cell<u64>);

impl Observer for Walked {
    fn walked(&self, nodes: u64) {
        self.0.set(self.0.get() + nodes);
    }
}

#[test]
fn a_walk_meets_the_open_nodes_behind_payloads_that_stay() {
    let (queue, nodes) = (Queue::new(5), [const { Node::new() }; 5]);
    for node in &nodes {
        append(&queue, node, 2).expect("small");
    }
    let open = || {
        let open = Open::default();
        // SAFETY: as for `append`.
        unsafe { queue.complete_removals(&open) };
        open.0.into_inner()
    };
    let expected = |which: &[usize]| -> Vec<_> {
        which.iter().map(|&at| (nodes[at].address(), 5 + 2 * at as u64)).collect()
    };
    assert_eq!(open(), expected(&[0, 1, 2, 3, 4]));
    // Marked and still linked: not open, and the walk completes its removal.
    nodes[2].pair.mark();
    assert_eq!(open(), expected(&[0, 1, 3, 4]));
    assert_eq!(nodes[1].payload(), 11, "grown by the donation");
    remove(&queue, &nodes[0]);
    assert_eq!(open(), expected(&[1, 3, 4]));
    remove(&queue, &nodes[4]);
    remove(&queue, &nodes[1]);
    assert_eq!(open(), expected(&[3]));
    remove(&queue, &nodes[3]);
    assert_eq!(open(), []);
}

#[test]
fn the_observer_hears_how_many_nodes_were_met() {
    let (queue, [a, b, c]) = (Queue::new(0), [const { Node::new() }; 3]);
    let walked = Walked::default();
    for (node, met) in [(&a, 0), (&b, 1), (&c, 2)] {
        // SAFETY: as above.
        unsafe { queue.append(node, ONE, &walked) }.expect("small");
        assert_eq!(walked.0.take(), met);
    }
    for (node, met) in [(&c, 2), (&a, 0), (&b, 0)] {
        // SAFETY: as above.
        unsafe { queue.remove(node, &walked) };
        assert_eq!(walked.0.take(), met, "those before it");
    }
}

#[test]
fn snapshot_shows_all_nodes_and_marks() {
    let (queue, nodes) = (Queue::new(5), [const { Node::new() }; 4]);
    for node in &nodes {
        append(&queue, node, 2).expect("small");
    }
    nodes[1].pair.mark();
    nodes[2].pair.mark();
    let mut out = [Entry::default(); 4];
    assert_eq!(snapshot(&queue, &mut out), Snapshot { watermark: 5, len: 4, complete: true, restarts: 0 });
    let found: Vec<_> = out.iter().map(|e| (e.address, e.predecessor, e.payload, e.marked)).collect();
    let expected: Vec<_> = nodes
        .iter()
        .zip([(5, 7, false), (7, 9, true), (9, 11, true), (11, 13, false)])
        .map(|(node, (predecessor, payload, marked))| (node.address(), predecessor, payload, marked))
        .collect();
    assert_eq!(found, expected);
    // A buffer that is too small is filled.
    let snap = snapshot(&queue, &mut out[..2]);
    assert_eq!((snap.len, snap.complete), (2, false));
}

#[test]
fn snapshot_starts_again_when_the_queue_changes() {
    let (queue, a, b) = (Queue::new(0), Node::new(), Node::new());
    append(&queue, &a, 1).expect("small");
    append(&queue, &b, 1).expect("small");
    let rival = Intruder::before(Step::RecheckLink, || {
        remove(&queue, &a);
    });
    let mut out = [Entry::default(); 4];
    // SAFETY: as above.
    let snap = unsafe { queue.snapshot(&mut out, &rival) };
    assert_eq!(snap, Snapshot { watermark: 1, len: 1, complete: true, restarts: 1 });
    assert_eq!((out[0].address, out[0].predecessor, out[0].payload), (b.address(), 1, 2));
}

/// A queue that changes under every attempt: the work is bounded all the same.
#[test]
fn snapshot_gives_up_after_a_bounded_number_of_restarts() {
    struct Busy<'a>(&'a Queue, &'a Node);
    impl Observer for Busy<'_> {
        fn step(&self, step: Step) {
            if step == Step::RecheckPayload {
                remove(self.0, self.1);
                append(self.0, self.1, 1).expect("small");
            }
        }
    }
    let (queue, a) = (Queue::new(0), Node::new());
    append(&queue, &a, 1).expect("small");
    let mut out = [Entry::default(); 4];
    // SAFETY: as above.
    let snap = unsafe { queue.snapshot(&mut out, &Busy(&queue, &a)) };
    assert_eq!((snap.restarts, snap.complete), (Queue::SNAPSHOT_RESTARTS, false));
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "already in a queue")]
fn appending_twice_panics_in_debug_builds() {
    let (queue, node) = (Queue::new(0), Node::new());
    append(&queue, &node, 1).expect("small");
    let _ = append(&queue, &node, 1);
}

#[test]
#[cfg(debug_assertions)]
#[should_panic(expected = "not in a queue")]
fn removing_an_idle_node_panics_in_debug_builds() {
    remove(&Queue::new(0), &Node::new());
}
