//! Random concurrent work with every check on: what no recorded program does in this density.
//!
//! A few address spaces, each run by several CPUs, show the same objects many times over; memory is so
//! small that every frame changes hands all the time. Each CPU changes only its own *lanes* (ranges of addresses)
//! in each space, so that no two changes of one range overlap; but every CPU reads, writes and executes in
//! all of them, and any CPU evicts any page at any time. Fork, exec and exit exclude other
//! work in the space.

mod lane;
mod step;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use pmap::PvLocking;
use pmap::sim::{Adversary, CpuModel};

use crate::error::Error;
use crate::report::Report;
use crate::run::{Choices, Run};
use crate::trace::{ObjectInfo, ObjectKind};
use crate::vm::Settings;

use lane::{FILE, PRIVATE_FILE, SHARED_MEMORY};
use step::World;

/// How long to go on: until one of the two is reached.
#[derive(Clone, Copy, Debug, Default)]
pub struct Duration {
    /// Wall time; 10 seconds if neither is given.
    pub seconds: Option<u64>,
    /// Steps of each CPU.
    pub steps: Option<u64>,
}

/// When the CPUs stop.
pub(crate) struct Limit {
    started: Instant,
    seconds: u64,
    steps: u64,
    over: AtomicBool,
    /// Steps of all CPUs, and the most that one has done.
    total: AtomicU64,
    most: AtomicU64,
}

impl Limit {
    fn new(duration: Duration) -> Self {
        let seconds = match duration {
            Duration { seconds: Some(seconds), .. } => seconds,
            Duration { steps: Some(_), .. } => u64::MAX,
            _ => 10,
        };
        Self {
            started: Instant::now(),
            seconds,
            steps: duration.steps.unwrap_or(u64::MAX),
            over: AtomicBool::new(false),
            total: AtomicU64::new(0),
            most: AtomicU64::new(0),
        }
    }

    /// Whether a CPU that has done `steps` goes on. A failure ends the run.
    fn goes_on(&self, steps: u64, failed: impl FnOnce() -> bool) -> bool {
        // ORD: Relaxed throughout; looked at again and again, and read for good after all CPUs have ended.
        self.most.fetch_max(steps, Ordering::Relaxed);
        if steps >= self.steps || self.over.load(Ordering::Relaxed) {
            return false;
        }
        // Not at every step: both questions cost something.
        if steps.is_multiple_of(16) && (self.started.elapsed().as_secs() >= self.seconds || failed()) {
            self.over.store(true, Ordering::Relaxed); // ORD: as above
            return false;
        }
        self.total.fetch_add(1, Ordering::Relaxed); // ORD: as above
        true
    }
}

/// Runs the torture.
///
/// # Errors
/// If a machine like that cannot be set up. What the checks found is in the report.
pub fn torture(choices: Choices, duration: Duration) -> Result<Report, Error> {
    let cpus = choices.cpus;
    let choices = Choices { frames: 160 + 48 * cpus as u64, ..choices };
    let mut report = Report::new("torture", &choices);
    let limit = Limit::new(duration);
    let objects: BTreeMap<u32, ObjectInfo> = [
        (FILE, "a shared file", ObjectKind::File),
        (PRIVATE_FILE, "a program", ObjectKind::File),
        (SHARED_MEMORY, "shared memory", ObjectKind::Anonymous),
    ]
    .map(|(number, name, kind)| (number, ObjectInfo { name: name.to_owned(), kind }))
    .into();
    let run = Run {
        choices,
        // Passing the baton costs far more than a point does, and a window worth hitting has several points.
        adversary: Adversary { switch_one_in: 24, ..Adversary::fierce() },
        settings: Settings { prefault_one_in: 2, wire_one_in: 16, low_water: 12, wild_stores: true },
        objects,
    };
    let world = World::new(cpus);
    run.execute(&mut report, |vm, cpu| world.work(vm, cpu, &limit), |_| {})?;
    // ORD: Relaxed, both; all CPUs have ended.
    report.events = limit.total.load(Ordering::Relaxed);
    let most = limit.most.load(Ordering::Relaxed); // ORD: as above
    report.faults = report.counters.get("page_faults").copied().unwrap_or(0);
    report.conclude();
    if !report.ok {
        // One more than any CPU did, so that it is again the failure that ends the run.
        report.repeat = command(&choices, most + 1);
    }
    Ok(report)
}

/// The command that does the same again.
fn command(choices: &Choices, steps: u64) -> String {
    let mut command =
        format!("pmaplab torture --cpus {} --seed {} --steps {steps}", choices.cpus, choices.seed);
    if choices.deterministic {
        command += " --deterministic";
    }
    if choices.domains != 1 {
        command += &format!(" --domains {}", choices.domains);
    }
    if choices.cpu_model != CpuModel::default() {
        command += &format!(" --cpu-model {}", choices.cpu_model);
    }
    if let Some(di) = choices.di {
        command += &format!(" --di {di}");
    }
    if let Some(mutation) = choices.mutation {
        command += &format!(" --mutation {mutation}");
    }
    if let Some(tlb) = choices.pmap.tlb {
        command += &format!(" --tlb {tlb}");
    }
    if choices.pmap.pv_locking != PvLocking::default() {
        command += &format!(" --pv-locks {}", choices.pmap.pv_locking);
    }
    if let Some(limit) = choices.pmap.pv_chunk_limit {
        command += &format!(" --pv-chunks {limit}");
    }
    if !choices.deterministic {
        command +=
            " (the CPUs ran in parallel, so it may take several attempts; --deterministic repeats exactly)";
    }
    command
}
