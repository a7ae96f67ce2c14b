//! The programs that a run needs, or the packages to install.

use std::collections::BTreeSet;
use std::env;
use std::path::{Path, PathBuf};

use super::options::Emulator;
use crate::error::Error;

/// Where the BIOS images for Bochs are.
pub(super) const BOCHS_BIOS: &str = "/usr/share/bochs/BIOS-bochs-latest";
/// … and the one of its video adapter.
pub(super) const BOCHS_VGA_BIOS: &str = "/usr/share/bochs/VGABIOS-lgpl-latest";
/// GRUB for machines with a BIOS.
pub(super) const GRUB_BIOS: &str = "/usr/lib/grub/i386-pc";

/// Programs, found.
pub(super) struct Tools {
    /// The emulator.
    pub(super) emulator: PathBuf,
    /// Makes images that GRUB boots. Only Bochs needs one.
    pub(super) grub_mkrescue: Option<PathBuf>,
}

/// Something that must be there, and the Debian package that has it.
enum Need {
    Program(&'static str, &'static str),
    File(&'static str, &'static str),
}

const QEMU: &[Need] = &[Need::Program("qemu-system-x86_64", "qemu-system-x86")];
const BOCHS: &[Need] = &[
    Need::Program("bochs", "bochs"),
    Need::Program("grub-mkrescue", "grub-common"),
    Need::Program("xorriso", "xorriso"),
    Need::Program("mformat", "mtools"),
    Need::File(BOCHS_BIOS, "bochsbios"),
    Need::File(BOCHS_VGA_BIOS, "vgabios"),
    Need::File(GRUB_BIOS, "grub-pc-bin"),
];

/// Finds what `emulator` needs.
///
/// # Errors
/// One sentence that names what is missing and the packages to install.
pub(super) fn find(emulator: Emulator) -> Result<Tools, Error> {
    let needs = match emulator {
        Emulator::Qemu => QEMU,
        Emulator::Bochs => BOCHS,
    };
    let mut missing = Vec::new();
    let mut packages = BTreeSet::new();
    for need in needs {
        let (what, package, found) = match *need {
            Need::Program(name, package) => (name, package, in_path(name).is_some()),
            Need::File(path, package) => (path, package, Path::new(path).exists()),
        };
        if !found {
            missing.push(what);
            packages.insert(package);
        }
    }
    let program = match emulator {
        Emulator::Qemu => in_path("qemu-system-x86_64"),
        Emulator::Bochs => in_path("bochs"),
    };
    match program {
        Some(program) if missing.is_empty() => {
            Ok(Tools { emulator: program, grub_mkrescue: in_path("grub-mkrescue") })
        }
        _ => {
            if emulator == Emulator::Bochs && missing.contains(&"bochs") {
                // Its display without a window is a package of its own, whose file's place depends on the architecture.
                packages.insert("bochs-term");
            }
            let packages: Vec<_> = packages.into_iter().collect();
            Err(Error::Setup(format!(
                "{} needs {}, which cannot be found: apt-get install {}",
                emulator.name(),
                missing.join(", "),
                packages.join(" ")
            )))
        }
    }
}

/// The file that a shell would start for `name`.
pub(super) fn in_path(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        // An empty entry would be the current folder: not from there.
        .filter(|folder| !folder.as_os_str().is_empty())
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}
