//! The command line.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand, ValueEnum};
use gencount::Implementation;
use pmap::mutation::{self, Mutation};
use pmap::sim::CpuModel;
use pmap::{Options as PmapOptions, PvLocking, TlbMethod};

use crate::bench::{Bench, Mix};
use crate::error::{EXIT_FAILED, EXIT_INPUT, EXIT_OK, Error};
use crate::model::Verify;
use crate::replay::{Choices, Display, Memory, Options, replay};
use crate::report::{Report, combined};
use crate::torture::{self, Duration};
use crate::{bench, dispatch, flush_cost, kernel, trace};

/// Recorded programs on the pmap and a software machine that behaves as badly as the architecture permits.
///
/// Without a command, replays the trace that comes with the program. Exit codes: 0 every check held, 1 a check
/// failed, 2 wrong usage or unusable input.
#[derive(Parser, Debug)]
#[command(name = "pmaplab", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    bundled: ReplayArgs,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Replay recorded traces (NAME.trace.gz; NAME.switch.gz beside it is used if it is there).
    Replay {
        /// Traces.
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        args: ReplayArgs,
    },
    /// Random concurrent work on several address spaces, little memory, every check on.
    Torture(TortureArgs),
    /// Build a small kernel on the pmap and boot it in an emulator (QEMU, Bochs), whose MMU is not ours.
    Kernel(Box<kernel::Options>),
    /// Measure the concurrency crates beside their peers: generation counting, the queue, mutexes.
    Bench(BenchArgs),
    /// Measure what it costs this processor to invalidate translations page by page, or all (Linux).
    FlushCost {
        /// One line of JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Show which implementation of delayed invalidation this processor gets, and why.
    Cpu {
        /// One line of JSON instead.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args, Debug)]
struct Common {
    /// Implementation of delayed invalidation.
    #[arg(long, value_enum, default_value = "auto")]
    di: Di,
    /// Processor that the simulated CPUs are like: athlon64 (no CMPXCHG16B), core2 (no PCIDs), sandybridge (PCIDs),
    /// haswell (INVPCID), alderlake (an erratum of INVLPG), zen3 (INVLPGB).
    #[arg(long, value_name = "NAME", default_value_t = CpuModel::default())]
    cpu_model: CpuModel,
    /// Start of all random decisions.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run one CPU at a time, in an order that depends on the seed only.
    #[arg(long)]
    deterministic: bool,
    /// How the pmap manages cached translations: no-pcid, pcid, invpcid, invlpgb [default: the best that the processor has].
    #[arg(long, value_name = "NAME")]
    tlb: Option<TlbMethod>,
    /// Memory domains (NUMA nodes), no more than CPUs.
    #[arg(long, default_value_t = 1)]
    domains: usize,
    /// How pages share the locks of their lists of mappings.
    #[arg(long, value_enum, default_value = "hashed")]
    pv_locks: PvLocks,
    /// Most pages for the reverse maps of all address spaces, 168 mappings each; beyond that mappings are taken
    /// away from whoever has the oldest.
    #[arg(long)]
    pv_chunks: Option<u64>,
    /// One line of JSON, the last on standard output.
    #[arg(long)]
    json: bool,
    /// Switch one safety mechanism off, to see that the checks notice (test builds only).
    #[arg(long, hide = true, value_parser = parse_mutation)]
    mutation: Option<Mutation>,
}

#[derive(Args, Debug)]
struct ReplayArgs {
    #[command(flatten)]
    common: Common,
    /// Simulated CPUs [default: those of the recording, with every event on its recorded CPU].
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=64))]
    cpus: Option<u16>,
    /// How many answers of the pmap are compared with the model.
    #[arg(long, value_enum, default_value = "full")]
    verify: Verify,
    /// Physical memory: a number of 4 KiB frames, or a percentage of what the trace needs, such as 60%.
    #[arg(long, value_parser = parse_memory)]
    frames: Option<Memory>,
}

#[derive(Args, Debug)]
struct TortureArgs {
    #[command(flatten)]
    common: Common,
    /// Simulated CPUs.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    cpus: u16,
    /// How long [default: 10 seconds, unless --steps is given].
    #[arg(long)]
    seconds: Option<u64>,
    /// Stop after this many steps of each CPU.
    #[arg(long)]
    steps: Option<u64>,
}

#[derive(Args, Debug)]
struct BenchArgs {
    /// What to measure.
    #[arg(value_enum)]
    bench: Bench,
    /// Numbers of threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2,4,8,32", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// How often threads wait: pairs (never), or wait-1, wait-10, wait-100 (once in so many pairs).
    #[arg(long, value_delimiter = ',', default_value = "pairs,wait-1,wait-10,wait-100")]
    mix: Vec<Mix>,
    /// Only these implementations.
    #[arg(long = "impl", value_name = "IMPL", value_delimiter = ',')]
    impls: Vec<String>,
    /// Runs of each row, interleaved; the median counts.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=1000))]
    runs: u16,
    /// About how long all of it may take.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=86_400))]
    seconds: u32,
    /// One line of JSON, the last on standard output.
    #[arg(long)]
    json: bool,
}

impl BenchArgs {
    fn options(&self) -> bench::Options {
        bench::Options {
            threads: self.threads.iter().map(|&threads| threads.into()).collect(),
            mixes: self.mix.clone(),
            impls: self.impls.clone(),
            runs: self.runs.into(),
            time: std::time::Duration::from_secs(self.seconds.into()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Di {
    /// What the dispatch table says for this processor.
    Auto,
    /// A list under a mutex.
    Locked,
    /// A lock-free queue.
    Lockfree,
    /// A line for each participant, scanned by those who wait
    Sharded,
}

impl Di {
    const fn implementation(self) -> Option<Implementation> {
        match self {
            Self::Auto => None,
            Self::Locked => Some(Implementation::Locked),
            Self::Lockfree => Some(Implementation::Lockfree),
            Self::Sharded => Some(Implementation::Sharded),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PvLocks {
    /// 64 locks, over which 2 MiB runs of memory are hashed.
    Hashed,
    /// A lock for every 2 MiB run.
    PerRun,
}

impl PvLocks {
    const fn locking(self) -> PvLocking {
        match self {
            Self::Hashed => PvLocking::Hashed,
            Self::PerRun => PvLocking::PerRun,
        }
    }
}

pub(crate) fn parse_memory(text: &str) -> Result<Memory, String> {
    let wrong = || format!("\"{text}\" is neither a number of frames nor a percentage such as 60%");
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent = percent.parse().map_err(|_| wrong())?;
            if (1..=1000).contains(&percent) { Ok(Memory::Percent(percent)) } else { Err(wrong()) }
        }
        None => text.parse().map(Memory::Frames).map_err(|_| wrong()),
    }
}

fn parse_mutation(name: &str) -> Result<Mutation, String> {
    if !mutation::available() || !cfg!(feature = "mutations") {
        return Err("this build contains no switches; test builds do (feature mutations)".to_owned());
    }
    name.parse().map_err(|e: mutation::UnknownMutation| e.to_string())
}

impl Common {
    fn choices(&self, verify: Verify) -> Choices {
        Choices {
            cpus: 0,
            frames: 0,
            di: self.di.implementation(),
            cpu_model: self.cpu_model,
            domains: self.domains,
            verify,
            seed: self.seed,
            deterministic: self.deterministic,
            mutation: self.mutation,
            pmap: PmapOptions {
                pv_locking: self.pv_locks.locking(),
                pv_chunk_limit: self.pv_chunks,
                tlb: self.tlb,
                ..PmapOptions::default()
            },
        }
    }

    fn display(&self) -> Display {
        // The scheduler of the deterministic mode does not see the thread that shows progress; it only reads.
        Display::Auto
    }
}

/// Runs the program; returns its exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => return usage(&e),
    };
    match run(cli) {
        Ok(true) => ExitCode::from(EXIT_OK),
        Ok(false) => ExitCode::from(EXIT_FAILED),
        Err(e) => {
            eprintln!("pmaplab: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// Help and version go to standard output; a wrong argument becomes one sentence.
fn usage(e: &clap::Error) -> ExitCode {
    if matches!(e.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print!("{e}");
        return ExitCode::from(EXIT_OK);
    }
    let text = e.to_string();
    let first = text.lines().next().unwrap_or("wrong arguments");
    eprintln!("pmaplab: {} (see pmaplab --help)", first.strip_prefix("error: ").unwrap_or(first));
    ExitCode::from(EXIT_INPUT)
}

fn run(cli: Cli) -> Result<bool, Error> {
    match cli.command {
        None => {
            let (trace, switches) = trace::bundled()?;
            let report = replay_one(&trace, Some(&switches), &cli.bundled)?;
            Ok(print(&[report], cli.bundled.common.json))
        }
        Some(Command::Replay { files, args }) => {
            let mut reports = Vec::new();
            for file in files {
                let trace = trace::load(&file)?;
                let switches = trace::load_beside(&file)?;
                let report = replay_one(&trace, switches.as_deref(), &args)?;
                if args.common.json {
                    eprint!("{}", report.text());
                } else {
                    print!("{}", report.text());
                }
                reports.push(report);
            }
            if args.common.json {
                println!("{}", combined(&reports));
            }
            Ok(reports.iter().all(|r| r.ok))
        }
        Some(Command::Torture(args)) => {
            let choices = Choices { cpus: args.cpus.into(), ..args.common.choices(Verify::Full) };
            let duration = Duration { seconds: args.seconds, steps: args.steps };
            eprintln!("pmaplab: torture on {} CPUs, seed {}", choices.cpus, choices.seed);
            let report = torture::torture(choices, duration)?;
            Ok(print(&[report], args.common.json))
        }
        Some(Command::Kernel(options)) => {
            let outcome = kernel::kernel(&options)?;
            if options.json {
                eprint!("{}", outcome.text());
                println!("{}", outcome.json());
            } else {
                print!("{}", outcome.text());
            }
            Ok(outcome.ok)
        }
        Some(Command::Bench(args)) => {
            eprintln!("pmaplab: bench {}, about {} s", args.bench.name(), args.seconds);
            let options = args.options();
            let (text, json) = if args.bench == Bench::Pmap {
                let report = bench::pmap::measure(options.runs, options.time);
                (report.text(), report.json())
            } else {
                let report = bench::bench(args.bench, &options).map_err(Error::Option)?;
                (report.text(), report.json())
            };
            if args.json {
                eprint!("{text}");
                println!("{json}");
            } else {
                print!("{text}");
            }
            Ok(true)
        }
        Some(Command::FlushCost { json }) => {
            let costs = flush_cost::measure()?;
            if json {
                println!("{}", costs.json());
            } else {
                print!("{}", costs.text());
            }
            Ok(true)
        }
        Some(Command::Cpu { json }) => {
            if json {
                println!("{}", dispatch::json()?);
            } else {
                print!("{}", dispatch::describe()?);
            }
            Ok(true)
        }
    }
}

fn replay_one(
    trace: &trace::Trace,
    switches: Option<&[trace::SwitchRecord]>,
    args: &ReplayArgs,
) -> Result<Report, Error> {
    eprintln!("pmaplab: replaying {}: {} events", trace.name, trace.totals.events);
    let options = Options {
        cpus: args.cpus.map(usize::from),
        memory: args.frames.unwrap_or(Memory::Ample),
        choices: args.common.choices(args.verify),
    };
    replay(trace, switches, &options, args.common.display())
}

fn print(reports: &[Report], json: bool) -> bool {
    for report in reports {
        if json {
            eprint!("{}", report.text());
        } else {
            print!("{}", report.text());
        }
    }
    if json {
        println!("{}", combined(reports));
    }
    reports.iter().all(|r| r.ok)
}
