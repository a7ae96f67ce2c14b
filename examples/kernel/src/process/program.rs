//! An executable: a static ELF file of which each segment becomes a memory object.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;

use elf::ElfBytes;
use elf::abi::{EM_X86_64, ET_EXEC, PF_W, PF_X, PT_LOAD};
use elf::endian::LittleEndian;
use elf::segment::ProgramHeader;
use pmap::{PAGE_SIZE, Protection, VirtAddr, VirtRange};

use crate::vm::{Backing, Object, Vm, Vma};

/// A program, ready to be mapped. All processes that run it share its pages until they store to them.
pub(crate) struct Program {
    entry: VirtAddr,
    segments: Vec<Vma>,
    file: Arc<Object>,
}

/// Why there is no such program.
#[derive(Debug)]
pub(crate) enum ProgramError {
    /// The kernel was booted without a module.
    NoModule,
    /// The module is not a tar archive.
    NotAnArchive,
    /// The archive has no such file.
    Missing(&'static str),
    /// The file is not a static executable for this processor.
    NotExecutable,
    /// The file's headers make no sense.
    Elf(elf::ParseError),
    /// A segment lies where no user memory can be, or not in the file.
    BadSegment {
        /// Its address.
        address: u64,
    },
}

impl fmt::Display for ProgramError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoModule => f.write_str("there is no boot module: pass the archive with the user program"),
            Self::NotAnArchive => f.write_str("the boot module is not a tar archive"),
            Self::Missing(name) => write!(f, "the boot module has no file `{name}`"),
            Self::NotExecutable => f.write_str("the user program is not a static executable for x86-64"),
            Self::Elf(error) => write!(f, "the user program is not in order: {error}"),
            Self::BadSegment { address } => {
                write!(f, "the user program's segment at {address:#x} is out of place")
            }
        }
    }
}

impl core::error::Error for ProgramError {}

impl From<elf::ParseError> for ProgramError {
    fn from(error: elf::ParseError) -> Self {
        Self::Elf(error)
    }
}

/// The file `name` of the boot module.
///
/// # Errors
///
/// [`ProgramError`] if there is none.
pub(crate) fn boot_file(
    module: Option<&'static [u8]>,
    name: &'static str,
) -> Result<&'static [u8], ProgramError> {
    let module = module.ok_or(ProgramError::NoModule)?;
    let archive = tar_no_std::TarArchiveRef::new(module).map_err(|_| ProgramError::NotAnArchive)?;
    let entry = archive.entries().find(|entry| entry.filename().as_str() == Ok(name));
    Ok(entry.ok_or(ProgramError::Missing(name))?.data())
}

impl Program {
    /// Loads the program `name` from the boot module.
    ///
    /// # Errors
    ///
    /// [`ProgramError`].
    pub(crate) fn load(
        vm: &'static Vm,
        module: Option<&'static [u8]>,
        name: &'static str,
    ) -> Result<Self, ProgramError> {
        let bytes = boot_file(module, name)?;
        let elf = ElfBytes::<LittleEndian>::minimal_parse(bytes)?;
        if elf.ehdr.e_machine != EM_X86_64 || elf.ehdr.e_type != ET_EXEC {
            return Err(ProgramError::NotExecutable);
        }
        let headers = elf.segments().ok_or(ProgramError::NotExecutable)?;
        let segments = headers
            .iter()
            .filter(|header| header.p_type == PT_LOAD && header.p_memsz > 0)
            .map(|header| {
                segment(vm, bytes, &header).ok_or(ProgramError::BadSegment { address: header.p_vaddr })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { entry: VirtAddr(elf.ehdr.e_entry), segments, file: Object::file(vm, bytes) })
    }

    /// Where it begins.
    pub(super) fn entry(&self) -> VirtAddr {
        self.entry
    }

    /// What is to be mapped.
    pub(super) fn segments(&self) -> &[Vma] {
        &self.segments
    }

    /// All of the file it came from.
    pub(super) fn file(&self) -> &Arc<Object> {
        &self.file
    }
}

/// The mapping for a segment. Its object has the file's bytes up to where the segment's end in the file, so that the rest of that page,
/// and the pages after it, are zeroes.
fn segment(vm: &'static Vm, bytes: &'static [u8], header: &ProgramHeader) -> Option<Vma> {
    let start = VirtAddr(header.p_vaddr);
    let skew = start.page_offset();
    let from = header.p_offset.checked_sub(skew)?;
    let part = bytes.get(
        usize::try_from(from).ok()?..usize::try_from(header.p_offset.checked_add(header.p_filesz)?).ok()?,
    )?;
    let end = header.p_vaddr.checked_add(header.p_memsz)?.checked_next_multiple_of(PAGE_SIZE)?;
    let range = VirtRange::new(start.page(), VirtAddr(end)).filter(|range| range.is_user())?;
    let mut protection = Protection::READ;
    protection.set(Protection::WRITE, header.p_flags & PF_W != 0);
    protection.set(Protection::EXECUTE, header.p_flags & PF_X != 0);
    Some(Vma { range, protection, backing: Backing::Private { object: Object::file(vm, part), first: 0 } })
}
