//! One run of one contender, and all runs in turn.
//!
//! A run starts its threads, lets them work for a moment, and then reads their counts twice: what they did in between is
//! exact, whatever the threads do when they are told to stop. Counts are on lines of their own.

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_utils::CachePadded;

use super::{Mix, Options, Row};

/// Pairs between two looks at whether to stop.
const BATCH: u32 = 64;
/// The share of a run that passes before counting starts: threads find their cores, lines their caches.
const WARM_UP: u32 = 8;

/// One of those who do the same work.
pub(super) struct Contender {
    pub(super) name: &'static str,
    /// Whether it can wait; otherwise only [`Mix::Pairs`] is measured.
    waits: bool,
    run: Box<dyn Fn(Load) -> Sample>,
}

impl Contender {
    /// A contender that makes a new peer for each run, for so many threads.
    pub(super) fn new<P: Peer>(name: &'static str, peer: impl Fn(usize) -> P + 'static) -> Self {
        let run = Box::new(move |load: Load| measure(&peer(load.threads), load));
        Self { name, waits: P::WAITS, run }
    }
}

/// What threads share in one run.
pub(super) trait Peer: Sync {
    /// Whether lanes can wait.
    const WAITS: bool;
    /// One thread's part.
    type Lane<'peer>: Lane
    where
        Self: 'peer;

    /// Makes the part of thread number `thread`, in that thread.
    fn lane(&self, thread: usize) -> Self::Lane<'_>;

    /// How often operations had to start again, after all lanes are gone.
    fn restarts(&self) -> u64 {
        0
    }
}

/// One thread's operations.
pub(super) trait Lane {
    /// One begin and finish, or append and remove, or lock and unlock.
    fn pair(&mut self);

    /// One pair that marks a word, and then a wait for that word.
    fn pair_and_wait(&mut self) {
        self.pair();
    }
}

/// What a run is asked to do.
#[derive(Clone, Copy)]
pub(super) struct Load {
    threads: usize,
    mix: Mix,
    time: Duration,
}

/// What a run gave.
#[derive(Clone, Copy)]
struct Sample {
    ns_per_op: f64,
    restarts_per_op: f64,
}

/// The cores that threads can run on.
pub(super) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

/// Keeps the calling thread on the core of this number, where that can be asked for: two threads may otherwise share one core
/// for a whole run, though there is one for each.
fn pin(number: usize) {
    #[cfg(target_os = "linux")]
    // SAFETY: a set of cores is plain data, for which zero is empty; the calls read and write these two and no more than
    // their size.
    unsafe {
        let mut allowed: libc::cpu_set_t = std::mem::zeroed();
        let mut own = allowed;
        let size = size_of::<libc::cpu_set_t>();
        if libc::sched_getaffinity(0, size, &raw mut allowed) != 0 {
            return;
        }
        let mut cores = (0..8 * size).filter(|&core| libc::CPU_ISSET(core, &allowed));
        if let Some(core) = cores.nth(number) {
            libc::CPU_SET(core, &mut own);
            libc::sched_setaffinity(0, size, &raw const own);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = number;
}

/// Does pairs until told to stop.
fn work(mut lane: impl Lane, mix: Mix, done: &AtomicU64, stop: &AtomicBool) {
    let (pairs, waits, batch) = match mix {
        Mix::Pairs => (BATCH, false, BATCH),
        Mix::Wait(every) => (every - 1, true, every),
    };
    let mut sum = 0;
    // ORD: Relaxed: only asks to end.
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..pairs {
            lane.pair();
        }
        if waits {
            lane.pair_and_wait();
        }
        sum += u64::from(batch);
        // ORD: Relaxed: a number on its own.
        done.store(sum, Ordering::Relaxed);
    }
}

fn measure<P: Peer>(peer: &P, load: Load) -> Sample {
    let counts: Vec<CachePadded<AtomicU64>> = (0..load.threads).map(|_| CachePadded::default()).collect();
    let stop = CachePadded::new(AtomicBool::new(false));
    // Asked for here: a pinned thread is told of one core.
    let running = cores().min(load.threads);
    let barrier = Barrier::new(load.threads + 1);
    // ORD: Relaxed: numbers on their own; the end of the scope orders the last.
    let total = || -> u64 { counts.iter().map(|count| count.load(Ordering::Relaxed)).sum() };
    let (elapsed, ops) = thread::scope(|scope| {
        for (number, done) in counts.iter().enumerate() {
            let (stop, barrier) = (&stop, &barrier);
            scope.spawn(move || {
                if load.threads <= running {
                    pin(number);
                }
                let lane = peer.lane(number);
                barrier.wait();
                work(lane, load.mix, done, stop);
            });
        }
        barrier.wait();
        thread::sleep(load.time / WARM_UP);
        let (start, before) = (Instant::now(), total());
        // A short run may end before anything is done.
        let result = loop {
            thread::sleep(load.time);
            let (elapsed, ops) = (start.elapsed(), total() - before);
            if ops > 0 {
                break (elapsed, ops);
            }
        };
        // ORD: Relaxed: only asks to end.
        stop.store(true, Ordering::Relaxed);
        result
    });
    Sample {
        ns_per_op: elapsed.as_secs_f64() * 1e9 * running as f64 / ops as f64,
        restarts_per_op: peer.restarts() as f64 / total() as f64,
    }
}

/// A row in the making.
struct Cell<'a> {
    contender: &'a Contender,
    threads: usize,
    mix: Mix,
    samples: Vec<Sample>,
}

pub(super) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// All rows: everything is run once, then everything again, as often as asked.
pub(super) fn rows(contenders: &[Contender], options: &Options) -> Vec<Row> {
    let mut cells = Vec::new();
    for &mix in &options.mixes {
        for &threads in &options.threads {
            for contender in contenders.iter().filter(|c| c.waits || mix == Mix::Pairs) {
                cells.push(Cell { contender, threads, mix, samples: Vec::new() });
            }
        }
    }
    let runs = u32::try_from(cells.len() * options.runs).unwrap_or(u32::MAX).max(1);
    // Of a run, the warm-up is part, and starting threads takes time as well.
    let time = options.time / runs * WARM_UP / (WARM_UP + 1);
    for _ in 0..options.runs {
        for cell in &mut cells {
            let load = Load { threads: cell.threads, mix: cell.mix, time };
            cell.samples.push((cell.contender.run)(load));
        }
    }
    cells
        .iter()
        .map(|cell| Row {
            name: cell.contender.name,
            threads: cell.threads,
            mix: cell.mix,
            ns_per_op: median(cell.samples.iter().map(|sample| sample.ns_per_op)),
            restarts_per_op: median(cell.samples.iter().map(|sample| sample.restarts_per_op)),
        })
        .collect()
}
