//! Replays a recorded trace: a thread for each recorded CPU does what that CPU did, in address spaces of this kernel's, on the MMU of whatever
//! runs it. What each page must show is known from a model (`shadow`) that has no pages.
//!
//! The order between CPUs is the trace's (`ledger`); between events the threads go back to where they have been (`touch`), which nothing orders.

mod event;
mod lane;
mod ledger;
mod shadow;
mod spaces;
mod tally;
mod touch;
mod visits;

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use pmap::CpuId;

use super::arguments::Arguments;
use super::report::Report;
use super::torture::accounts;
use super::workload::{USER, set_mutation};
use crate::arch::percpu;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use crate::memory::frames;
use crate::sched::{self, Handle, Mutex, TICKS_PER_SECOND};
use crate::trace::{ObjectKind, Stream};
use crate::vm::{self, Object, Sizes, Space, Vm, visit};
use crate::{machine, process};
use lane::Lane;
use ledger::Ledger;
use shadow::Objects;
use spaces::{Living, Spaces};
use tally::{Tally, What};

/// Rounds in which CPUs get the opportunity to leave a space that ends, before they are waited for in earnest.
const ROUNDS: usize = 1000;

/// A replay.
struct Replay {
    vm: &'static Vm,
    stream: Stream<'static>,
    ledger: Ledger,
    spaces: Spaces,
    /// What can be mapped, by number, from 1.
    files: Mutex<Vec<Arc<Object>>>,
    /// What they must show.
    objects: Mutex<Objects>,
    /// Whose turn it is to store to a page of an object.
    turn: Mutex<()>,
    tally: Tally,
}

/// Replays the file `trace` of the boot module.
pub(crate) fn run(arguments: &Arguments, info: &'static BootInfo) -> Report {
    let mut report = Report::new("replay");
    let free_before = frames::free_count();
    match Replay::prepare(arguments, info) {
        Ok(replay) => replay.run(arguments, free_before, &mut report),
        Err(error) => report.check("there is a trace, and memory to replay it", false, || error),
    }
    report
}

/// How the machine's memory is divided, `frames` of it being for the contents of pages.
fn sizes(frames: Option<usize>) -> Sizes {
    let free = frames::free_count() as usize;
    // The rest is for page tables, PV entries, and what goes to swap.
    let frames = frames.unwrap_or(free / 4 * 3);
    Sizes {
        frames,
        swap: free.saturating_sub(frames) / 2,
        low_water: (frames / 64).clamp(16, 512),
        poisons: true,
    }
}

impl Replay {
    fn prepare(arguments: &Arguments, info: &'static BootInfo) -> Result<Arc<Self>, String> {
        let system = machine::system().ok_or("the pmap is not set up")?;
        let bytes = process::boot_file(info.module, "trace").map_err(|error| error.to_string())?;
        let stream = Stream::open(bytes).map_err(|error| error.to_string())?;
        let sizes = sizes(arguments.frames);
        let vm = Vm::new(system, sizes).map_err(|_| {
            format!("no memory for {} pages: give the machine more", sizes.frames + sizes.swap)
        })?;
        let files = (1..=stream.object_count()).filter_map(|number| stream.object(number).zip(Some(number)));
        let files = files.map(|(object, number)| match object.kind {
            ObjectKind::Anonymous => Object::anonymous(vm),
            ObjectKind::File | ObjectKind::Kernel => Object::made_up(vm, number),
        });
        let initial = move |object, page, index| match stream.object(object).map(|object| object.kind) {
            Some(ObjectKind::Anonymous) => 0,
            _ => vm::made_up_word(object, page, index),
        };
        Ok(Arc::new(Self {
            vm,
            stream,
            ledger: Ledger::new(&stream),
            spaces: Spaces::new(stream.space_count()),
            files: Mutex::new(files.collect()),
            objects: Mutex::new(Objects::new(initial)),
            turn: Mutex::new(()),
            tally: Tally::default(),
        }))
    }

    fn object(&self, number: u32) -> Option<Arc<Object>> {
        self.files.lock().get((number as usize).checked_sub(1)?).cloned()
    }

    fn run(self: Arc<Self>, arguments: &Arguments, free_before: u64, report: &mut Report) {
        let begun = sched::ticks();
        set_mutation(arguments.mutation);
        let stop = Arc::new(AtomicBool::new(false));
        match self.start(arguments.seed, &stop) {
            Ok((daemon, lanes)) => {
                self.watch(&lanes);
                lanes.into_iter().for_each(Handle::join);
                stop.store(true, Ordering::Relaxed); // ORD: Relaxed; looked at again and again
                daemon.join();
            }
            Err(no_stack) => report.check("the threads start", false, || no_stack.to_string()),
        }
        set_mutation(None);
        report.figure("ticks", sched::ticks() - begun);
        self.audit("the audit before the spaces end", report);
        let mut lane = Lane::new(self.clone(), arguments.seed);
        for number in self.spaces.numbers() {
            // It is there: nobody else is left who could end it.
            let _ = lane.exit(number);
        }
        self.files.lock().clear();
        self.vm.retire();
        self.judge(report);
        accounts(report, self.vm.system(), free_before);
    }

    /// Starts the page daemon, and a thread for each recorded CPU.
    fn start(
        self: &Arc<Self>,
        seed: u64,
        stop: &Arc<AtomicBool>,
    ) -> Result<(Handle, Vec<Handle>), sched::NoStack> {
        let (vm, stopped) = (self.vm, stop.clone());
        // No more urgent than the threads that replay: they cannot go to another CPU when it wants theirs, and wait for each other.
        let daemon = sched::spawn("page daemon", USER, move || {
            // ORD: Relaxed; as in `run`.
            vm.run_daemon(|| stopped.load(Ordering::Relaxed));
        })?;
        let cpus: Vec<CpuId> = (0..percpu::cpu_count()).filter_map(CpuId::new).collect();
        let lanes = (0..self.stream.cpus()).zip(cpus.iter().cycle()).map(|(recorded, cpu)| {
            let mut lane = Lane::new(self.clone(), seed ^ u64::from(recorded) << 32);
            sched::spawn_on(*cpu, "replay", USER, move || lane.work(recorded))
        });
        let lanes: Result<Vec<Handle>, _> = lanes.collect();
        if lanes.is_err() {
            self.ledger.stop();
            // ORD: Relaxed; as in `run`.
            stop.store(true, Ordering::Relaxed);
        }
        Ok((daemon, lanes?))
    }

    /// Says how far it is until it is over.
    fn watch(&self, lanes: &[Handle]) {
        let mut next = sched::ticks() + TICKS_PER_SECOND;
        while !lanes.iter().all(Handle::is_finished) {
            sched::sleep(4);
            if sched::ticks() >= next {
                next += TICKS_PER_SECOND;
                println!(
                    "  {} of {} steps, {} free frames",
                    self.ledger.steps(),
                    self.steps(),
                    self.vm.free_frames()
                );
            }
        }
    }

    /// Steps in all.
    fn steps(&self) -> u64 {
        (0..self.stream.cpus()).map(|cpu| u64::from(self.stream.step_count(cpu))).sum()
    }

    /// Takes a space apart that is in nobody's reach any more, once everybody has left it.
    fn end(&self, mut living: Arc<Living>) {
        let living = loop {
            match Arc::try_unwrap(living) {
                Ok(living) => break living,
                Err(shared) => {
                    living = shared;
                    sched::yield_now();
                }
            }
        };
        leave_cpus(&living.space);
        // Loaded here and nowhere else: that is the fast way.
        visit::enter(&living.space);
        living.space.clear();
        visit::leave();
        leave_cpus(&living.space);
    }

    fn audit(&self, name: &str, report: &mut Report) {
        let mut errors = Vec::new();
        let count = self.vm.system().audit(|error| {
            if errors.len() < 4 {
                errors.push(error);
            }
        });
        report.check(name, count == 0, || format!("{count} errors: {errors:?}"));
    }

    /// What was seen, and whether it was enough to mean something.
    fn judge(&self, report: &mut Report) {
        let (violations, tally) = (self.vm.violations(), &self.tally);
        report.check("every page showed what it must", violations.count() == 0, || {
            format!("{} times not: {}", violations.count(), violations.texts().join("; "))
        });
        let (done, all) = (self.ledger.steps(), self.steps());
        report.check("every step was taken", done == all, || format!("{done} of {all}"));
        let (events, skipped) = (self.stream.events(), tally.skipped());
        report.check("few events were skipped", skipped * 100 <= events, || format!("{skipped} of {events}"));
        report.check(
            "pages were looked at",
            tally.get(What::Loads) > 0 && tally.get(What::Stores) > 0,
            || "no load and store was compared".into(),
        );
        report.figure("events", events);
        report.figure("recorded_cpus", self.stream.cpus());
        for (name, value) in tally.iter().chain(self.vm.counts().iter()) {
            report.figure(name, value);
        }
        let statistics = self.vm.system().statistics();
        report.figure("enters", statistics.enters);
        report.figure("removes", statistics.removes);
        report.figure("remove_all", statistics.remove_all_calls);
        report.figure("remove_pages", statistics.remove_pages_calls);
        report.figure("ipis_saved_lazy", statistics.ipis_saved_lazy);
        report.figure("ipis_saved_batching", statistics.ipis_saved_batching);
        let invalidation = sched::domain().counters();
        report.figure("di_sections", invalidation.di_blocks);
        report.figure("di_waits", invalidation.di_wait_calls);
        report.figure("di_waits_for_somebody", invalidation.invl_wait);
        report.figure("frames", self.vm.frames());
    }
}

/// Has CPUs leave a space that no thread is in, and gives them the opportunity.
fn leave_cpus(space: &Space) {
    for _ in 0..ROUNDS {
        if space.pmap().active_cpus().is_empty() {
            return;
        }
        sched::leave_address_spaces();
        sched::yield_now();
    }
}
