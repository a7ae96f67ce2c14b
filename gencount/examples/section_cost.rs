//! What a section and a wait cost: `cargo run --release -p gencount --example section_cost [part of a row's name]`.
//!
//! Runs are interleaved and the median of each row is printed, in nanoseconds per operation; with several threads, time
//! multiplied by the cores that ran, divided by the operations of all threads.

use std::sync::{Arc, Barrier};
use std::time::Instant;

use gencount::{Domain, GenerationWord, Hosted, Implementation};

const RUNS: usize = 9;
const PAIRS: u64 = 400_000;

/// One run: every thread makes its share of begin and finish; one in `every` of them marks a word and waits for it.
fn pairs(implementation: Implementation, threads: u64, every: Option<u64>) -> f64 {
    let domain = Arc::new(Domain::new(implementation, Hosted));
    let barrier = Arc::new(Barrier::new(threads as usize));
    let each = PAIRS / threads;
    let handles: Vec<_> = (0..threads)
        .map(|_| {
            let (domain, barrier) = (domain.clone(), barrier.clone());
            std::thread::spawn(move || {
                let participant = domain.join();
                let word = GenerationWord::new();
                barrier.wait();
                let start = Instant::now();
                for number in 1..=each {
                    let section = participant.begin();
                    if every.is_some_and(|every| number % every == 0) {
                        section.mark(&word);
                        drop(section);
                        participant.wait(&word);
                    }
                }
                (start, Instant::now())
            })
        })
        .collect();
    let times: Vec<_> = handles.into_iter().map(|handle| handle.join().expect("no panic")).collect();
    let start = times.iter().map(|times| times.0).min().expect("at least one thread");
    let end = times.iter().map(|times| times.1).max().expect("at least one thread");
    let cores = std::thread::available_parallelism().map_or(1, usize::from).min(threads as usize);
    (end - start).as_nanos() as f64 * cores as f64 / (each * threads) as f64
}

/// A wait with nothing to wait for.
fn waits(implementation: Implementation) -> f64 {
    let domain = Arc::new(Domain::new(implementation, Hosted));
    let participant = domain.join();
    let word = GenerationWord::new();
    participant.begin().mark(&word);
    participant.wait(&word);
    let start = Instant::now();
    for _ in 0..PAIRS {
        participant.wait(std::hint::black_box(&word));
    }
    start.elapsed().as_nanos() as f64 / PAIRS as f64
}

/// What a wait is compared with: an atomic load.
fn load() -> f64 {
    let word = GenerationWord::new();
    let start = Instant::now();
    for _ in 0..PAIRS {
        std::hint::black_box(std::hint::black_box(&word).get());
    }
    start.elapsed().as_nanos() as f64 / PAIRS as f64
}

type Row = (String, Box<dyn Fn() -> f64>);

fn main() {
    let mut rows: Vec<Row> = vec![("load".to_owned(), Box::new(load))];
    for implementation in Implementation::ALL {
        rows.push((
            format!("{implementation:<9} wait, nothing open"),
            Box::new(move || waits(implementation)),
        ));
        for threads in [1, 2, 8, 32] {
            rows.push((
                format!("{implementation:<9} pairs   {threads:>2} threads"),
                Box::new(move || pairs(implementation, threads, None)),
            ));
        }
        for every in [10, 100] {
            rows.push((
                format!("{implementation:<9} wait-{every:<3}  2 threads"),
                Box::new(move || pairs(implementation, 2, Some(every))),
            ));
        }
    }
    if let Some(wanted) = std::env::args().nth(1) {
        rows.retain(|(name, _)| name.contains(&wanted));
    }
    let mut times = vec![Vec::new(); rows.len()];
    for _ in 0..RUNS {
        for ((_, run), times) in rows.iter().zip(&mut times) {
            times.push(run());
        }
    }
    for ((name, _), mut times) in rows.into_iter().zip(times) {
        times.sort_by(f64::total_cmp);
        println!("{name:<28} {:8.2} ns", times[RUNS / 2]);
    }
}
