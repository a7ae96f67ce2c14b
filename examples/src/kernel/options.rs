//! What the user chose.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use pmap::mutation::Mutation;

use crate::cli::parse_memory;
use crate::error::Error;
use crate::replay::Memory;

/// Options of `pmaplab kernel`.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// CPUs.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub smp: u16,
    /// Processor: max, no-cx16, no-nx, no-1g, or a model that QEMU or Bochs knows [default: max, corei7_skylake_x].
    #[arg(long, value_name = "MODEL", value_parser = cpu_model)]
    pub cpu: Option<String>,
    /// Who executes the kernel.
    #[arg(long, value_enum, default_value = "qemu")]
    pub emulator: Emulator,
    /// What the kernel does; it lists what it knows when it does not know this.
    #[arg(long, default_value = "selftest", value_parser = program)]
    pub program: String,
    /// How long it does so, where it is up to us.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub seconds: u32,
    /// How QEMU runs the CPUs: a host thread each, in turn, or in turn by a clock that counts instructions [default: parallel;
    /// deterministic for --program figures].
    #[arg(long, value_enum)]
    pub accel: Option<Accel>,
    /// Memory of the machine.
    #[arg(long, value_name = "MIB", default_value_t = 512, value_parser = clap::value_parser!(u32).range(128..=65_536))]
    pub memory: u32,
    /// Implementation of delayed invalidation [default: what the dispatch table says for the processor].
    #[arg(long, value_parser = ["auto", "locked", "lockfree", "sharded"])]
    pub di: Option<String>,
    /// How the pmap manages cached translations [default: the best that the processor has].
    #[arg(long, value_parser = ["auto", "no-pcid", "pcid", "invpcid"])]
    pub tlb: Option<String>,
    /// Start of all random decisions.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Whether turnstiles lend priority.
    #[arg(long, value_parser = ["on", "off"])]
    pub lending: Option<String>,
    /// Whether an operation of the pmap flushes once, or for each translation.
    #[arg(long, value_parser = ["on", "off"])]
    pub batching: Option<String>,
    /// Whether the pmap spares CPUs that do not run an address space the interrupts for it.
    #[arg(long, value_parser = ["on", "off"])]
    pub lazy: Option<String>,
    /// Whether a CPU keeps an address space loaded while it runs threads of the kernel.
    #[arg(long, value_parser = ["on", "off"])]
    pub keep: Option<String>,
    /// Trace for --program replay [default: the one that comes with pmaplab].
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Replay only so many events of it, from the first on [default: as many as the machine's memory has room for].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub events: Option<u32>,
    /// Frames for the contents of pages: a number, or a percentage of what the events need at most, such as 60%; the page
    /// daemon takes and returns the rest [default: most of the machine's memory].
    #[arg(long, value_name = "N|P%", value_parser = parse_memory)]
    pub frames: Option<Memory>,
    /// Stop the emulator after this many seconds [default: --seconds and a generous allowance for the emulator].
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u32).range(1..=604_800))]
    pub time_limit: Option<u32>,
    /// Boot the files `kernel` and `init` of this folder instead of building them.
    #[arg(long, value_name = "FOLDER")]
    pub built: Option<PathBuf>,
    /// One line of JSON, the last on standard output.
    #[arg(long)]
    pub json: bool,
    /// Switch one safety mechanism off, to see that the checks notice.
    #[arg(long, hide = true, value_parser = mutation)]
    pub mutation: Option<Mutation>,
}

/// The program that counts instructions and interrupts.
const FIGURES: &str = "figures";

/// Who executes the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Emulator {
    /// QEMU, translating (TCG).
    Qemu,
    /// Bochs, interpreting.
    Bochs,
}

impl Emulator {
    /// Its name in sentences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "QEMU",
            Self::Bochs => "Bochs",
        }
    }
}

/// How QEMU runs the CPUs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Accel {
    /// Each on a host thread of its own.
    Parallel,
    /// In turn on one host thread.
    Single,
    /// In turn, with a clock that advances by executed instructions: two runs are the same.
    Deterministic,
}

impl Options {
    /// Looks for what belongs together and is not.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.emulator == Emulator::Bochs && self.accel.is_some() {
            return Err(Error::Option("--accel is a choice of QEMU; Bochs is deterministic".to_owned()));
        }
        let is_for_replay = self.trace.is_some() || self.events.is_some() || self.frames.is_some();
        if is_for_replay && !self.is_replay() {
            return Err(Error::Option("--trace, --events and --frames are for --program replay".to_owned()));
        }
        Ok(())
    }

    /// Whether a recorded trace is to be replayed.
    pub(super) fn is_replay(&self) -> bool {
        self.program == "replay"
    }

    /// The CPU model. Bochs' has PCIDs, INVPCID and x2APIC, which QEMU's translator lacks.
    pub(super) fn cpu(&self) -> &str {
        self.cpu.as_deref().unwrap_or(match self.emulator {
            Emulator::Qemu => "max",
            Emulator::Bochs => "corei7_skylake_x",
        })
    }

    /// Whether the kernel must have the switches that turn safety mechanisms off.
    pub(super) fn needs_mutations(&self) -> bool {
        self.mutation.is_some() || self.program == "counter_proof"
    }

    /// Whether figures are wanted, which the same run must give again.
    pub(super) fn repeats(&self) -> bool {
        let counts = self.emulator == Emulator::Bochs || self.accel() == Accel::Deterministic;
        self.program == FIGURES && counts
    }

    /// How CPUs are run.
    pub(super) fn accel(&self) -> Accel {
        let default = if self.program == FIGURES { Accel::Deterministic } else { Accel::Parallel };
        self.accel.unwrap_or(default)
    }

    /// What the kernel is told.
    pub(super) fn command_line(&self) -> String {
        let Self { program, seconds, seed, .. } = self;
        let mut line = format!("program={program} seconds={seconds} seed={seed}");
        let choices = [
            ("di", &self.di),
            ("tlb", &self.tlb),
            ("lending", &self.lending),
            ("batching", &self.batching),
            ("lazy", &self.lazy),
            ("keep", &self.keep),
        ];
        for (name, choice) in choices {
            if let Some(choice) = choice {
                line += &format!(" {name}={choice}");
            }
        }
        if let Some(mutation) = self.mutation {
            line += &format!(" mutation={}", mutation.name());
        }
        line
    }

    /// How long the emulator may run. A second of the guest is a second of the host only where the guest's clock
    /// is the host's; elsewhere it takes as long as the emulator needs for the instructions of a second.
    pub(super) fn time_limit(&self) -> Duration {
        let (boot, per_second) = match (self.emulator, self.accel()) {
            (Emulator::Qemu, Accel::Parallel | Accel::Single) => (120, 2),
            (Emulator::Qemu, Accel::Deterministic) => (240, 20),
            (Emulator::Bochs, _) => (240, 30),
        };
        let default = boot + per_second * u64::from(self.seconds);
        Duration::from_secs(self.time_limit.map_or(default, u64::from))
    }
}

/// A word of the kernel's command line, where names are written with underscores.
fn program(text: &str) -> Result<String, String> {
    let good = !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
    if good {
        Ok(text.replace('-', "_"))
    } else {
        Err("only letters, digits, - and _ make a name".to_owned())
    }
}

/// A CPU model goes into an emulator's option or configuration file.
fn cpu_model(text: &str) -> Result<String, String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-_+,.=".contains(&b);
    if !text.is_empty() && text.bytes().all(good) {
        Ok(text.to_owned())
    } else {
        Err("that is no name of a CPU model".to_owned())
    }
}

fn mutation(name: &str) -> Result<Mutation, String> {
    name.parse().map_err(|e: pmap::mutation::UnknownMutation| e.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &str) -> Result<Options, String> {
        let words = std::iter::once("kernel").chain(line.split_whitespace());
        Line::try_parse_from(words).map(|line| line.options).map_err(|e| e.to_string())
    }

    #[test]
    fn choices_reach_the_command_line() {
        let line = |text| parse(text).unwrap().command_line();
        assert_eq!(line(""), "program=selftest seconds=10 seed=1");
        assert_eq!(
            line("--program di-bench --seconds 3 --seed 9 --di locked --tlb pcid --lending off --lazy on"),
            "program=di_bench seconds=3 seed=9 di=locked tlb=pcid lending=off lazy=on"
        );
        assert!(line("--mutation forget-shootdown").ends_with(" mutation=forget-shootdown"));
    }

    #[test]
    fn figures_are_counted_twice_where_that_must_give_the_same() {
        let repeats = |text| parse(text).unwrap().repeats();
        assert!(repeats("--program figures") && repeats("--program figures --emulator bochs"));
        assert!(!repeats("--program figures --accel parallel") && !repeats("--accel deterministic"));
    }

    #[test]
    fn nonsense_is_refused() {
        for bad in [
            "--smp 0",
            "--smp 65",
            "--program self=test",
            "--program ''",
            "--cpu max;rm",
            "--emulator xen",
            "--seconds 0",
            "--di magic",
            "--tlb invlpgb",
            "--lending perhaps",
            "--accel fast",
            "--memory 64",
            "--mutation no-such-thing",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert!(parse("--emulator bochs --accel single").unwrap().check().is_err());
        assert!(parse("--events 5").unwrap().check().is_err());
        assert!(parse("--frames 60%").unwrap().check().is_err());
        assert!(parse("--program replay --frames 60%").unwrap().check().is_ok());
        assert!(parse("--emulator bochs --program replay --events 5").unwrap().check().is_ok());
    }

    #[test]
    fn the_time_limit_grows_with_the_work_and_with_slowness() {
        let limit = |text| parse(text).unwrap().time_limit();
        assert!(limit("--seconds 60") > limit("--seconds 10"));
        assert!(limit("--accel deterministic") > limit("--accel single"));
        assert!(limit("--emulator bochs") > limit(""));
        assert_eq!(limit("--seconds 60 --time-limit 5"), Duration::from_secs(5));
    }
}
