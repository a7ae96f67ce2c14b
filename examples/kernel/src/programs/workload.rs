//! What programs with user processes have in common: memory of their own, a page daemon, and the accounts at the end.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use pmap::mutation::Mutation;
use turnstile::Priority;

use super::report::Report;
use crate::abi::Tally;
use crate::boot::BootInfo;
use crate::machine;
use crate::process::Run;
use crate::sched::{self, Handle};
use crate::vm::{Sizes, Vm};

/// What user programs count, by the names of the report's figures.
const TALLIES: &[(&str, Tally)] = &[
    ("steps", Tally::Steps),
    ("pages_checked", Tally::PagesChecked),
    ("wild_stores", Tally::WildStores),
    ("wild_faults", Tally::WildFaults),
    ("process_copies", Tally::Forks),
];

/// The usual priority of user threads.
pub(crate) const USER: Priority = Priority::new(100);
/// The page daemon's: it must come through when everybody wants memory.
pub(crate) const DAEMON: Priority = Priority::new(160);

/// What the page daemon does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Daemon {
    /// Keeps some frames free.
    Balances,
    /// Takes every page that somebody is unmapping, too, as soon as it can.
    Pounces,
}

/// A workload's surroundings.
pub(crate) struct Workload {
    pub(crate) vm: &'static Vm,
    pub(crate) run: Arc<Run>,
    daemon: Handle,
    stop: Arc<AtomicBool>,
}

impl Workload {
    /// Takes memory, loads the user program and starts the page daemon.
    ///
    /// # Errors
    ///
    /// What is missing, in a sentence.
    pub(crate) fn begin(info: &'static BootInfo, sizes: Sizes, does: Daemon) -> Result<Self, String> {
        let system = machine::system().ok_or("the pmap is not set up")?;
        let vm = Vm::new(system, sizes).map_err(|_| {
            format!("no memory for {} pages: give the machine more", sizes.frames + sizes.swap)
        })?;
        let run = Run::new(vm, info.module, None).map_err(|error| error.to_string())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let daemon = sched::spawn("page daemon", DAEMON, move || {
            // ORD: Relaxed; looked at again and again.
            let stop = || stopped.load(Ordering::Relaxed);
            match does {
                Daemon::Balances => vm.run_daemon(stop),
                Daemon::Pounces => vm.run_pouncing_daemon(stop),
            }
        });
        let daemon = daemon.map_err(|error| error.to_string())?;
        Ok(Self { vm, run, daemon, stop })
    }

    /// Waits for all processes, and reports what was done.
    pub(crate) fn report(&self, report: &mut Report) {
        self.run.wait_for_all();
        for (name, tally) in TALLIES {
            report.figure(name, self.run.tally(*tally));
        }
        for (name, value) in self.vm.counts().iter() {
            report.figure(name, value);
        }
    }

    /// Waits for all processes, ends the daemon, and looks whether everything has come back.
    pub(crate) fn end(self) {
        self.run.wait_for_all();
        self.stop.store(true, Ordering::Relaxed); // ORD: Relaxed; looked at again and again
        self.daemon.join();
        self.run.end();
        self.vm.retire();
    }
}

/// Switches a mechanism off, or all on.
#[cfg_attr(not(feature = "mutations"), expect(unused_variables, reason = "there is nothing to switch"))]
pub(super) fn set_mutation(mutation: Option<Mutation>) {
    #[cfg(feature = "mutations")]
    if let Some(system) = machine::system() {
        system.set_mutation(mutation);
    }
}
