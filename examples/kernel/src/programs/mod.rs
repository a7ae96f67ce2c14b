//! What the kernel can run, chosen by `program=` on its command line.

pub(crate) mod arguments;
pub(crate) mod report;
mod selftest;

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

const PROGRAMS: &[Program] = &[Program { name: "selftest", run: selftest::run }];

/// Runs the program that the command line names, prints its report and says how to exit.
pub(crate) fn run(info: &'static BootInfo) -> ExitCode {
    let arguments = match Arguments::parse(info.command_line) {
        Ok(arguments) => arguments,
        Err(error) => return usage(&alloc::format!("{error}")),
    };
    let Some(program) = PROGRAMS.iter().find(|program| program.name == arguments.program) else {
        return usage(&alloc::format!("there is no program `{}`", arguments.program));
    };
    let report = (program.run)(&arguments, info);
    report.print();
    if report.is_ok() { ExitCode::Success } else { ExitCode::Failure }
}

/// Refuses the command line.
fn usage(error: &str) -> ExitCode {
    println!("{error}; programs: {}", names());
    println!("{}", report::refused(error));
    ExitCode::Usage
}

fn names() -> alloc::string::String {
    let names: alloc::vec::Vec<&str> = PROGRAMS.iter().map(|program| program.name).collect();
    names.join(", ")
}
