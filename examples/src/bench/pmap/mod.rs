//! `bench pmap`: what the pmap's operations cost for each page, beside the `x86_64` crate's page tables.
//!
//! Both work on the same frames of one bare machine, in turn, several times; a row is the median of its runs. Pages have
//! been accessed and stored to before `remove` and `protect`, by setting the bits that hardware sets; PV entries, marks,
//! locks, sections of delayed invalidation, and for an active address space a shootdown of the other CPU, are inside the
//! measurement. What is not: INVLPG and the reload of CR3, which a program cannot execute, on either side; and the interrupt's
//! own latency, as the other CPU polls: how long it takes to answer depends on whether the host lets both threads run, so it is
//! shown by itself.

mod bare;
mod contender;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gencount::Implementation;
use pmap::shootdown::Shootdowns;
use pmap::{Frame, System};
use serde_json::{Value, json};

use super::runner::{cores, median};
use bare::{Bare, become_cpu};
use contender::{Cost, PAGES, Sample};

/// An operation, the peer's that it stands beside, and how many times as long as that it may take.
const OPERATIONS: [(&str, &str, f64); 4] = [
    ("enter_object", "map_to", 1.0),
    ("enter", "map_to", 3.0),
    ("protect", "update_flags", 1.5),
    ("remove", "unmap", 1.5),
];

/// One operation, with the address space active on both CPUs or on none.
#[derive(Clone, Debug)]
pub struct Row {
    /// The pmap's function.
    pub operation: &'static str,
    /// The peer's.
    pub peer: &'static str,
    /// Whether the address space was current on the measuring CPU and on another one.
    pub active: bool,
    /// Nanoseconds per page.
    pub ns: f64,
    /// Of them, without the wait for the other CPU's acknowledgement.
    pub working_ns: f64,
    /// The peer's nanoseconds per page.
    pub peer_ns: f64,
    /// How many times as long as the peer it may take.
    pub goal: f64,
}

impl Row {
    /// How many times as long as the peer it takes.
    #[must_use]
    pub fn ratio(&self) -> f64 {
        self.ns / self.peer_ns
    }
}

/// What came out.
#[derive(Clone, Debug)]
pub struct Report {
    /// Turns of which the median counts.
    pub runs: usize,
    /// Cores that the program may use.
    pub cores: usize,
    /// Implementation of delayed invalidation.
    pub di: Implementation,
    /// Interrupts for each turn with an active address space.
    pub interrupts: f64,
    /// All rows.
    pub rows: Vec<Row>,
}

impl Report {
    /// A table of Markdown.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "bench pmap on {} cores, {}: ns per page of runs of {} pages, median of {} interleaved runs; {:.1} interrupts a run\n\n\
             | operation    | active | pmap   | ratio | without waiting | ratio | peer                    | goal |\n\
             |--------------|--------|-------:|------:|----------------:|------:|------------------------:|-----:|\n",
            self.cores, self.di, PAGES, self.runs, self.interrupts
        );
        for row in &self.rows {
            let peer = format!("{} {:.1}", row.peer, row.peer_ns);
            let active = if row.active { "2 CPUs" } else { "no" };
            out += &format!(
                "| {:<12} | {active:<6} | {:>6.1} | {:>5.2} | {:>15.1} | {:>5.2} | {peer:>23} | {:>4.1} |\n",
                row.operation,
                row.ns,
                row.ratio(),
                row.working_ns,
                row.working_ns / row.peer_ns,
                row.goal
            );
        }
        out
    }

    /// The same as a JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        let round = |value: f64| (value * 1000.0).round() / 1000.0;
        let rows: Vec<_> = (self.rows.iter())
            .map(|row| {
                json!({
                    "operation": row.operation,
                    "peer": row.peer,
                    "active": row.active,
                    "ns_per_page": round(row.ns),
                    "working_ns_per_page": round(row.working_ns),
                    "peer_ns_per_page": round(row.peer_ns),
                    "ratio": round(row.ratio()),
                    "goal": row.goal,
                })
            })
            .collect();
        json!({ "bench": "pmap", "pages": PAGES, "interrupts_per_run": round(self.interrupts), "rows": rows })
    }
}

/// All samples of one side.
#[derive(Default)]
struct Samples(Vec<Sample>);

impl Samples {
    fn median(&self, operation: usize, which: impl Fn(Cost) -> f64) -> f64 {
        median(self.0.iter().map(|sample| which(sample.rows()[operation])))
    }
}

/// Measures for about `time`, in at least one turn, at most `runs`.
///
/// # Panics
///
/// If the pmap does not do what it is asked for.
#[must_use]
pub fn measure(runs: usize, time: Duration) -> Report {
    let di = gencount::dispatch::init().map_or(Implementation::Locked, |choice| choice.implementation);
    // Data, tables of both, chunks of PV entries, the kernel's tables, and some to spare.
    let frames = PAGES as usize + 256;
    let system = System::new(Bare::new(frames, di)).expect("a machine that fits");
    let machine = system.machine();
    let data: Vec<Frame> = (0..PAGES).map(|_| machine.take().expect("there is enough memory")).collect();
    become_cpu(0);
    system.start_cpu();
    let space = system.create().expect("there is enough memory");
    let (over, active_there) = (AtomicBool::new(false), AtomicBool::new(false));
    let (wants_active, end) = (AtomicBool::new(false), Instant::now() + time);
    let (mut active, mut inactive, mut peer) = (Samples::default(), Samples::default(), Samples::default());
    let mut interrupts = 0;
    std::thread::scope(|scope| {
        scope.spawn(|| {
            become_cpu(1);
            system.start_cpu();
            // ORD: Acquire and Release, here and below: each side goes on when the other has done what it says.
            while !over.load(Ordering::Acquire) {
                let wanted = wants_active.load(Ordering::Acquire); // ORD: as above
                if wanted != active_there.load(Ordering::Relaxed) {
                    // ORD: Relaxed: written by this thread alone
                    if wanted {
                        space.activate()
                    } else {
                        system.activate_kernel()
                    }
                    active_there.store(wanted, Ordering::Release); // ORD: as above
                }
                if !Shootdowns::serve(machine) {
                    std::hint::spin_loop();
                }
            }
            system.stop_cpu();
        });
        let activate = |wanted: bool| {
            if wanted {
                space.activate()
            } else {
                system.activate_kernel()
            }
            wants_active.store(wanted, Ordering::Release); // ORD: as above
            // ORD: as above
            while active_there.load(Ordering::Acquire) != wanted {
                std::thread::yield_now();
            }
        };
        for _ in 0..runs {
            activate(true);
            let before = machine.interrupts();
            active.0.push(contender::pmap(&system, &space, &data));
            interrupts += machine.interrupts() - before;
            activate(false);
            inactive.0.push(contender::pmap(&system, &space, &data));
            peer.0.push(contender::offset_page_table(machine, &data));
            if Instant::now() > end {
                break;
            }
        }
        over.store(true, Ordering::Release); // ORD: as above
    });
    let mut rows = Vec::new();
    for (samples, is_active) in [(&active, true), (&inactive, false)] {
        for (index, (operation, peer_operation, goal)) in OPERATIONS.into_iter().enumerate() {
            rows.push(Row {
                operation,
                peer: peer_operation,
                active: is_active,
                ns: samples.median(index, |cost| cost.all),
                working_ns: samples.median(index, |cost| cost.working),
                peer_ns: peer.median(index, |cost| cost.all),
                goal,
            });
        }
    }
    assert!(space.destroy().is_ok(), "active nowhere");
    system.stop_cpu();
    let runs = active.0.len();
    Report { runs, cores: cores(), di, interrupts: interrupts as f64 / runs as f64, rows }
}
