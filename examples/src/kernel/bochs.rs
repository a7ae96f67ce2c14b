//! How Bochs is started.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use super::tools::{BOCHS_BIOS, BOCHS_VGA_BIOS, Tools};
use super::{Boot, iso, setup};
use crate::error::Error;

/// The command that boots the kernel, by GRUB from an image of a CD.
///
/// The `term` display opens a pseudo-terminal by itself. Debian's Bochs has its debugger compiled in, which would wait for a
/// command before the first instruction: a file gives it "continue". Whenever it asks again, the end of its input ends Bochs.
pub(super) fn command(boot: &Boot<'_>, tools: &Tools) -> Result<Command, Error> {
    let model = boot.options.cpu();
    check_model(model, tools)?;
    let image = iso::make(boot, tools)?;
    let configuration = boot.scratch.join("bochsrc");
    fs::write(&configuration, self::configuration(boot, model, &image))
        .map_err(setup("the configuration"))?;
    let go = boot.scratch.join("go");
    fs::write(&go, "continue\n").map_err(setup("the debugger's commands"))?;
    let mut command = Command::new(&tools.emulator);
    command.arg("-q").arg("-f").arg(configuration).arg("-rc").arg(go);
    // The display speaks to any terminal, but must know its kind.
    command.env("TERM", "vt100");
    Ok(command)
}

/// Bochs would only say that its configuration file is malformed.
fn check_model(model: &str, tools: &Tools) -> Result<(), Error> {
    let output = Command::new(&tools.emulator).args(["--help", "cpu"]).stdin(Stdio::null()).output();
    let output = output.map_err(setup("a list of CPU models"))?;
    // Its log, which is where the list goes, is standard error as long as there is no configuration.
    let text = String::from_utf8_lossy(&output.stderr);
    let models: Vec<_> = text.lines().map(str::trim).filter(|line| is_model(line)).collect();
    if models.contains(&model) {
        Ok(())
    } else {
        Err(Error::Option(format!("Bochs has no CPU model {model}; it has {}", models.join(", "))))
    }
}

/// Whether a line of the list is a model: a single word in small letters.
fn is_model(line: &str) -> bool {
    !line.is_empty() && line.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

fn configuration(boot: &Boot<'_>, model: &str, image: &Path) -> String {
    let options = boot.options;
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
