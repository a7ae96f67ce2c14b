//! What a mapping permits, what an access wants, and how `enter` is asked.

use bitflags::bitflags;

bitflags! {
    /// Rights of a mapping. On amd64 every valid entry can be read, so a mapping without
    /// [`READ`](Self::READ) cannot exist: asking for no rights at all removes it.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Protection: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXECUTE = 4;
    }
}

/// Kind of memory access, as the page-fault error code distinguishes it (Intel SDM vol. 3, 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// A load.
    Read,
    /// A store.
    Write,
    /// An instruction fetch.
    Execute,
}

impl Access {
    /// The right that the access needs.
    #[must_use]
    pub const fn needs(self) -> Protection {
        match self {
            Self::Read => Protection::READ,
            Self::Write => Protection::WRITE,
            Self::Execute => Protection::EXECUTE,
        }
    }
}

bitflags! {
    /// How [`Pmap::enter`](crate::Pmap::enter) is to make a mapping.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct EnterFlags: u8 {
        /// The mapping is wired: reclaim never takes it and `remove_pages` keeps it. A software bit.
        const WIRED = 1;
    }
}
