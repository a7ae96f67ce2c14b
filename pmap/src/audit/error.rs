//! What the audit can find wrong.

use core::fmt;

use crate::addr::{Frame, VirtAddr};
use crate::entry::Entry;
use crate::table::Contents;

/// Something that the audit found wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuditError {
    /// A table's count of valid entries is not the number of its valid entries.
    TableCount {
        /// The table.
        table: Frame,
        /// What its record says.
        recorded: u32,
        /// What was counted.
        counted: u32,
    },
    /// A table in use has no valid entry (INV-P-3).
    EmptyTable {
        /// The table.
        table: Frame,
    },
    /// A table or managed leaf refers to a frame without a page record.
    NoRecord {
        /// Address that the entry covers.
        va: VirtAddr,
        /// The frame.
        frame: Frame,
    },
    /// The resident count is not the number of leaves and tables.
    ResidentCount {
        /// Root of the address space.
        root: Frame,
        /// What is recorded.
        recorded: u64,
        /// What was counted.
        counted: u64,
    },
    /// The wired count is not the number of wired leaves.
    WiredCount {
        /// Root of the address space.
        root: Frame,
        /// What is recorded.
        recorded: u64,
        /// What was counted.
        counted: u64,
    },
    /// A managed leaf has no PV entry, or more than one.
    PvEntriesOfLeaf {
        /// Root of the address space.
        root: Frame,
        /// Address of the leaf.
        va: VirtAddr,
        /// Number of its PV entries.
        found: usize,
    },
    /// A PV entry has no managed leaf of its page.
    LeafOfPvEntry {
        /// Root of the address space.
        root: Frame,
        /// Address that the PV entry names.
        va: VirtAddr,
    },
    /// A managed writable leaf maps a page that is not marked writeable (H-71).
    NotWriteable {
        /// Address of the leaf.
        va: VirtAddr,
        /// The page.
        frame: Frame,
    },
    /// A leaf has the bit set that would make it a table's large page.
    LargeBit {
        /// Address of the leaf.
        va: VirtAddr,
        /// The entry.
        entry: Entry,
    },
    /// The number of saved tables is not the number of those that the directories have (INV-P-6).
    SavedCount {
        /// Root of the address space.
        root: Frame,
        /// What is recorded.
        recorded: u64,
        /// What was counted.
        counted: u64,
    },
    /// A saved table does not hold what is claimed (INV-P-7).
    SavedContents {
        /// First address that the table covered.
        va: VirtAddr,
        /// The table.
        table: Frame,
        /// What it is saved for.
        claimed: Contents,
        /// What it holds; `None` if nothing that is saved.
        found: Option<Contents>,
    },
    /// A saved table is not found where its index leads (INV-P-6).
    SavedMisplaced {
        /// First address that the table covered.
        va: VirtAddr,
        /// The table.
        table: Frame,
    },
    /// There is a table in use where there is a saved one (INV-P-6).
    SavedBesideTable {
        /// First address that the tables cover.
        va: VirtAddr,
        /// The saved table.
        table: Frame,
    },
    /// A chunk with free entries stands behind a full one (INV-PV-2).
    ChunkOrder {
        /// Root of the address space.
        root: Frame,
    },
    /// A chunk is on the list of an address space that does not own it.
    ChunkOwner {
        /// Root of the address space.
        root: Frame,
    },
    /// A chunk is not on its memory domain's list of chunks by age.
    ChunkAge {
        /// Root of the address space.
        root: Frame,
    },
    /// The number of chunks that address spaces have, or that are on lists by age, is not the number allocated.
    ChunkTotal {
        /// What the counters say.
        recorded: u64,
        /// What address spaces have.
        owned: u64,
        /// What is on the lists of all memory domains.
        listed: u64,
    },
    /// The number of PV entries in use in all chunks is not the number on pages' lists.
    EntriesInUse {
        /// What the chunks' bitmaps say.
        in_use: u64,
        /// What is on the lists.
        listed: u64,
    },
    /// The number of PV entries on all lists is not the number allocated.
    PvTotal {
        /// What the counters say.
        recorded: u64,
        /// What is on the lists.
        counted: u64,
    },
    /// The number of page-table pages in use is not the number allocated.
    TableTotal {
        /// What the counters say.
        recorded: u64,
        /// What was met.
        counted: u64,
    },
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::TableCount { table, recorded, counted } => {
                write!(f, "table {table:?} counts {recorded} valid entries, but has {counted}")
            }
            Self::EmptyTable { table } => write!(f, "table {table:?} is in use and empty"),
            Self::NoRecord { va, frame } => {
                write!(f, "the entry for {va} names {frame:?}, which has no record")
            }
            Self::ResidentCount { root, recorded, counted } => {
                write!(f, "address space {root:?} counts {recorded} resident pages, but has {counted}")
            }
            Self::WiredCount { root, recorded, counted } => {
                write!(f, "address space {root:?} counts {recorded} wired mappings, but has {counted}")
            }
            Self::PvEntriesOfLeaf { root, va, found } => {
                write!(f, "the mapping at {va} of {root:?} has {found} PV entries instead of one")
            }
            Self::LeafOfPvEntry { root, va } => {
                write!(f, "a PV entry names {va} of {root:?}, where its page is not mapped")
            }
            Self::NotWriteable { va, frame } => {
                write!(f, "{frame:?} is mapped writable at {va}, but is not marked writeable")
            }
            Self::LargeBit { va, entry } => write!(f, "the leaf at {va} is {entry:?}"),
            Self::SavedCount { root, recorded, counted } => {
                write!(f, "address space {root:?} counts {recorded} saved tables, but has {counted}")
            }
            Self::SavedContents { va, table, claimed, found: None } => {
                write!(f, "{table:?}, saved for {va} as {claimed:?}, holds something else")
            }
            Self::SavedContents { va, table, claimed, found: Some(found) } => {
                write!(f, "{table:?}, saved for {va} as {claimed:?}, is {found:?}")
            }
            Self::SavedMisplaced { va, table } => {
                write!(f, "{table:?}, saved for {va}, is not found there")
            }
            Self::SavedBesideTable { va, table } => {
                write!(f, "{table:?} is saved for {va}, where there is a table in use")
            }
            Self::ChunkOrder { root } => {
                write!(f, "a PV chunk with room stands behind a full one in {root:?}")
            }
            Self::ChunkOwner { root } => {
                write!(f, "a PV chunk on the list of {root:?} belongs to another pmap")
            }
            Self::ChunkAge { root } => {
                write!(f, "a PV chunk of {root:?} is not on its memory domain's list")
            }
            Self::ChunkTotal { recorded, owned, listed } => {
                write!(f, "{recorded} PV chunks are allocated, {owned} are owned, {listed} on lists by age")
            }
            Self::EntriesInUse { in_use, listed } => {
                write!(f, "{in_use} PV entries are in use, {listed} are on pages' lists")
            }
            Self::PvTotal { recorded, counted } => {
                write!(f, "{recorded} PV entries are allocated, {counted} are on lists")
            }
            Self::TableTotal { recorded, counted } => {
                write!(f, "{recorded} page-table pages are allocated, {counted} are in use")
            }
        }
    }
}

impl core::error::Error for AuditError {}
