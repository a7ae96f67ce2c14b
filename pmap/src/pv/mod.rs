//! The reverse map: which mappings a physical page has.
//!
//! Each managed mapping has a *PV entry* (address, links) on its page's PV list. PV entries live in
//! *chunks*, each one page long and owned by one pmap, so the pmap that owns a mapping is found by
//! rounding the entry's address down to its chunk. Lists are protected by the page's PV-list lock,
//! chunks and their free entries by the owning pmap's lock.

mod chunk;
mod list;
mod lock;
mod lru;
mod reclaim;
mod supply;

pub(crate) use chunk::{ChunkHeader, ChunkList, ChunkPtr, ENTRIES_PER_CHUNK, PvEntry, PvPtr};
pub use lock::PvLocking;
pub(crate) use lock::{Bucket, PvHold, PvLocks, PvSlot};
pub(crate) use lru::Domains;
pub(crate) use supply::{Budget, NoEntry};
