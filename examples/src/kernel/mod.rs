//! `pmaplab kernel`: builds `examples/kernel`, boots it in an emulator, shows what it says, and judges the outcome.
//!
//! In the order of a run: [`Options`] are checked; `tools` finds the emulator or names the packages to install;
//! `build` calls cargo; `module` packs what the kernel finds in memory, with a trace from `replay` and `encode` if there is one; `qemu` or `bochs` (with `iso`) says how the emulator is
//! started; `run` watches it over its serial line until it ends or its time is up; `outcome` judges.

mod bochs;
mod build;
mod emulator;
mod encode;
// The kernel's own description of what it replays.
#[path = "../../kernel/src/trace/mod.rs"]
mod format;
mod iso;
mod module;
mod options;
mod outcome;
mod qemu;
mod replay;
mod run;
mod serial;
#[cfg(test)]
mod shadow_tests;
mod tools;

use std::path::PathBuf;

pub use options::{Accel, Emulator, Options};
pub use outcome::Outcome;

use crate::error::Error;
use module::BootModule;
use replay::Replay;
use run::Show;

/// What an emulator is given.
struct Boot<'a> {
    options: &'a Options,
    /// The kernel's ELF file.
    kernel: PathBuf,
    /// The boot module, a tar archive.
    module: PathBuf,
    /// The kernel's command line.
    command_line: String,
    /// The file that the serial line goes to.
    serial: PathBuf,
    /// A folder for whatever else is needed during the run.
    scratch: PathBuf,
}

/// Builds the kernel, boots it, and returns how that ended. Figures that must be the same in every run are made twice. What the kernel says goes to standard output, or to standard error
/// if `options.json`.
///
/// # Errors
/// If the options make no sense, an emulator or a tool is missing, or something cannot be built or started.
pub fn kernel(options: &Options) -> Result<Outcome, Error> {
    options.check()?;
    let replay = options.is_replay().then(|| replay::prepare(options)).transpose()?;
    let tools = tools::find(options.emulator)?;
    let interrupt = run::Interrupt::catch()?;
    let built = match &options.built {
        Some(folder) => build::Built::in_folder(folder)?,
        None => build::build(options.needs_mutations())?,
    };
    let folder = tempfile::Builder::new().prefix("pmaplab-kernel-").tempdir().map_err(setup("a folder"))?;
    let scratch = folder.path().to_owned();
    let boot = Boot {
        options,
        kernel: built.kernel,
        module: BootModule { init: &built.init, trace: replay.as_ref().map(|r| &r.stream[..]) }
            .write(&scratch)?,
        command_line: options.command_line() + &replay.as_ref().map(Replay::arguments).unwrap_or_default(),
        serial: scratch.join("serial"),
        scratch,
    };
    let once = |show| {
        let command = match options.emulator {
            Emulator::Qemu => qemu::command(&boot, &tools),
            Emulator::Bochs => bochs::command(&boot, &tools)?,
        };
        outcome::judge(options, &run::run(&boot, command, &interrupt, show)?)
    };
    let mut outcome = once(if options.json { Show::Aside } else { Show::AsOutput })?;
    if options.repeats() && outcome.ok {
        outcome.compare(&once(Show::Nothing)?);
    }
    if let Some(replay) = &replay {
        outcome.add_to_host("trace", replay.summary());
    }
    Ok(outcome)
}

/// The error of something that the run needs and cannot get.
fn setup(what: &str) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::Setup(format!("cannot make {what} for the emulator: {e}"))
}
