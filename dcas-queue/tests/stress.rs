//! Real threads, more than cores, as fast as they can; every promise about the watermark is checked as it is made.
//!
//! `DCAS_QUEUE_STRESS_SECONDS=60 cargo test --release -p dcas-queue --test stress` runs it for a minute per test; `.ci/stress`
//! runs it with the other crates' stress tests.
//!
//! What this cannot see: interleavings that the machine at hand does not produce. The explicit-state check looks at
//! all of them for few threads; this looks at the real code with its real instructions.

use std::num::NonZeroU64;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use dcas_queue::{Node, Queue};

/// Twice as many threads as cores, and 8 at least: some are always preempted, wherever they are.
fn threads() -> usize {
    thread::available_parallelism().map_or(8, |cores| (2 * cores.get()).clamp(8, 64))
}

/// How many payloads each thread remembers, to be compared with the others' in the end.
const REMEMBERED: usize = 1 << 20;

/// How long each test runs: 400 ms, or as many seconds as the environment says.
fn run_time() -> Duration {
    match std::env::var("DCAS_QUEUE_STRESS_SECONDS") {
        Ok(seconds) => {
            Duration::from_secs(seconds.parse().expect("DCAS_QUEUE_STRESS_SECONDS is a whole number"))
        }
        Err(_) => Duration::from_millis(400),
    }
}

/// What everybody can see: which sections are open.
struct History {
    queue: Queue,
    /// Per thread: the payload of its open section, or 0. Written after append and before remove, so a section is open
    /// all the time that its payload stands here.
    open: Box<[AtomicU64]>,
    stop: AtomicBool,
}

impl History {
    fn new() -> Self {
        Self {
            queue: Queue::new(0),
            open: (0..threads()).map(|_| AtomicU64::new(0)).collect(),
            stop: AtomicBool::new(false),
        }
    }

    /// INV-Q-3: the watermark is below the payload of every open section.
    fn check(&self) {
        for open in &self.open {
            // ORD: SeqCst: the same value before and after means open all the time (payloads never repeat).
            let payload = open.load(Ordering::SeqCst);
            let watermark = self.queue.watermark();
            // ORD: SeqCst: as above.
            if payload != 0 && open.load(Ordering::SeqCst) == payload {
                assert!(watermark < payload, "the watermark {watermark} passed the open section {payload}");
            }
        }
    }

    /// One section of thread `t` on `node`; returns its payload.
    fn section(&self, t: usize, node: &Node, n: u64, work: u32) -> u64 {
        let n = NonZeroU64::new(n).expect("at least 1");
        // SAFETY: the node belongs to this thread until it hands it on through a mutex; nodes outlive the queue's use.
        let payload = unsafe { self.queue.append(node, n, ()) }.expect("far from overflow");
        // ORD: SeqCst: as in `check`.
        self.open[t].store(payload, Ordering::SeqCst);
        assert!(self.queue.watermark() < payload);
        for _ in 0..work {
            std::hint::spin_loop();
        }
        if work.is_multiple_of(64) {
            thread::yield_now();
        }
        assert!(self.queue.watermark() < payload);
        // ORD: SeqCst: as in `check`.
        self.open[t].store(0, Ordering::SeqCst);
        // SAFETY: as above; just appended.
        let removed = unsafe { self.queue.remove(node, ()) };
        assert!(removed.payload >= payload, "donations only raise it");
        assert!(node.is_marked());
        payload
    }

    /// All sections are removed: the watermark is the largest payload, and no payload came twice.
    fn finish(&self, mut issued: Vec<u64>, largest: u64) {
        // SAFETY: nodes outlive this call.
        unsafe { self.queue.complete_removals(()) };
        issued.sort_unstable();
        assert!(issued.windows(2).all(|pair| pair[0] < pair[1]), "a payload was issued twice");
        assert!(self.queue.is_empty());
        assert_eq!(self.queue.watermark(), largest);
    }
}

fn xorshift(x: &mut u64) -> u64 {
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    *x
}

/// Runs `section` in all threads until the time is up, beside a thread that checks and completes removals. Then all has to
/// be finished.
fn run(history: &History, section: impl Fn(usize, &mut u64) -> u64 + Sync) {
    let (mut issued, mut largest, mut sections) = (Vec::new(), 0, 0_u64);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..history.open.len())
            .map(|t| {
                let section = &section;
                scope.spawn(move || {
                    let mut random = 0x9e37_79b9 + t as u64;
                    let (mut issued, mut last, mut sections) = (Vec::new(), 0, 0_u64);
                    // ORD: Relaxed: only asks to end.
                    while !history.stop.load(Ordering::Relaxed) {
                        let payload = section(t, &mut random);
                        assert!(payload > last, "a thread's payloads rise");
                        last = payload;
                        sections += 1;
                        if issued.len() < REMEMBERED {
                            issued.push(payload);
                        }
                    }
                    (issued, last, sections)
                })
            })
            .collect();
        let checker = scope.spawn(|| {
            let mut last = 0;
            // ORD: Relaxed: only asks to end.
            while !history.stop.load(Ordering::Relaxed) {
                history.check();
                let watermark = history.queue.watermark();
                assert!(watermark >= last, "the watermark went down");
                last = watermark;
                // SAFETY: nodes outlive the scope.
                unsafe { history.queue.complete_removals(()) };
                thread::yield_now();
            }
        });
        let end = Instant::now() + run_time();
        while Instant::now() < end && !checker.is_finished() && !workers.iter().any(|w| w.is_finished()) {
            thread::sleep(Duration::from_millis(10));
        }
        // ORD: Relaxed: only asks to end.
        history.stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let (payloads, last, completed) = worker.join().expect("a worker failed");
            issued.extend(payloads);
            largest = largest.max(last);
            sections += completed;
        }
    });
    println!("{} threads completed {sections} sections", history.open.len());
    history.finish(issued, largest);
}

#[test]
fn every_thread_its_own_node() {
    let history = History::new();
    let nodes: Vec<_> = history.open.iter().map(|_| Node::new()).collect();
    run(&history, |t, random| {
        let work = xorshift(random) % 200;
        history.section(t, &nodes[t], 1 + work % 3, work as u32)
    });
}

/// Nodes wander between threads, so a node's next stay is often another thread's.
#[test]
fn nodes_change_hands() {
    let history = History::new();
    let nodes: Vec<_> = history.open.iter().map(|_| Node::new()).collect();
    let pool = Mutex::new(nodes.iter().collect::<Vec<_>>());
    let take = |random: &mut u64| {
        let mut pool = pool.lock().expect("no panic while held");
        let index = xorshift(random) as usize % pool.len();
        pool.swap_remove(index)
    };
    run(&history, |t, random| {
        let node = take(random);
        let payload = history.section(t, node, 1, (xorshift(random) % 100) as u32);
        pool.lock().expect("no panic while held").push(node);
        payload
    });
}
