//! The rate of two threads while a third stands still, for ever, before each of its steps: compared with the third at rest.
//!
//! `cargo run --release -p dcas-queue --example progress [-- MILLISECONDS]` (per measurement, default 30). Medians of 5
//! interleaved pairs of measurements, per processor time of the two threads. The published algorithm and a mutex stop; the queue does
//! not. Fails if the others keep less than 80 % of their rate on the queue in five attempts, or if what should stop does not.
//! `tests/progress.rs` asserts the same in steps, which no load on the machine can disturb.

use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;
use std::{env, thread};

use dcas_queue::{Node, Observer, Operation, Queue, Step};

#[expect(unreachable_pub, reason = "a test includes the module too")]
#[path = "../tests/published/mod.rs"]
mod published;

use published::{Hook, Point, Published};

const ONE: NonZeroU64 = NonZeroU64::MIN;
const RUNS: usize = 5;

/// The processor time that this thread has had, where the system tells; other work on the machine does not count then.
fn thread_time() -> Duration {
    #[cfg(target_os = "linux")]
    {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a valid place for the answer.
        let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
        assert_eq!(result, 0, "every Linux thread has this clock");
        Duration::new(time.tv_sec.cast_unsigned(), u32::try_from(time.tv_nsec).expect("below a second"))
    }
    #[cfg(not(target_os = "linux"))]
    {
        static START: std::sync::LazyLock<std::time::Instant> =
            std::sync::LazyLock::new(std::time::Instant::now);
        START.elapsed()
    }
}

/// What `section` completes per second in two threads (it gets the thread's number) until the time is up.
fn rate(time: Duration, section: &(impl Fn(usize, &AtomicBool) -> bool + Sync)) -> f64 {
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        let workers = [0, 1].map(|worker| {
            scope.spawn(move || {
                let (mut sections, start) = (0_u64, thread_time());
                // ORD: Relaxed: only asks to end.
                while !stop.load(Ordering::Relaxed) {
                    sections += u64::from(section(worker, stop));
                }
                sections as f64 / (thread_time() - start).as_secs_f64().max(1e-9)
            })
        });
        thread::sleep(time);
        // ORD: Relaxed: only asks to end.
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().expect("no panic")).sum()
    })
}

/// A thread's stop: tells that it was reached, and waits to be let go.
struct Gate {
    reached: Mutex<Option<mpsc::Sender<()>>>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl Gate {
    fn new() -> (Self, mpsc::Receiver<()>, mpsc::Sender<()>) {
        let ((reached, wait), (go, receiver)) = (mpsc::channel(), mpsc::channel());
        (Self { reached: Mutex::new(Some(reached)), go: Mutex::new(receiver) }, wait, go)
    }

    /// Stops here the first time.
    fn stop(&self) {
        let first = self.reached.lock().expect("not poisoned").take();
        if let Some(reached) = first {
            reached.send(()).expect("the main thread waits");
            // Ends when the main thread drops its end.
            let _ = self.go.lock().expect("not poisoned").recv();
        }
    }
}

struct StopsBefore(Step, Gate);

impl Observer for StopsBefore {
    fn step(&self, step: Step) {
        if step == self.0 {
            self.1.stop();
        }
    }
}

/// The rates with the victim at rest and stopped, on one queue after the other.
fn queue(step: Step, operation: Operation, time: Duration) -> (f64, f64) {
    let (queue, [open, victim]) = (Queue::new(0), [const { Node::new() }; 2]);
    let workers = [const { Node::new() }; 2];
    // SAFETY: nodes and queue outlive all threads; one thread per node. The same below.
    let append = |node| unsafe { queue.append(node, ONE, ()) }.expect("far from overflow");
    let section = |worker: usize, _: &AtomicBool| {
        append(&workers[worker]);
        // SAFETY: as above.
        unsafe { queue.remove(&workers[worker], ()) };
        true
    };
    append(&open);
    // At rest, the victim's section is open where it will be open when stopped.
    if operation == Operation::Remove {
        append(&victim);
    }
    let open_when_stopped = step == Step::Mark;
    let rest = if operation == Operation::Remove && !open_when_stopped {
        // SAFETY: as above.
        unsafe { queue.remove(&victim, ()) };
        let rest = rate(time, &section);
        append(&victim);
        rest
    } else {
        rate(time, &section)
    };
    let (gate, reached, go) = Gate::new();
    let obs = StopsBefore(step, gate);
    thread::scope(|scope| {
        scope.spawn(|| match operation {
            // SAFETY: as above.
            Operation::Append => drop(unsafe { queue.append(&victim, ONE, &obs) }),
            // SAFETY: as above.
            _ => drop(unsafe { queue.remove(&victim, &obs) }),
        });
        reached.recv().expect("the step is on the way");
        let stopped = rate(time, &section);
        drop(go);
        (rest, stopped)
    })
}

struct PublishedStop(Point, Gate);

impl Hook for PublishedStop {
    fn at(&self, point: Point) {
        if point == self.0 {
            self.1.stop();
        }
    }

    fn again(&self) -> bool {
        true
    }
}

/// A worker of the published algorithm: backs off after a restart, and gives up when the time is up.
struct Until<'a>(&'a AtomicBool);

impl Hook for Until<'_> {
    fn at(&self, _: Point) {}

    fn again(&self) -> bool {
        thread::yield_now();
        // ORD: Relaxed: only asks to end.
        !self.0.load(Ordering::Relaxed)
    }
}

fn published(point: Point, time: Duration) -> (f64, f64) {
    // Each worker's node is in one of two states when the time is up, so the two measurements have a list each.
    let measure = |victim: Option<Point>| {
        let list = Arc::new(Published::new(3));
        let section = |worker: usize, stop: &AtomicBool| {
            let hook = Until(stop);
            list.begin(worker + 2, &hook).is_ok() && list.finish(worker + 2, &hook).is_ok()
        };
        let Some(point) = victim else {
            let sections = rate(time, &section);
            assert!(list.watermark() > 0, "the baseline does not work");
            return sections;
        };
        let (gate, reached, go) = Gate::new();
        let hook = PublishedStop(point, gate);
        thread::scope(|scope| {
            scope.spawn(|| {
                if list.begin(1, &hook).is_ok() {
                    let _ = list.finish(1, &hook);
                }
            });
            reached.recv().expect("the point is on the way");
            let stopped = rate(time, &section);
            drop(go);
            stopped
        })
    };
    (measure(None), measure(Some(point)))
}

fn mutex(time: Duration) -> (f64, f64) {
    let open = Mutex::new((0_u64, std::collections::BTreeSet::new()));
    let section = |_: usize, stop: &AtomicBool| {
        let lock = || loop {
            match open.try_lock() {
                Ok(open) => return Some(open),
                // ORD: Relaxed: only asks to end.
                Err(_) if stop.load(Ordering::Relaxed) => return None,
                Err(_) => thread::yield_now(),
            }
        };
        let Some(mut guard) = lock() else { return false };
        guard.0 += 1;
        let ticket = guard.0;
        guard.1.insert(ticket);
        drop(guard);
        lock().is_some_and(|mut guard| guard.1.remove(&ticket))
    };
    let rest = rate(time, &section);
    let _stopped = open.lock().expect("not poisoned");
    (rest, rate(time, &section))
}

/// Prints the median and returns it.
fn report(what: &str, measure: &impl Fn() -> (f64, f64)) -> f64 {
    let mut percents: Vec<_> = (0..RUNS)
        .map(|_| {
            let (rest, stopped) = measure();
            100.0 * stopped / rest.max(1.0)
        })
        .collect();
    percents.sort_by(f64::total_cmp);
    println!("{what:<46}{:6.1} % of the rate", percents[RUNS / 2]);
    percents[RUNS / 2]
}

fn keeps_going(what: &str, measure: impl Fn() -> (f64, f64)) {
    // Other work on the machine may disturb an attempt.
    assert!((0..5).any(|_| report(what, &measure) >= 80.0), "a stopped thread holds others up");
}

fn stops(what: &str, measure: impl Fn() -> (f64, f64)) {
    assert!(report(what, &measure) < 1.0, "it was expected to stop");
}

fn main() {
    let milliseconds = env::args().nth(1).map_or(30, |argument| argument.parse().expect("milliseconds"));
    let time = Duration::from_millis(milliseconds);
    let append = [
        Step::ReadIdlePayload,
        Step::ReadHeadPayload,
        Step::ReadHeadLink,
        Step::ReadNextPayload,
        Step::ReadNextLink,
        Step::RecheckLink,
        Step::RecheckPayload,
        Step::PreparePayload,
        Step::PrepareLink,
        Step::LinkTail,
    ];
    let remove = [
        Step::Mark,
        Step::ReadOwnPayload,
        Step::ReadHeadPayload,
        Step::ReadHeadLink,
        Step::ReadNextPayload,
        Step::ReadNextLink,
        Step::RecheckLink,
        Step::RecheckPayload,
        Step::Unlink,
    ];
    for step in append {
        keeps_going(&format!("dcas-queue, append before {step:?}"), || queue(step, Operation::Append, time));
    }
    for step in remove {
        keeps_going(&format!("dcas-queue, remove before {step:?}"), || queue(step, Operation::Remove, time));
    }
    for point in Point::ALL {
        let what = format!("published algorithm, before {point:?}");
        if matches!(point, Point::Validate | Point::ReadPredecessor | Point::Unlink) {
            stops(&what, || published(point, time));
        } else {
            report(&what, &|| published(point, time));
        }
    }
    stops("a mutex around a set, held", || mutex(time));
}
