//! Property 4 on the real code: a thread stopped for ever before any of its steps holds nobody up.
//!
//! For each [`Step`] one thread, the *victim*, is stopped before it, with a marked node and an open section in its
//! way; a second thread stands for ever between mark and unlink. All others must then finish many operations, and the
//! watermark must come to stand exactly below the victim's section if that is open, and at the end otherwise.

use std::num::NonZeroU64;
use std::sync::mpsc;
use std::sync::{Condvar, Mutex};
use std::thread;
use std::time::Duration;

use dcas_queue::{Entry, Node, Observer, Operation, Queue, Step};

const ONE: NonZeroU64 = NonZeroU64::MIN;
const WORKERS: usize = 3;
const ROUNDS: usize = 100;
/// Far longer than the workers need; only a thread that is held up gets there.
const TOO_LONG: Duration = Duration::from_secs(20);

/// A place where threads stop until the test ends.
#[derive(Default)]
struct Stop {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Stop {
    fn stop_here(&self) {
        let mut state = self.state.lock().expect("no panic while held");
        state.0 = true;
        self.changed.notify_all();
        drop(self.changed.wait_while(state, |(_, released)| !*released).expect("no panic while held"));
    }

    /// Whether somebody stopped, waiting for it for a while.
    fn reached(&self) -> bool {
        let state = self.state.lock().expect("no panic while held");
        let (state, _) = self
            .changed
            .wait_timeout_while(state, TOO_LONG, |(reached, _)| !*reached)
            .expect("no panic while held");
        state.0
    }

    fn release(&self) {
        self.state.lock().expect("no panic while held").1 = true;
        self.changed.notify_all();
    }
}

/// Lets the stopped threads go when the test ends, also when it fails: the scope waits for them.
struct Release<'a, const N: usize>([&'a Stop; N]);

impl<const N: usize> Drop for Release<'_, N> {
    fn drop(&mut self) {
        self.0.iter().for_each(|stop| stop.release());
    }
}

/// Stops before the first occurrence of a step.
struct StopsBefore<'a> {
    step: Step,
    stop: &'a Stop,
    /// Lets the first restart happen: does something to the queue before this thread's compare-exchange on the tail.
    rival: Option<&'a (dyn Fn() + Sync)>,
    done: Mutex<bool>,
}

impl<'a> StopsBefore<'a> {
    fn new(step: Step, stop: &'a Stop) -> Self {
        Self { step, stop, rival: None, done: Mutex::new(false) }
    }
}

impl Observer for StopsBefore<'_> {
    fn step(&self, step: Step) {
        if step == Step::LinkTail
            && let Some(rival) = self.rival
        {
            rival();
        }
        let first =
            step == self.step && !std::mem::replace(&mut *self.done.lock().expect("not poisoned"), true);
        if first {
            self.stop.stop_here();
        }
    }
}

/// Runs the other threads to the end, or reports that somebody is held up.
fn others_finish(queue: &Queue, nodes: &[Node; WORKERS], what: &str) -> u64 {
    thread::scope(|scope| {
        let (done, finished) = mpsc::channel();
        for node in nodes {
            let done = done.clone();
            scope.spawn(move || {
                let mut last = 0;
                for _ in 0..ROUNDS {
                    // SAFETY: nodes and queue outlive the scope; one thread per node.
                    last = unsafe { queue.append(node, ONE, ()) }.expect("far from overflow");
                    // SAFETY: as above; just appended.
                    unsafe { queue.remove(node, ()) };
                }
                done.send(last).expect("the test waits");
            });
        }
        (0..WORKERS)
            .map(|_| {
                finished.recv_timeout(TOO_LONG).unwrap_or_else(|_| {
                    // The scope would wait for the stuck threads, so a failed assertion would never be seen.
                    eprintln!("a thread stopped before {what} holds others up");
                    std::process::abort()
                })
            })
            .max()
            .expect("some worker")
    })
}

/// One victim that appends and removes, or completes others' removals, or looks, stopped before `step` in its `operation`.
fn stopped(step: Step, operation: Operation) {
    let queue = Queue::new(0);
    let (open, marked, victim) = (Node::new(), Node::new(), Node::new());
    let workers = [const { Node::new() }; WORKERS];
    // SAFETY: nodes and queue outlive all threads; one thread per node. The same below.
    let first = unsafe { queue.append(&open, ONE, ()) }.expect("small");
    // SAFETY: as above.
    unsafe { queue.append(&marked, ONE, ()) }.expect("small");
    let (half_way, stop) = (Stop::default(), Stop::default());

    let issued = Mutex::new(None);
    let victim_appends = || {
        let obs = StopsBefore::new(step, &stop);
        let payload = if operation == Operation::Append {
            // SAFETY: as above.
            unsafe { queue.append(&victim, ONE, &obs) }.expect("small")
        } else {
            // SAFETY: as above.
            unsafe { queue.append(&victim, ONE, ()) }.expect("small")
        };
        *issued.lock().expect("not poisoned") = Some(payload);
    };
    let victim_removes = || {
        let obs = StopsBefore::new(step, &stop);
        // SAFETY: as above; just appended.
        unsafe { queue.remove(&victim, &obs) };
    };
    thread::scope(|scope| {
        let _release = Release([&half_way, &stop]);
        if operation == Operation::Remove {
            // Before anybody has marked `marked`, so that the victim's own walk in `remove` meets the mark.
            victim_appends();
        }
        scope.spawn(|| {
            // SAFETY: as above.
            unsafe { queue.remove(&marked, &StopsBefore::new(Step::ReadOwnPayload, &half_way)) };
        });
        assert!(half_way.reached());
        scope.spawn(|| match operation {
            Operation::Append => {
                victim_appends();
                victim_removes();
            }
            Operation::Remove => victim_removes(),
            Operation::CompleteRemovals => {
                // SAFETY: as above.
                unsafe { queue.complete_removals(&StopsBefore::new(step, &stop)) };
            }
            Operation::Snapshot => {
                // SAFETY: as above.
                unsafe { queue.snapshot(&mut [Entry::default(); 8], &StopsBefore::new(step, &stop)) };
            }
        });
        assert!(stop.reached(), "the scenario does not lead to {step:?} in {operation:?}");

        let largest = others_finish(&queue, &workers, &format!("{step:?} in {operation:?}"));
        // The open section still holds the watermark back, and nothing else does.
        assert!(queue.watermark() < first);
        // SAFETY: as above.
        unsafe { queue.remove(&open, ()) };
        // SAFETY: as above.
        unsafe { queue.complete_removals(()) };
        match *issued.lock().expect("not poisoned") {
            // Stopped with an open section: everything before it is complete, it and what came later is not.
            Some(payload) if step == Step::Mark => assert_eq!(queue.watermark(), payload - 1),
            _ => assert_eq!(queue.watermark(), largest, "{step:?} in {operation:?}"),
        }
        // Others still get along.
        others_finish(&queue, &workers, &format!("{step:?} in {operation:?}, later"));
    });
    // SAFETY: as above.
    unsafe { queue.complete_removals(()) };
    assert!(queue.is_empty());
}

macro_rules! stopped_before {
    ($($name:ident: $step:ident in $operation:ident;)+) => {$(
        #[test]
        fn $name() {
            stopped(Step::$step, Operation::$operation);
        }
    )+};
}

stopped_before! {
    append_at_idle_payload: ReadIdlePayload in Append;
    append_at_head_payload: ReadHeadPayload in Append;
    append_at_head_link: ReadHeadLink in Append;
    append_at_next_payload: ReadNextPayload in Append;
    append_at_next_link: ReadNextLink in Append;
    append_at_recheck_link: RecheckLink in Append;
    append_at_recheck_payload: RecheckPayload in Append;
    append_at_frozen_payload: ReadFrozenPayload in Append;
    append_at_unlink: Unlink in Append;
    append_at_prepare_payload: PreparePayload in Append;
    append_at_prepare_link: PrepareLink in Append;
    append_at_link_tail: LinkTail in Append;
    remove_at_mark: Mark in Remove;
    remove_at_own_payload: ReadOwnPayload in Remove;
    remove_at_head_payload: ReadHeadPayload in Remove;
    remove_at_head_link: ReadHeadLink in Remove;
    remove_at_next_payload: ReadNextPayload in Remove;
    remove_at_next_link: ReadNextLink in Remove;
    remove_at_recheck_link: RecheckLink in Remove;
    remove_at_recheck_payload: RecheckPayload in Remove;
    remove_at_frozen_payload: ReadFrozenPayload in Remove;
    remove_at_unlink: Unlink in Remove;
    completer_at_head_payload: ReadHeadPayload in CompleteRemovals;
    completer_at_head_link: ReadHeadLink in CompleteRemovals;
    completer_at_next_payload: ReadNextPayload in CompleteRemovals;
    completer_at_next_link: ReadNextLink in CompleteRemovals;
    completer_at_recheck_link: RecheckLink in CompleteRemovals;
    completer_at_recheck_payload: RecheckPayload in CompleteRemovals;
    completer_at_frozen_payload: ReadFrozenPayload in CompleteRemovals;
    completer_at_unlink: Unlink in CompleteRemovals;
    snapshot_at_head_link: ReadHeadLink in Snapshot;
    snapshot_at_next_payload: ReadNextPayload in Snapshot;
    snapshot_at_next_link: ReadNextLink in Snapshot;
    snapshot_at_recheck_link: RecheckLink in Snapshot;
    snapshot_at_recheck_payload: RecheckPayload in Snapshot;
}

/// The steps that only exhausted payloads lead to: a rival takes the last one between preparing and linking. Then
/// nobody can append, but everybody can still remove.
fn exhausted(step: Step) {
    let queue = Queue::new(u64::MAX - 2);
    let (open, last, victim) = (Node::new(), Node::new(), Node::new());
    // SAFETY: nodes and queue outlive all threads; one thread per node. The same below.
    unsafe { queue.append(&open, ONE, ()) }.expect("the last but one");
    let rival = || {
        // SAFETY: as above; called once, since the victim reaches this step once.
        unsafe { queue.append(&last, ONE, ()) }.expect("the last");
    };
    let stop = Stop::default();
    thread::scope(|scope| {
        let _release = Release([&stop]);
        scope.spawn(|| {
            let obs = StopsBefore { rival: Some(&rival), ..StopsBefore::new(step, &stop) };
            // SAFETY: as above.
            unsafe { queue.append(&victim, ONE, &obs) }.expect_err("exhausted");
        });
        assert!(stop.reached());
        for node in [&open, &last] {
            // SAFETY: as above.
            unsafe { queue.remove(node, ()) };
        }
        assert_eq!(queue.watermark(), u64::MAX);
    });
    assert!(victim.is_marked());
}

#[test]
fn append_at_retract_link() {
    exhausted(Step::RetractLink);
}

#[test]
fn append_at_retract_payload() {
    exhausted(Step::RetractPayload);
}
