//! An image of a CD from which GRUB boots the kernel.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use super::tools::{GRUB_BIOS, Tools};
use super::{Boot, setup};
use crate::error::Error;

/// The parts of GRUB that the menu needs.
const MODULES: &str = "--install-modules=biosdisk iso9660 multiboot2 normal serial terminal echo halt";

/// Makes the image.
pub(super) fn make(boot: &Boot<'_>, tools: &Tools) -> Result<PathBuf, Error> {
    eprintln!("pmaplab: making an image to boot from");
    let files = boot.scratch.join("cd");
    let wrong = setup("an image to boot from");
    fs::create_dir_all(files.join("boot/grub")).map_err(&wrong)?;
    fs::copy(&boot.kernel, files.join("boot/kernel")).map_err(&wrong)?;
    fs::copy(&boot.module, files.join("boot/module.tar")).map_err(&wrong)?;
    let menu = menu(&boot.command_line);
    fs::write(files.join("boot/grub/grub.cfg"), menu).map_err(&wrong)?;
    let image = boot.scratch.join("cd.iso");
    let mut command = Command::new(tools.grub_mkrescue.as_deref().unwrap_or("grub-mkrescue".as_ref()));
    command.arg("-d").arg(GRUB_BIOS).arg("-o").arg(&image);
    command.args([MODULES, "--fonts=", "--locales=", "--themes="]);
    let output = command.arg(&files).output().map_err(&wrong)?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().last().unwrap_or("nothing is said about why");
        return Err(Error::Setup(format!("grub-mkrescue cannot make an image to boot from: {last}")));
    }
    Ok(image)
}

/// What GRUB does. If it cannot boot the kernel it says so where it is heard, and switches the machine off.
fn menu(command_line: &str) -> String {
    format!(
        "if multiboot2 /boot/kernel {command_line}; then
    module2 /boot/module.tar
    boot
fi
serial --unit=0 --speed=115200
terminal_output serial
echo GRUB cannot boot the kernel
halt
"
    )
}
