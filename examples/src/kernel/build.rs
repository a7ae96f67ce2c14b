//! Building the kernel and its user program.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::error::Error;

/// The package `examples/kernel`.
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernel");

/// What was built.
pub(super) struct Built {
    /// The kernel's ELF file.
    pub(super) kernel: PathBuf,
    /// The first user program's.
    pub(super) init: PathBuf,
}

impl Built {
    /// What lies in `folder` from an earlier build.
    pub(super) fn in_folder(folder: &Path) -> Result<Self, Error> {
        let file = |name: &str| {
            let missing = || Error::Setup(format!("there is no file \"{name}\" in {}", folder.display()));
            Some(folder.join(name)).filter(|file| file.is_file()).ok_or_else(missing)
        };
        Ok(Self { kernel: file("kernel")?, init: file("init")? })
    }
}

/// Builds the package with cargo, into a folder of its own below the workspace's `target/`. With switches that turn safety
/// mechanisms off if `mutations`; those go to yet another folder, so that nobody boots them by mistake.
pub(super) fn build(mutations: bool) -> Result<Built, Error> {
    if !Path::new(PACKAGE).is_dir() {
        return Err(Error::Setup(format!("the kernel's source is gone from {PACKAGE}")));
    }
    let workspace = Path::new(PACKAGE).join("../../target");
    let target = env::var_os("CARGO_TARGET_DIR").map_or(workspace, PathBuf::from);
    let target = target.join("examples").join(if mutations { "kernel-mutations" } else { "kernel" });
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    command.current_dir(PACKAGE).args(["build", "--release", "--bins", "--target-dir"]).arg(&target);
    if mutations {
        command.args(["--features", "mutations"]);
    }
    // Whatever the host's programs are built with is not for the kernel: it must run on the emulated processor.
    for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CARGO_BUILD_RUSTFLAGS", "CARGO_TARGET_DIR"] {
        command.env_remove(flags);
    }
    eprintln!("pmaplab: building the kernel");
    let status = command.status().map_err(|e| {
        Error::Setup(format!("cannot start {}, which builds the kernel: {e}", Path::new(&cargo).display()))
    })?;
    if !status.success() {
        return Err(Error::Setup("the kernel cannot be built; what cargo says stands above".to_owned()));
    }
    Built::in_folder(&target.join("release"))
}
