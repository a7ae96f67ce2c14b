//! PV entries in chunks of exactly one page.

use core::ops::Deref;
use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use static_assertions::const_assert_eq;

use crate::addr::{PAGE_SIZE, VirtAddr};

/// PV entries in a chunk: what fits a page beside the header.
pub(crate) const ENTRIES_PER_CHUNK: usize = 168;
const WORDS: usize = ENTRIES_PER_CHUNK.div_ceil(64);

/// One managed mapping: its address and its place on the page's PV list.
///
/// The address is written by the pmap that owns the chunk before the entry goes on a list; the links are
/// protected by the PV-list lock of the page.
#[repr(C)]
pub(crate) struct PvEntry {
    va: AtomicU64,
    pub(super) next: AtomicPtr<PvEntry>,
    pub(super) prev: AtomicPtr<PvEntry>,
}

/// What a chunk begins with. A *marker* is a header alone, without an owner: a place on a list of chunks in
/// order of age that somebody holds who walks it (see `lru`).
#[repr(C)]
pub(crate) struct ChunkHeader {
    owner: AtomicPtr<()>,
    /// Links of the owner's list.
    next: AtomicPtr<Chunk>,
    prev: AtomicPtr<Chunk>,
    /// One bit per entry, set while the entry is free. Protected by the owner's pmap lock.
    free: [AtomicU64; WORDS],
    /// Links of the memory domain's list, protected by that list's lock.
    pub(super) lru_next: AtomicPtr<ChunkHeader>,
    pub(super) lru_prev: AtomicPtr<ChunkHeader>,
}

impl ChunkHeader {
    /// A marker that is on no list.
    pub(crate) const fn marker() -> Self {
        Self {
            owner: AtomicPtr::new(null_mut()),
            next: AtomicPtr::new(null_mut()),
            prev: AtomicPtr::new(null_mut()),
            free: [const { AtomicU64::new(0) }; WORDS],
            lru_next: AtomicPtr::new(null_mut()),
            lru_prev: AtomicPtr::new(null_mut()),
        }
    }

    /// The pmap that owns the chunk, as given to `set_up`; null for a marker.
    #[inline]
    pub(crate) fn owner(&self) -> *const () {
        // ORD: Relaxed; constant while the chunk is in use.
        self.owner.load(Ordering::Relaxed)
    }
}

/// A page of PV entries. All-zero memory is a valid chunk that is not set up yet.
#[repr(C, align(4096))]
pub(crate) struct Chunk {
    header: ChunkHeader,
    entries: [PvEntry; ENTRIES_PER_CHUNK],
}

const_assert_eq!(size_of::<Chunk>(), PAGE_SIZE as usize);
const_assert_eq!(size_of::<ChunkHeader>(), 64);
const_assert_eq!(size_of::<PvEntry>(), 24);
const_assert_eq!(ENTRIES_PER_CHUNK, 168);

#[inline]
const fn all_free(word: usize) -> u64 {
    let bits = ENTRIES_PER_CHUNK - word * 64;
    if bits >= 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// A pointer to a chunk in use (INV-PV-1: a chunk's page is given back only when the chunk is off its
/// owner's list and all its entries are free, so that no pointer into it is left).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkPtr(NonNull<Chunk>);

// SAFETY: a chunk consists of atomics.
unsafe impl Send for ChunkPtr {}
// SAFETY: as above.
unsafe impl Sync for ChunkPtr {}

impl Deref for ChunkPtr {
    type Target = ChunkHeader;

    fn deref(&self) -> &ChunkHeader {
        // SAFETY: INV-PV-1; the page holds a Chunk, which is all atomics.
        unsafe { &self.0.as_ref().header }
    }
}

/// A pointer to a PV entry in use, by INV-PV-1 inside a chunk in use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct PvPtr(NonNull<PvEntry>);

// SAFETY: a PV entry consists of atomics.
unsafe impl Send for PvPtr {}

impl Deref for PvPtr {
    type Target = PvEntry;

    fn deref(&self) -> &PvEntry {
        // SAFETY: INV-PV-1; all atomics.
        unsafe { self.0.as_ref() }
    }
}

impl PvPtr {
    #[inline]
    pub(super) fn from_raw(entry: *mut PvEntry) -> Option<Self> {
        NonNull::new(entry).map(Self)
    }

    #[inline]
    pub(super) fn as_ptr(self) -> *mut PvEntry {
        self.0.as_ptr()
    }

    /// The mapping's address.
    #[inline]
    pub(crate) fn va(self) -> VirtAddr {
        // ORD: Relaxed; written before the entry was put on the list, which a lock protects.
        VirtAddr(self.va.load(Ordering::Relaxed))
    }

    #[inline]
    pub(crate) fn set_va(self, va: VirtAddr) {
        // ORD: Relaxed; as above.
        self.va.store(va.0, Ordering::Relaxed);
    }

    /// The chunk that the entry lies in.
    #[inline]
    pub(crate) fn chunk(self) -> ChunkPtr {
        let chunk = self.0.as_ptr().map_addr(|a| a & !(PAGE_SIZE as usize - 1)).cast::<Chunk>();
        // SAFETY: an entry lies inside its page-aligned chunk, so the rounded address is that of the
        // chunk and not null; the provenance is that of the whole page (see `ChunkPtr::set_up`).
        ChunkPtr(unsafe { NonNull::new_unchecked(chunk) })
    }

    #[inline]
    fn index(self) -> usize {
        let offset = self.0.as_ptr().addr() & (PAGE_SIZE as usize - 1);
        (offset - core::mem::offset_of!(Chunk, entries)) / size_of::<PvEntry>()
    }
}

impl ChunkPtr {
    /// Sets up the page at `page` as a chunk of `owner` with all entries free.
    ///
    /// # Safety
    ///
    /// `page` is the direct-map address of a frame that holds zeroes or was a chunk before, that the caller owns, and
    /// that stays allocated while any entry of the chunk is in use.
    pub(crate) unsafe fn set_up(page: NonNull<u8>, owner: *const ()) -> Self {
        let chunk = Self(page.cast());
        // ORD: Relaxed throughout; published by the pmap lock and the PV-list lock.
        chunk.owner.store(owner.cast_mut(), Ordering::Relaxed);
        for (i, word) in chunk.free.iter().enumerate() {
            word.store(all_free(i), Ordering::Relaxed); // ORD: as above
        }
        chunk
    }

    /// The page that holds the chunk, in the direct map.
    pub(crate) fn page(self) -> NonNull<u8> {
        self.0.cast()
    }

    /// The chunk whose header `header` is; it must not be a marker.
    pub(super) fn of_header(header: NonNull<ChunkHeader>) -> Self {
        // The pointer was made by `header_ptr` and has the provenance of the whole page.
        Self(header.cast())
    }

    pub(super) fn header_ptr(self) -> NonNull<ChunkHeader> {
        self.0.cast()
    }

    #[inline]
    fn word(self, i: usize) -> u64 {
        // ORD: Relaxed; protected by the owner's pmap lock.
        self.free[i].load(Ordering::Relaxed)
    }

    /// Number of free entries.
    pub(crate) fn free_entries(self) -> usize {
        (0..WORDS).map(|i| self.word(i).count_ones() as usize).sum()
    }

    #[inline]
    fn is_full(self) -> bool {
        (0..WORDS).all(|i| self.word(i) == 0)
    }

    /// Whether no entry is in use.
    #[inline]
    pub(crate) fn is_unused(self) -> bool {
        (0..WORDS).all(|i| self.word(i) == all_free(i))
    }

    /// The entries that are in use now, in order of their place. The owner's pmap lock is held. Entries may
    /// be freed during the iteration, each after it was yielded: the bitmap is copied first, because the
    /// chunk's page goes away with its last entry.
    pub(crate) fn in_use(self) -> impl Iterator<Item = PvPtr> {
        let free: [u64; WORDS] = core::array::from_fn(|i| self.word(i));
        (0..ENTRIES_PER_CHUNK)
            .filter(move |i| free[i / 64] & (1 << (i % 64)) == 0)
            .map(move |i| self.entry(i))
    }

    #[inline]
    fn entry(self, index: usize) -> PvPtr {
        debug_assert!(index < ENTRIES_PER_CHUNK);
        // SAFETY: index is below the length, so the place lies inside the chunk's page. The pointer is
        // derived from the page's and keeps its provenance.
        PvPtr(unsafe { NonNull::new_unchecked(&raw mut (*self.0.as_ptr()).entries[index]) })
    }

    #[inline]
    fn take_entry(self) -> Option<PvPtr> {
        let word = (0..WORDS).find(|&i| self.word(i) != 0)?;
        let bits = self.word(word);
        // ORD: Relaxed; protected by the owner's pmap lock.
        self.free[word].store(bits & (bits - 1), Ordering::Relaxed);
        Some(self.entry(word * 64 + bits.trailing_zeros() as usize))
    }

    #[inline]
    fn put_entry(self, entry: PvPtr) {
        let index = entry.index();
        let (word, bit) = (index / 64, 1 << (index % 64));
        debug_assert_eq!(self.word(word) & bit, 0, "PV entry freed twice");
        // ORD: Relaxed; protected by the owner's pmap lock.
        self.free[word].store(self.word(word) | bit, Ordering::Relaxed);
    }
}

/// A pmap's chunks. INV-PV-2: chunks with a free entry come before full ones, so either the first chunk
/// has a free entry or none has. Protected by the pmap lock.
#[derive(Default)]
pub(crate) struct ChunkList {
    first: Option<ChunkPtr>,
    last: Option<ChunkPtr>,
}

impl ChunkList {
    /// A free entry of some chunk, now in use; `None` if all chunks are full.
    #[inline]
    pub(crate) fn take(&mut self) -> Option<PvPtr> {
        let chunk = self.first?;
        let entry = chunk.take_entry()?;
        if chunk.is_full() && self.last != Some(chunk) {
            self.unlink(chunk);
            self.push_back(chunk);
        }
        Some(entry)
    }

    /// Frees `entry`. Returns its chunk if that is unused now; it is off the list then and its page must
    /// be given back.
    #[inline]
    #[must_use = "an unused chunk's page must be given back"]
    pub(crate) fn put(&mut self, entry: PvPtr) -> Option<ChunkPtr> {
        let chunk = entry.chunk();
        chunk.put_entry(entry);
        if chunk.is_unused() {
            self.unlink(chunk);
            return Some(chunk);
        }
        if self.first != Some(chunk) {
            self.unlink(chunk);
            self.push_front(chunk);
        }
        None
    }

    /// Adds a chunk with free entries.
    #[inline]
    pub(crate) fn push_front(&mut self, chunk: ChunkPtr) {
        // ORD: Relaxed, here and below; the links are protected by the pmap lock.
        chunk.prev.store(null_mut(), Ordering::Relaxed);
        chunk.next.store(as_raw(self.first), Ordering::Relaxed); // ORD: as above
        match self.first {
            Some(first) => first.prev.store(chunk.0.as_ptr(), Ordering::Relaxed), // ORD: as above
            None => self.last = Some(chunk),
        }
        self.first = Some(chunk);
    }

    fn push_back(&mut self, chunk: ChunkPtr) {
        chunk.next.store(null_mut(), Ordering::Relaxed); // ORD: as in push_front
        chunk.prev.store(as_raw(self.last), Ordering::Relaxed); // ORD: as in push_front
        match self.last {
            Some(last) => last.next.store(chunk.0.as_ptr(), Ordering::Relaxed), // ORD: as in push_front
            None => self.first = Some(chunk),
        }
        self.last = Some(chunk);
    }

    #[inline]
    fn unlink(&mut self, chunk: ChunkPtr) {
        let (next, prev) = (link(&chunk.next), link(&chunk.prev));
        match prev {
            Some(p) => p.next.store(as_raw(next), Ordering::Relaxed), // ORD: as in push_front
            None => self.first = next,
        }
        match next {
            Some(n) => n.prev.store(as_raw(prev), Ordering::Relaxed), // ORD: as in push_front
            None => self.last = prev,
        }
    }

    /// Takes an unused chunk off the list, if there is one; its page must be given back.
    #[must_use = "an unused chunk's page must be given back"]
    pub(crate) fn take_unused(&mut self) -> Option<ChunkPtr> {
        let chunk = self.iter().take_while(|c| !c.is_full()).find(|c| c.is_unused())?;
        self.unlink(chunk);
        Some(chunk)
    }

    /// Takes a chunk off the list.
    pub(crate) fn remove(&mut self, chunk: ChunkPtr) {
        self.unlink(chunk);
    }

    /// Number of free entries, counted no further than to `enough`.
    pub(crate) fn free_entries(&self, enough: usize) -> usize {
        let mut free = 0;
        for chunk in self.iter() {
            let here = chunk.free_entries();
            // Behind the first full chunk there are only full ones (INV-PV-2).
            if here == 0 || free >= enough {
                break;
            }
            free += here;
        }
        free
    }

    /// The chunks in list order. A chunk may be taken off the list while it is the current item.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ChunkPtr> + use<> {
        let mut at = self.first;
        core::iter::from_fn(move || {
            let chunk = at?;
            at = link(&chunk.next);
            Some(chunk)
        })
    }

    /// Whether there is no chunk.
    pub(crate) fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

fn as_raw(chunk: Option<ChunkPtr>) -> *mut Chunk {
    chunk.map_or(null_mut(), |c| c.0.as_ptr())
}

fn link(to: &AtomicPtr<Chunk>) -> Option<ChunkPtr> {
    // ORD: Relaxed; protected by the pmap lock.
    NonNull::new(to.load(Ordering::Relaxed)).map(ChunkPtr)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::alloc::{Layout, alloc_zeroed};
    use std::vec::Vec;

    /// A chunk on a page that is leaked, as real chunk pages never go away under a pointer.
    pub(in crate::pv) fn chunk(owner: usize) -> ChunkPtr {
        let layout = Layout::from_size_align(4096, 4096).unwrap();
        let owner = core::ptr::without_provenance(owner);
        // SAFETY: the layout is not of size zero; the page is ours and never freed.
        unsafe { ChunkPtr::set_up(NonNull::new(alloc_zeroed(layout)).unwrap(), owner) }
    }

    #[test]
    fn a_chunk_holds_168_entries_and_knows_them() {
        let mut list = ChunkList::default();
        list.push_front(chunk(7));
        let entries: Vec<_> = std::iter::from_fn(|| list.take()).collect();
        assert_eq!(entries.len(), ENTRIES_PER_CHUNK);
        for (i, e) in entries.iter().enumerate() {
            assert_eq!(e.index(), i);
            assert_eq!(e.chunk().owner().addr(), 7);
        }
        assert!(list.iter().all(|c| c.in_use().count() == ENTRIES_PER_CHUNK));
        let (last, rest) = entries.split_last().unwrap();
        for e in rest {
            assert!(list.put(*e).is_none());
        }
        assert_eq!(list.put(*last).map(|c| c.owner().addr()), Some(7));
        assert!(list.is_empty());
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 48, ..Default::default() })]

        /// Random requests and returns against plain sets: no entry is handed out twice, none is lost, chunks with room come
        /// first, and a chunk goes exactly when its last entry does.
        #[test]
        fn the_list_agrees_with_plain_sets(
            steps in proptest::collection::vec(proptest::prelude::any::<u16>(), 1..200),
        ) {
            let mut list = ChunkList::default();
            let mut used: Vec<PvPtr> = Vec::new();
            let (mut made, mut gone) = (0, 0);
            for step in steps {
                match step % 8 {
                    // In bursts, so that chunks become full and empty.
                    0..5 => for _ in 0..=step / 1024 {
                        let entry = match list.take() {
                            Some(entry) => entry,
                            None => {
                                made += 1;
                                list.push_front(chunk(made));
                                list.take().unwrap()
                            }
                        };
                        assert!(!used.contains(&entry));
                        used.push(entry);
                    },
                    5..7 => for _ in 0..=step / 1024 {
                        if used.is_empty() {
                            break;
                        }
                        let entry = used.swap_remove(usize::from(step) % used.len());
                        let rest = used.iter().any(|e| e.chunk() == entry.chunk());
                        assert_eq!(list.put(entry).is_some(), !rest);
                        gone += usize::from(!rest);
                    },
                    _ => {
                        made += 1;
                        list.push_front(chunk(made));
                    }
                }
                let free: Vec<usize> = list.iter().map(|c| c.free_entries()).collect();
                assert!(free.iter().skip_while(|n| **n > 0).all(|n| *n == 0), "{free:?}");
                let total: usize = free.iter().sum();
                assert_eq!(list.free_entries(usize::MAX), total);
                assert!(list.free_entries(5) >= total.min(5));
                assert_eq!((free.len(), total + used.len()), (made - gone, (made - gone) * ENTRIES_PER_CHUNK));
            }
            while let Some(unused) = list.take_unused() {
                assert!(used.iter().all(|e| e.chunk() != unused));
                gone += 1;
            }
            let left: std::collections::BTreeSet<_> = used.iter().map(|e| e.chunk().owner().addr()).collect();
            assert_eq!(left.len(), made - gone);
        }
    }

    #[test]
    fn chunks_with_room_stay_in_front() {
        let mut list = ChunkList::default();
        let mut entries = Vec::new();
        for owner in 1..4 {
            list.push_front(chunk(owner));
            entries.extend(std::iter::from_fn(|| list.take()));
        }
        assert_eq!(entries.len(), 3 * ENTRIES_PER_CHUNK);
        // Free one in the middle chunk: it must come first and serve the next request.
        assert!(list.put(entries[ENTRIES_PER_CHUNK + 5]).is_none());
        assert_eq!(list.iter().next().map(|c| c.owner().addr()), Some(2));
        assert_eq!(list.take().map(|e| e.chunk().owner().addr()), Some(2));
        assert!(list.take().is_none());
    }
}
