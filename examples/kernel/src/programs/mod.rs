//! What the kernel can run, chosen by `program=` on its command line.

pub(crate) mod arguments;
mod conformance;
mod counter_proof;
mod di_bench;
mod figures;
mod inversion;
mod replay;
pub(crate) mod report;
mod selftest;
mod torture;
mod workload;

use alloc::format;
use alloc::string::ToString as _;

use crate::arch::exit::ExitCode;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use arguments::Arguments;
use report::Report;

/// A program: its name, and what it does.
struct Program {
    name: &'static str,
    run: fn(&Arguments, &'static BootInfo) -> Report,
}

const PROGRAMS: &[Program] = &[
    Program { name: "selftest", run: selftest::run },
    Program { name: "conformance", run: conformance::run },
    Program { name: "di_bench", run: di_bench::run },
    Program { name: "figures", run: figures::run },
    Program { name: "inversion", run: inversion::run },
    Program { name: "replay", run: replay::run },
    Program { name: "torture", run: torture::run },
    Program { name: "counter_proof", run: counter_proof::run },
];

/// What the command line asks for.
pub(crate) struct Job {
    program: &'static Program,
    /// The command line.
    pub(crate) arguments: Arguments,
}

/// Finds out what the command line asks for.
///
/// # Errors
///
/// The exit code for a command line that is not understood, after the refusal was printed.
pub(crate) fn choose(info: &'static BootInfo) -> Result<Job, ExitCode> {
    let arguments = Arguments::parse(info.command_line).map_err(|error| usage(&error.to_string()))?;
    let program = PROGRAMS.iter().find(|program| program.name == arguments.program);
    let program = program.ok_or_else(|| usage(&format!("there is no program `{}`", arguments.program)))?;
    Ok(Job { program, arguments })
}

/// Runs the program, prints its report and says how to exit.
pub(crate) fn run(job: &Job, info: &'static BootInfo) -> ExitCode {
    let report = (job.program.run)(&job.arguments, info);
    report.print();
    if report.is_ok() { ExitCode::Success } else { ExitCode::Failure }
}

/// Refuses a command line.
pub(crate) fn usage(error: &str) -> ExitCode {
    println!("{error}; programs: {}", names());
    println!("{}", report::refused(error));
    ExitCode::Usage
}

fn names() -> alloc::string::String {
    let names: alloc::vec::Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
    names.join(", ")
}
