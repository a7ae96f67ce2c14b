//! What a replay and a torture run have in common: a machine, a pmap on it, a checker, and the end of it.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

use gencount::Implementation;
use pmap::CpuId;
use pmap::mutation::Mutation;
use pmap::sim::{Adversary, Check, Config, CpuModel, Mode, SimMachine};

use crate::error::Error;
use crate::model::{Checker, Verify};
use crate::report::Report;
use crate::trace::ObjectInfo;
use crate::vm::{Cpu, Settings, System, Vm, VmError};

/// What the user chose for a run.
#[derive(Clone, Copy, Debug)]
pub struct Choices {
    /// CPUs of the software machine.
    pub cpus: usize,
    /// Frames of physical memory.
    pub frames: u64,
    /// Implementation of delayed invalidation; `None` is what the dispatch table says.
    pub di: Option<Implementation>,
    /// Processor that the CPUs are like.
    pub cpu_model: CpuModel,
    /// Memory domains.
    pub domains: usize,
    /// How much is compared.
    pub verify: Verify,
    /// Start of all random decisions.
    pub seed: u64,
    /// One CPU at a time, in an order that depends on the seed only.
    pub deterministic: bool,
    /// A safety mechanism to switch off.
    pub mutation: Option<Mutation>,
    /// How the pmap is set up.
    pub pmap: pmap::Options,
}

/// A run that can be started.
pub(crate) struct Run {
    pub(crate) choices: Choices,
    pub(crate) adversary: Adversary,
    pub(crate) settings: Settings,
    pub(crate) objects: BTreeMap<u32, ObjectInfo>,
}

/// The first error of any CPU. The others stop because of it.
#[derive(Default)]
pub(crate) struct FirstError(Mutex<Option<VmError>>);

impl FirstError {
    /// Keeps `error` unless there is one, and stops the run.
    pub(crate) fn stop(&self, vm: &Vm<'_>, error: VmError) {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if error != VmError::Stopped && first.is_none() {
            *first = Some(error);
        }
        drop(first);
        vm.stop();
    }

    fn take(&self) -> Option<VmError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Run {
    /// Sets everything up, runs `body` on every CPU at once, takes everything down, audits before and
    /// after, and fills in what the report says about all that. `alongside` runs on a host thread of its own meanwhile.
    pub(crate) fn execute(
        self,
        report: &mut Report,
        body: impl for<'s> Fn(&Vm<'s>, &mut Cpu<'s>) -> Result<(), VmError> + Sync,
        alongside: impl FnOnce(&dyn Fn() -> bool) + Send,
    ) -> Result<(), Error> {
        let choices = self.choices;
        let di = match choices.di {
            Some(di) => di,
            // This processor may have what the simulated one lacks.
            None if !choices.cpu_model.has_cmpxchg16b() => Implementation::Locked,
            None => gencount::dispatch::init().map_err(|e| Error::Option(e.to_string()))?.implementation(),
        };
        report.di = di.name();
        let machine = SimMachine::new(Config {
            cpus: choices.cpus,
            cpu_model: choices.cpu_model,
            domains: choices.domains,
            frames: choices.frames,
            seed: choices.seed,
            mode: if choices.deterministic { Mode::Deterministic } else { Mode::Parallel },
            di,
            adversary: self.adversary,
            check: match choices.verify {
                Verify::Full => Check::Full,
                Verify::Sample => Check::Sample,
                Verify::Off => Check::Off,
            },
            ..Config::default()
        })
        .map_err(|e| Error::Option(e.to_string()))?;
        // The pmap's own tables are made by a CPU, as everything else.
        let system = machine_system(machine, &choices)?;
        set_mutation(&system, choices.mutation)?;
        report.note_start(&system);
        let checker = Checker::new(choices.verify, self.objects.clone(), choices.cpu_model);
        let vm = Vm::new(&system, self.objects, &checker, self.settings);
        let error = FirstError::default();
        let started = std::time::Instant::now();
        let over = std::sync::atomic::AtomicBool::new(false);
        let outcome = std::thread::scope(|scope| {
            // ORD: Relaxed; looked at again and again.
            let is_over = || over.load(std::sync::atomic::Ordering::Relaxed);
            let beside = scope.spawn(move || alongside(&is_over));
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                system.machine().run_cpus(|_| {
                    system.start_cpu();
                    let mut cpu = Cpu::new(&vm, choices.seed);
                    if let Err(e) = body(&vm, &mut cpu) {
                        error.stop(&vm, e);
                    }
                    vm.deactivate(&mut cpu);
                })
            }));
            over.store(true, std::sync::atomic::Ordering::Relaxed); // ORD: as above
            beside.thread().unpark();
            outcome
        });
        report.wall_seconds = started.elapsed().as_secs_f64();
        let mut memory = None;
        match outcome {
            Err(panic) => {
                report.fail(format!("a simulated CPU panicked: {}", panic_text(panic.as_ref())));
                report.take_in(&system, &vm, &checker);
                // What is left cannot be taken down by a machine that has stopped.
                std::mem::forget(vm);
                return Ok(());
            }
            Ok(Err(e)) => return Err(Error::Setup(e.to_string())),
            Ok(Ok(_)) => match error.take() {
                Some(VmError::OutOfMemory(what)) => memory = Some(what),
                Some(VmError::Broken(what)) => report.fail(what.to_owned()),
                Some(VmError::Stopped) | None => {}
            },
        }
        finish(&system, &vm, report, &choices);
        if let Some(what) = memory {
            return Err(Error::Memory { frames: choices.frames, what });
        }
        report.take_in(&system, &vm, &checker);
        Ok(())
    }
}

/// The quiet end: audit, take every space and page down, audit again, and count frames.
fn finish(system: &System, vm: &Vm<'_>, report: &mut Report, choices: &Choices) {
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let Some(boot) = CpuId::new(0) else { return };
        system.machine().run_cpu(boot, || {
            let mut cpu = Cpu::new(vm, choices.seed);
            audit(system, report, "before the end");
            for number in vm.space_numbers() {
                if vm.exit(&mut cpu, number).is_err() {
                    report.fail(format!("address space {number} could not be taken down"));
                }
            }
            vm.release_objects();
            audit(system, report, "at the end");
            report.check_nothing_left(system);
        });
    }));
    if let Err(panic) = outcome {
        report.fail(format!("taking everything down panicked: {}", panic_text(panic.as_ref())));
    }
}

fn audit(system: &System, report: &mut Report, when: &str) {
    let mut found = Vec::new();
    system.audit(|error| found.push(error));
    for error in found {
        report.audit_error(format!("{error} ({when})"));
    }
}

fn machine_system(machine: SimMachine, choices: &Choices) -> Result<System, Error> {
    System::with_options(machine, choices.pmap).map_err(|e| match e {
        pmap::SystemError::Shortage => {
            Error::Memory { frames: choices.frames, what: "the kernel's page tables" }
        }
        other => Error::Setup(other.to_string()),
    })
}

#[cfg(feature = "mutations")]
fn set_mutation(system: &System, mutation: Option<Mutation>) -> Result<(), Error> {
    system.set_mutation(mutation);
    Ok(())
}

#[cfg(not(feature = "mutations"))]
fn set_mutation(_: &System, mutation: Option<Mutation>) -> Result<(), Error> {
    match mutation {
        None => Ok(()),
        Some(_) => Err(Error::Option(
            "--mutation needs a test build: cargo run --release --features mutations -- …".to_owned(),
        )),
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
