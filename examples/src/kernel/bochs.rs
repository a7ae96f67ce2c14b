//! How Bochs is started.

use std::fs;
use std::process::Command;

use super::tools::{BOCHS_BIOS, BOCHS_VGA_BIOS, Tools};
use super::{Boot, iso, setup};
use crate::error::Error;

/// Has PCIDs, INVPCID and x2APIC, which QEMU's translator lacks.
const DEFAULT_CPU: &str = "corei7_skylake_x";

/// The command that boots the kernel, by GRUB from an image of a CD.
///
/// The `term` display opens a pseudo-terminal by itself. Debian's Bochs has its debugger compiled in, which would wait for a
/// command before the first instruction: a file gives it "continue". Whenever it asks again, the end of its input ends Bochs.
pub(super) fn command(boot: &Boot<'_>, tools: &Tools) -> Result<Command, Error> {
    let image = iso::make(boot, tools)?;
    let configuration = boot.scratch.join("bochsrc");
    fs::write(&configuration, self::configuration(boot, &image)).map_err(setup("the configuration"))?;
    let go = boot.scratch.join("go");
    fs::write(&go, "continue\n").map_err(setup("the debugger's commands"))?;
    let mut command = Command::new(&tools.emulator);
    command.arg("-q").arg("-f").arg(configuration).arg("-rc").arg(go);
    // The display speaks to any terminal, but must know its kind.
    command.env("TERM", "vt100");
    Ok(command)
}

fn configuration(boot: &Boot<'_>, image: &std::path::Path) -> String {
    let options = boot.options;
    let model = options.cpu.as_deref().unwrap_or(DEFAULT_CPU);
    let (smp, memory) = (options.smp, options.memory);
    let (serial, image) = (boot.serial.display(), image.display());
    let log = boot.scratch.join("bochs.log");
    let log = log.display();
    format!(
        "plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=0, parallel=0, gameport=0
display_library: term
config_interface: textconfig
romimage: file={BOCHS_BIOS}
vgaromimage: file={BOCHS_VGA_BIOS}
cpu: model={model}, count={smp}, ips=50000000, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
com1: enabled=1, mode=file, dev={serial}
ata0-master: type=cdrom, path={image}, status=inserted
boot: cdrom
log: {log}
panic: action=fatal
error: action=report
info: action=ignore
debug: action=ignore
"
    )
}
