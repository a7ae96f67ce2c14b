//! Watching an emulator until it ends.

use std::fs::{self, File};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::emulator::Process;
use super::serial::Tail;
use super::{Boot, setup};
use crate::error::Error;

/// Time between looks at the serial line.
const LOOK: Duration = Duration::from_millis(20);
/// After so long a silence we say something.
const SILENCE: Duration = Duration::from_secs(10);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// By itself, with this exit code; none if a signal killed it.
    Exited(Option<i32>),
    /// Its time was up.
    TimedOut,
}

/// Where the guest's lines go, but for its report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Show {
    /// To standard output.
    AsOutput,
    /// To standard error.
    Aside,
    /// Nowhere.
    Nothing,
}

/// What a run gave.
#[derive(Debug)]
pub(super) struct Ran {
    pub(super) end: End,
    /// The guest's report: its last line that looks like a JSON object.
    pub(super) report: Option<String>,
    /// Whether the guest said anything.
    pub(super) spoke: bool,
    /// What the emulator itself wrote, and its log if it keeps one.
    pub(super) emulator_said: String,
    pub(super) wall: Duration,
}

/// Whether somebody wants us to stop: Ctrl-C, or a signal that asks us to terminate.
pub(super) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// From now on such signals are noticed here instead of ending the program.
    pub(super) fn catch() -> Result<Self, Error> {
        let flag = Arc::new(AtomicBool::new(false));
        let set = Arc::clone(&flag);
        // ORD: Relaxed; nothing but the flag itself passes.
        ctrlc::set_handler(move || set.store(true, Ordering::Relaxed))
            .map_err(|e| Error::Setup(format!("cannot watch for signals: {e}")))?;
        Ok(Self(flag))
    }

    fn is_due(&self) -> bool {
        // ORD: Relaxed; pairs with the handler, see there.
        self.0.load(Ordering::Relaxed)
    }
}

/// Runs `command` until it ends, its time is up, or `interrupt`.
pub(super) fn run(
    boot: &Boot<'_>,
    command: Command,
    interrupt: &Interrupt,
    show: Show,
) -> Result<Ran, Error> {
    let options = boot.options;
    let limit = options.time_limit();
    let output = boot.scratch.join("output");
    let mut tail = Tail::create(&boot.serial).map_err(setup("a serial line"))?;
    let log = File::create(&output).map_err(setup("a log"))?;
    eprintln!(
        "pmaplab: booting on {} CPUs of {}: {}",
        options.smp,
        options.emulator.name(),
        boot.command_line
    );
    let start = Instant::now();
    let mut process = Process::start(command, log).map_err(setup("a process"))?;
    let mut listener = Listener { show, report: None, spoke: false, last: start };
    let unreadable = |e| Error::Setup(format!("cannot follow the emulator: {e}"));
    let end = loop {
        let ended = process.ended().map_err(unreadable)?;
        tail.lines(|line| listener.line(line)).map_err(unreadable)?;
        if interrupt.is_due() {
            return Err(Error::Interrupted);
        }
        if let Some(status) = ended {
            break End::Exited(ExitStatus::code(&status));
        }
        if start.elapsed() >= limit {
            process.stop();
            break End::TimedOut;
        }
        listener.mind_silence(start);
        std::thread::sleep(LOOK);
    };
    tail.finish(|line| listener.line(line)).map_err(unreadable)?;
    let read = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let mut emulator_said = read(output).unwrap_or_default();
    emulator_said += &read(boot.scratch.join("bochs.log")).unwrap_or_default();
    let Listener { report, spoke, .. } = listener;
    Ok(Ran { end, report, spoke, emulator_said, wall: start.elapsed() })
}

/// Shows lines as they come, and keeps the report.
struct Listener {
    show: Show,
    report: Option<String>,
    spoke: bool,
    /// When the guest, or failing that we, last said something.
    last: Instant,
}

impl Listener {
    fn line(&mut self, line: &str) {
        self.last = Instant::now();
        self.spoke = true;
        if line.starts_with('{') {
            self.report = Some(line.to_owned());
        } else {
            match self.show {
                Show::AsOutput => println!("{line}"),
                Show::Aside => eprintln!("{line}"),
                Show::Nothing => {}
            }
        }
    }

    fn mind_silence(&mut self, start: Instant) {
        if self.last.elapsed() >= SILENCE {
            self.last = Instant::now();
            eprintln!("pmaplab: {} s, the guest is still running", start.elapsed().as_secs());
        }
    }
}
