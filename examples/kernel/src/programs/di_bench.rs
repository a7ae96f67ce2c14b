//! What delayed invalidation costs on this machine: sections and waits, for the three implementations, on one CPU and on all at once.
//!
//! The figures of an emulator compare the implementations and say nothing of hardware; under a deterministic emulator they count instructions.

use alloc::format;
use alloc::string::ToString as _;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use gencount::{Domain, GenerationWord, Implementation};
use pmap::CpuId;
use serde_json::{Value, json};
use turnstile::Priority;

use super::arguments::Arguments;
use super::report::Report;
use crate::arch::percpu;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use crate::sched::{Handle, KernelScheduler, TICKS_PER_SECOND, sleep, spawn_on, ticks, yield_now};

/// Sections that each CPU opens, and half of them again with waits.
const SECTIONS: u64 = 20_000;
const WAITS: u64 = 2_000;

/// Runs the programme.
pub(crate) fn run(_: &Arguments, _: &'static BootInfo) -> Report {
    let mut report = Report::new("di_bench");
    let clock = Clock::calibrate();
    report.figure("tsc_per_tick", clock.per_tick);
    let all = percpu::cpu_count();
    for implementation in Implementation::ALL {
        let mut by_cpus = serde_json::Map::new();
        for cpus in if all == 1 { Vec::from([1]) } else { Vec::from([1, all]) } {
            by_cpus.insert(format!("{cpus}"), measure(&mut report, implementation, cpus, clock));
        }
        report.figure(implementation.name(), Value::Object(by_cpus));
    }
    report
}

/// How long a tick is by the time-stamp counter.
#[derive(Clone, Copy)]
struct Clock {
    per_tick: u64,
}

impl Clock {
    /// Over some ticks, from the beginning of one.
    fn calibrate() -> Self {
        const TICKS: u64 = 20;
        sleep(1);
        let begin = now();
        let first = ticks();
        sleep(TICKS);
        let (end, last) = (now(), ticks());
        Self { per_tick: (end - begin) / (last - first).max(1) }
    }

    /// Nanoseconds of `cycles`.
    fn nanoseconds(self, cycles: u64) -> u64 {
        (u128::from(cycles) * 1_000_000_000 / u128::from(TICKS_PER_SECOND) / u128::from(self.per_tick.max(1)))
            as u64
    }
}

fn now() -> u64 {
    // SAFETY: reads a counter; every processor with 64-bit mode has it.
    unsafe { _rdtsc() }
}

/// What the threads of a measurement share.
struct Shared {
    domain: Arc<Domain<KernelScheduler>>,
    words: Vec<GenerationWord>,
    /// Of each thread, the generation of its last section that is as good as finished.
    done: Vec<AtomicU64>,
    ready: AtomicUsize,
    /// Of all threads together.
    section_cycles: AtomicU64,
    wait_cycles: AtomicU64,
    /// Waits that ended before the section had.
    early: AtomicU64,
}

fn measure(report: &mut Report, implementation: Implementation, cpus: usize, clock: Clock) -> Value {
    let shared = Arc::new(Shared {
        domain: Arc::new(Domain::new(implementation, KernelScheduler)),
        words: (0..cpus).map(|_| GenerationWord::new()).collect(),
        done: (0..cpus).map(|_| AtomicU64::new(0)).collect(),
        ready: AtomicUsize::new(0),
        section_cycles: AtomicU64::new(0),
        wait_cycles: AtomicU64::new(0),
        early: AtomicU64::new(0),
    });
    let threads: Vec<_> = (0..cpus)
        .filter_map(CpuId::new)
        .map(|cpu| {
            let shared = shared.clone();
            let body = move || exercise(&shared, cpu.index());
            spawn_on(cpu, "di_bench", Priority::NORMAL, body).expect("memory for a thread on every CPU")
        })
        .collect();
    threads.into_iter().for_each(Handle::join);
    let counters = shared.domain.counters();
    let blocks = (SECTIONS + WAITS) * cpus as u64;
    report.check(&format!("{implementation} on {cpus}: sections"), counters.di_blocks == blocks, || {
        format!("{} instead of {blocks}", counters.di_blocks)
    });
    let early = shared.early.load(Ordering::Relaxed); // ORD: the threads have ended
    report.check(&format!("{implementation} on {cpus}: waits"), early == 0, || {
        format!("{early} ended too early")
    });
    let complete = shared.words.iter().all(|word| shared.domain.is_complete(word));
    report.check(&format!("{implementation} on {cpus}: the end"), complete, || {
        "a section is open for ever".to_string()
    });
    // ORD: Relaxed, both: the threads have ended.
    let section = shared.section_cycles.load(Ordering::Relaxed) / (SECTIONS * cpus as u64);
    let wait = shared.wait_cycles.load(Ordering::Relaxed) / (WAITS * cpus as u64); // ORD: as above
    println!(
        "  {implementation} on {cpus}: section {section} cycles ({} ns), section and wait {wait} cycles ({} ns), {} waits parked",
        clock.nanoseconds(section),
        clock.nanoseconds(wait),
        counters.invl_wait_slow,
    );
    json!({
        "section_tsc": section,
        "section_ns": clock.nanoseconds(section),
        "section_and_wait_tsc": wait,
        "section_and_wait_ns": clock.nanoseconds(wait),
        "waits": counters.di_wait_calls,
        "waits_parked": counters.invl_wait_slow,
    })
}

/// One thread's part: sections alone, then sections each followed by a wait for the neighbour's.
fn exercise(shared: &Shared, me: usize) {
    let participant = shared.domain.join();
    let all = shared.words.len();
    // ORD: Relaxed: only that all measure at the same time.
    shared.ready.fetch_add(1, Ordering::Relaxed);
    while shared.ready.load(Ordering::Relaxed) < all {
        // ORD: as above
        yield_now();
    }
    let begin = now();
    for _ in 0..SECTIONS {
        // Only this thread marks its word, so no lock is needed.
        participant.begin().mark(&shared.words[me]);
    }
    let sections = now() - begin;
    let neighbour = (me + 1) % all;
    let mut early = 0;
    let begin = now();
    for _ in 0..WAITS {
        let section = participant.begin();
        section.mark(&shared.words[me]);
        // ORD: Relaxed: that the wait orders it is what is checked.
        shared.done[me].store(section.generation(), Ordering::Relaxed);
        drop(section);
        let marked = shared.words[neighbour].get();
        participant.wait(&shared.words[neighbour]);
        let seen = shared.done[neighbour].load(Ordering::Relaxed); // ORD: as above
        // Sections of the first part left no note.
        early += u64::from(seen < marked && seen > 0);
    }
    let waits = now() - begin;
    // ORD: Relaxed, all: read after the joins.
    shared.section_cycles.fetch_add(sections, Ordering::Relaxed);
    shared.wait_cycles.fetch_add(waits, Ordering::Relaxed); // ORD: as above
    shared.early.fetch_add(early, Ordering::Relaxed); // ORD: as above
}
