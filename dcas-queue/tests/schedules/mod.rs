//! Concurrent histories whose schedule is a string of bytes: for the property test here and for the fuzz target.
//!
//! A few real threads run the real queue, but one at a time: whoever is about to take an atomic step asks the bytes who goes on.
//! The same bytes give the same run, so a failure replays and shrinks. While one thread checks, the others stand still
//! between two of their steps, so what it sees is one state of the queue.
//!
//! The first bytes are the threads' programs, the rest is the schedule; when it ends, each thread runs to its end.

use std::num::NonZeroU64;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use dcas_queue::{Entry, Mutation, Node, Observer, Queue, Step};

/// Threads of a run.
const THREADS: usize = 3;
/// Nodes of a thread, so that it can hold sections open and end them in any order.
const EACH: usize = 2;
const NODES: usize = THREADS * EACH;
/// Operations of a thread at most.
const OPERATIONS: usize = 12;
/// Steps of a thread in a row, at most, when the schedule has ended and it runs alone: ten times what all its operations
/// take (INV-Q-4).
const ALONE: u32 = 10_000;

/// Who runs, who is there, and what the schedule still says.
struct Turn<'bytes> {
    current: usize,
    alive: [bool; THREADS],
    schedule: &'bytes [u8],
    /// Steps that a thread took since the schedule ended.
    alone: u32,
    /// Why a thread failed: the others end at once.
    failed: bool,
}

impl Turn<'_> {
    /// Who takes the next step: most often the same thread again, as on a machine.
    fn choose(&mut self) {
        if let Some((&byte, rest)) = self.schedule.split_first() {
            self.schedule = rest;
            if byte >= 128 {
                self.current = usize::from(byte) % THREADS;
            }
        } else {
            self.alone += 1;
        }
        if !self.alive[self.current] {
            self.current = self.alive.iter().position(|&alive| alive).unwrap_or(0);
            self.alone = 0;
        }
    }
}

/// What a thread unwinds with because another one failed.
struct Ended;

/// A queue, its nodes, and what is known of its history.
struct History<'bytes> {
    queue: Queue,
    nodes: [Node; NODES],
    /// Per node: the payload of the open section, or 0. Set when append returns, cleared before the mark.
    open: [AtomicU64; NODES],
    /// The largest payload that an append returned, the largest seen at the tail, and the largest watermark.
    issued: AtomicU64,
    tail: AtomicU64,
    watermark: AtomicU64,
    turn: Mutex<Turn<'bytes>>,
    /// Per thread: it is its turn.
    go: [Condvar; THREADS],
    /// The rule that all operations do without.
    mutation: Option<Mutation>,
}

/// One thread's hook.
struct Scheduled<'h, 'bytes> {
    history: &'h History<'bytes>,
    thread: usize,
}

impl Observer for Scheduled<'_, '_> {
    fn step(&self, _: Step) {
        self.history.check();
        self.history.pass(self.thread);
    }

    fn watermark_advanced(&self, watermark: u64) {
        assert_eq!(watermark, self.history.queue.watermark(), "nobody else runs");
    }

    /// Nobody gets anywhere while this thread pauses.
    fn backoff(&self, _: u32) {}

    fn mutation(&self) -> Option<Mutation> {
        self.history.mutation
    }
}

/// Ends a thread, also one that failed: the others must not wait for it.
struct Leave<'h, 'bytes>(&'h History<'bytes>, usize);

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        let mut turn = self.0.turn();
        turn.alive[self.1] = false;
        turn.failed |= thread::panicking();
        turn.choose();
        self.0.go[turn.current].notify_one();
    }
}

impl<'bytes> History<'bytes> {
    fn turn(&self) -> MutexGuard<'_, Turn<'bytes>> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks who goes on, and comes back when it is this thread.
    fn pass(&self, thread: usize) {
        let mut turn = self.turn();
        turn.choose();
        assert!(turn.alone < ALONE, "INV-Q-4: a thread that runs alone does not get through");
        if turn.current != thread {
            self.go[turn.current].notify_one();
            turn = self.wait(turn, thread);
        }
        if turn.failed {
            drop(turn);
            resume_unwind(Box::new(Ended));
        }
    }

    fn wait<'h>(&'h self, turn: MutexGuard<'h, Turn<'bytes>>, thread: usize) -> MutexGuard<'h, Turn<'bytes>> {
        let go = &self.go[thread];
        go.wait_while(turn, |turn| turn.current != thread).unwrap_or_else(PoisonError::into_inner)
    }

    /// INV-Q-1 to INV-Q-3 of this moment, and that tail and watermark never go down.
    fn check(&self) {
        let mut out = [Entry::default(); NODES + 1];
        // SAFETY: the nodes live as long as the queue.
        let snapshot = unsafe { self.queue.snapshot(&mut out, &()) };
        assert!(snapshot.complete && snapshot.restarts == 0, "nobody else runs");
        let entries = &out[..snapshot.len];
        let mut last = snapshot.watermark;
        for entry in entries {
            assert!(entry.predecessor == last && entry.payload > last, "INV-Q-1: {snapshot:?} {entries:?}");
            last = entry.payload;
        }
        assert!(last >= self.tail.swap(last, Ordering::Relaxed), "INV-Q-2: the tail went down");
        assert!(last >= self.issued.load(Ordering::Relaxed), "INV-Q-2: an issued payload is lost");
        assert!(snapshot.watermark >= self.watermark.swap(snapshot.watermark, Ordering::Relaxed));
        for (node, open) in self.nodes.iter().zip(&self.open) {
            let payload = open.load(Ordering::Relaxed);
            let address = std::ptr::from_ref(node).addr();
            let entry = entries.iter().find(|entry| entry.address == address);
            assert!(
                payload == 0
                    || entry.is_some_and(|e| !e.marked && e.predecessor < payload && payload <= e.payload),
                "INV-Q-3: the open section {payload} is not where it belongs: {entries:?}"
            );
        }
    }

    fn append(&self, node: usize, n: u64, hook: &Scheduled<'_, '_>) {
        let before = self.issued.load(Ordering::Relaxed);
        let n = NonZeroU64::new(n).expect("at least 1");
        // SAFETY: the nodes live as long as the queue and know no other; this thread alone uses this one; idle.
        let payload = unsafe { self.queue.append(&self.nodes[node], n, hook) }.expect("far from overflow");
        assert!(payload > before, "an append that began later got the lower payload");
        self.issued.fetch_max(payload, Ordering::Relaxed);
        self.open[node].store(payload, Ordering::Relaxed);
        self.check();
    }

    fn remove(&self, node: usize, hook: &Scheduled<'_, '_>) {
        let issued = self.open[node].swap(0, Ordering::Relaxed);
        // SAFETY: as for `append`; in the queue.
        let removed = unsafe { self.queue.remove(&self.nodes[node], hook) };
        assert!(removed.payload >= issued && removed.payload == self.nodes[node].payload());
        self.check();
        let address = std::ptr::from_ref(&self.nodes[node]).addr();
        let mut out = [Entry::default(); NODES + 1];
        // SAFETY: as in `check`.
        let snapshot = unsafe { self.queue.snapshot(&mut out, &()) };
        assert!(out[..snapshot.len].iter().all(|entry| entry.address != address), "INV-Q-9");
    }

    /// One thread's program: each byte names one of its nodes, which is appended or removed, or a walk.
    fn run(&self, thread: usize, program: &[u8]) {
        let _leave = Leave(self, thread);
        drop(self.wait(self.turn(), thread));
        let hook = Scheduled { history: self, thread };
        for &byte in program {
            let node = thread * EACH + usize::from(byte) % EACH;
            if byte >= 240 {
                // SAFETY: the nodes live as long as the queue.
                unsafe { self.queue.complete_removals(&hook) };
            } else if self.open[node].load(Ordering::Relaxed) == 0 {
                self.append(node, u64::from(byte / 64) + 1, &hook);
            } else {
                self.remove(node, &hook);
            }
        }
        for node in thread * EACH..(thread + 1) * EACH {
            if self.open[node].load(Ordering::Relaxed) != 0 {
                self.remove(node, &hook);
            }
        }
    }
}

/// Runs what the bytes say, without the rule if one is named.
///
/// # Panics
/// If the queue breaks a promise.
pub fn run(bytes: &[u8], mutation: Option<Mutation>) {
    let Some((&operations, bytes)) = bytes.split_first() else { return };
    let operations = usize::from(operations) % OPERATIONS + 1;
    let (programs, schedule) = bytes.split_at(bytes.len().min(operations * THREADS));
    let history = History {
        queue: Queue::new(0),
        nodes: [const { Node::new() }; NODES],
        open: [const { AtomicU64::new(0) }; NODES],
        issued: AtomicU64::new(0),
        tail: AtomicU64::new(0),
        watermark: AtomicU64::new(0),
        turn: Mutex::new(Turn { current: 0, alive: [true; THREADS], schedule, alone: 0, failed: false }),
        go: [const { Condvar::new() }; THREADS],
        mutation,
    };
    let failure = thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                let program = programs.get(thread * operations..).unwrap_or(&[]);
                let program = &program[..program.len().min(operations)];
                let history = &history;
                scope.spawn(move || history.run(thread, program))
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().err()).find(|panic| !panic.is::<Ended>())
    });
    if let Some(panic) = failure {
        resume_unwind(panic);
    }
    assert!(history.queue.is_empty());
    assert_eq!(history.queue.watermark(), history.issued.load(Ordering::Relaxed), "INV-Q-3");
}
