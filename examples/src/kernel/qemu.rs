//! How QEMU is started.

use std::ffi::OsString;
use std::process::Command;

use super::Boot;
use super::options::Accel;
use super::tools::Tools;

/// The port with which the guest ends QEMU: the exit code is 2 × value + 1.
const EXIT_PORT: &str = "isa-debug-exit,iobase=0xf4,iosize=4";

/// What QEMU calls the CPU models that have short names here.
fn cpu(model: &str) -> &str {
    match model {
        // No CMPXCHG16B.
        "no-cx16" => "qemu64,-cx16",
        // No execute-disable bit; and qemu64 has no 1 GiB pages.
        "no-nx" => "qemu64,-nx",
        // All but 1 GiB pages.
        "no-1g" => "max,-pdpe1gb",
        other => other,
    }
}

/// The command that boots the kernel.
pub(super) fn command(boot: &Boot<'_>, tools: &Tools) -> Command {
    let options = boot.options;
    let mut command = Command::new(&tools.emulator);
    command.args(["-M", "q35", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none"]);
    command.args(["-device", EXIT_PORT]);
    match options.accel() {
        Accel::Parallel => command.args(["-accel", "tcg,thread=multi"]),
        Accel::Single => command.args(["-accel", "tcg,thread=single"]),
        Accel::Deterministic => command.args(["-accel", "tcg,thread=single", "-icount", "shift=1,sleep=off"]),
    };
    command.args(["-cpu", cpu(options.cpu())]);
    command.arg("-smp").arg(options.smp.to_string());
    command.arg("-m").arg(format!("{}M", options.memory));
    let mut serial = OsString::from("file:");
    serial.push(&boot.serial);
    command.arg("-serial").arg(serial);
    command.arg("-kernel").arg(&boot.kernel);
    command.arg("-initrd").arg(&boot.module);
    command.arg("-append").arg(&boot.command_line);
    command
}
