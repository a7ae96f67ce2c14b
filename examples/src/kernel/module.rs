//! The boot module: a tar archive with the files that the kernel finds in memory.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use super::setup;
use crate::error::Error;

/// What goes into it.
pub(super) struct BootModule<'a> {
    /// The first user program.
    pub(super) init: &'a Path,
    /// What is replayed.
    pub(super) trace: Option<&'a [u8]>,
}

impl BootModule<'_> {
    /// Writes it into `folder`.
    pub(super) fn write(&self, folder: &Path) -> Result<PathBuf, Error> {
        let path = folder.join("module.tar");
        self.archive(&path).map_err(setup("the boot module"))?;
        Ok(path)
    }

    fn archive(&self, path: &Path) -> io::Result<()> {
        let mut archive = tar::Builder::new(BufWriter::new(File::create(path)?));
        append(&mut archive, "init", &fs::read(self.init)?)?;
        if let Some(trace) = self.trace {
            append(&mut archive, "trace", trace)?;
        }
        archive.into_inner()?.flush()
    }
}

/// Adds a file that depends on nothing but its contents.
fn append(archive: &mut tar::Builder<impl Write>, name: &str, contents: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(contents.len() as u64);
    header.set_mode(0o755);
    archive.append_data(&mut header, name, contents)
}
