//! Files, shared anonymous memory and kernel-supplied pages: one page table per program run, so that
//! every address space that maps an object shows the same frames.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::page::{Page, PageRef};
use crate::hash::{Map, mix};
use crate::trace::{ObjectInfo, ObjectKind};

const SHARDS: usize = 64;

/// Word `index` of page `page` of a file, before anybody wrote to it.
#[must_use]
pub const fn file_word(object: u32, page: u64, index: usize) -> u64 {
    mix(((object as u64) << 44) ^ (page << 9) ^ index as u64)
}

/// All objects and those of their pages that were ever used.
pub(super) struct Objects {
    info: BTreeMap<u32, ObjectInfo>,
    pages: [Mutex<Map<(u32, u64), PageRef>>; SHARDS],
}

impl Objects {
    pub(super) fn new(info: BTreeMap<u32, ObjectInfo>) -> Self {
        Self {
            info,
            pages: [const { Mutex::new(Map::with_hasher(std::hash::BuildHasherDefault::new())) }; SHARDS],
        }
    }

    /// What kind of object it is. Unknown ones count as files.
    pub(super) fn kind(&self, object: u32) -> ObjectKind {
        self.info.get(&object).map_or(ObjectKind::File, |info| info.kind)
    }

    /// A page of an object; made, absent, if this is its first use.
    pub(super) fn page(&self, object: u32, page: u64) -> PageRef {
        let shard = &self.pages[(page as usize ^ object as usize) % SHARDS];
        // A panic elsewhere must not turn into one here: the table is consistent between operations.
        let mut pages = shard.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Page::of_object(object, page, self.kind(object));
        pages.entry((object, page)).or_insert_with(new).clone()
    }

    /// Every page that was ever used, in a fixed order.
    pub(super) fn all(&self) -> Vec<PageRef> {
        let mut all: Vec<((u32, u64), PageRef)> = Vec::new();
        for shard in &self.pages {
            let pages = shard.lock().unwrap_or_else(PoisonError::into_inner);
            all.extend(pages.iter().map(|(key, page)| (*key, page.clone())));
        }
        all.sort_unstable_by_key(|(key, _)| *key);
        all.into_iter().map(|(_, page)| page).collect()
    }

    /// A page of an object if it was ever used.
    pub(super) fn existing(&self, object: u32, page: u64) -> Option<PageRef> {
        let shard = &self.pages[(page as usize ^ object as usize) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner).get(&(object, page)).cloned()
    }
}
