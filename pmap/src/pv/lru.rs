//! Chunks in order of age, a list for each memory domain, for those who must take PV entries from others.
//!
//! A chunk goes on the list of its page's domain when it is new, and leaves it only with two locks held: the list's
//! and its owner's pmap lock (INV-PV-5). So whoever holds one of them knows that a chunk stays where it is.
//!
//! Whoever walks a list lets go of its lock in between and so cannot trust a chunk to be there when he comes
//! back. He puts two [markers](ChunkHeader::marker) on the list, one before the first chunk and one behind the
//! last, and moves the first one on. Several may walk at the same time and skip each other's markers.

use core::ptr::{NonNull, null_mut};
use core::sync::atomic::{AtomicPtr, Ordering};

use crossbeam_utils::CachePadded;
use lock_api::{Mutex, MutexGuard};

use super::chunk::{ChunkHeader, ChunkPtr};
use crate::machine::{MAX_DOMAINS, Machine};

/// A header on a list: of a chunk, or a marker.
type Node = NonNull<ChunkHeader>;

/// What a chunk's or marker's place on a list is.
fn header<'a>(node: Node) -> &'a ChunkHeader {
    // SAFETY: nodes on a list are headers of chunks in use (INV-PV-1), which leave the list first, or markers, which lie
    // in cores and so never go away (INV-P-1). The reference is used under the list's lock only.
    unsafe { node.as_ref() }
}

fn link(to: &AtomicPtr<ChunkHeader>) -> Option<Node> {
    // ORD: Relaxed, here and below; protected by the list's lock.
    NonNull::new(to.load(Ordering::Relaxed))
}

fn set(link: &AtomicPtr<ChunkHeader>, to: Option<Node>) {
    link.store(to.map_or(null_mut(), NonNull::as_ptr), Ordering::Relaxed); // ORD: as in `link`
}

/// The chunks of one domain, the oldest first.
#[derive(Default)]
pub(crate) struct LruList {
    first: Option<Node>,
    last: Option<Node>,
    /// How many walk the list.
    walkers: usize,
    /// How many chunks have been added.
    arrivals: u64,
}

// SAFETY: the nodes are atomics in memory that outlives their place on the list.
unsafe impl Send for LruList {}

impl LruList {
    /// Adds a chunk as the youngest.
    pub(crate) fn push(&mut self, chunk: ChunkPtr) {
        self.arrivals += 1;
        self.insert(self.last, chunk.header_ptr());
    }

    /// Takes a chunk off. The caller holds the lock of its owner, `owner`, too (INV-PV-5).
    pub(crate) fn remove(&mut self, chunk: ChunkPtr, owner: *const ()) {
        debug_assert_eq!(chunk.owner(), owner, "a chunk leaves the list under its owner's lock");
        debug_assert!(self.has(chunk), "a chunk leaves the list that it is on");
        self.unlink(chunk.header_ptr());
    }

    /// Whether the chunk's neighbours agree that it is on this list.
    pub(crate) fn has(&self, chunk: ChunkPtr) -> bool {
        let node = chunk.header_ptr();
        let before = link(&chunk.lru_prev).map_or(self.first, |n| link(&header(n).lru_next));
        let behind = link(&chunk.lru_next).map_or(self.last, |n| link(&header(n).lru_prev));
        before == Some(node) && behind == Some(node)
    }

    /// The chunks, markers left out.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ChunkPtr> + '_ {
        let mut at = self.first;
        let nodes = core::iter::from_fn(move || {
            let node = at?;
            at = link(&header(node).lru_next);
            Some(node)
        });
        nodes.filter(|n| !header(*n).owner().is_null()).map(ChunkPtr::of_header)
    }

    /// Puts `node` behind `before`, at the front if there is none.
    fn insert(&mut self, before: Option<Node>, node: Node) {
        let behind = before.map_or(self.first, |b| link(&header(b).lru_next));
        set(&header(node).lru_prev, before);
        set(&header(node).lru_next, behind);
        match before {
            Some(b) => set(&header(b).lru_next, Some(node)),
            None => self.first = Some(node),
        }
        match behind {
            Some(b) => set(&header(b).lru_prev, Some(node)),
            None => self.last = Some(node),
        }
    }

    fn unlink(&mut self, node: Node) {
        let (before, behind) = (link(&header(node).lru_prev), link(&header(node).lru_next));
        match before {
            Some(b) => set(&header(b).lru_next, behind),
            None => self.first = behind,
        }
        match behind {
            Some(b) => set(&header(b).lru_prev, before),
            None => self.last = before,
        }
    }

    /// Moves everything before `marker` to the end of the list.
    fn rotate_to(&mut self, marker: Node) {
        while let Some(first) = self.first.filter(|n| *n != marker) {
            self.unlink(first);
            self.insert(self.last, first);
        }
    }
}

/// The lists of all domains.
pub(crate) struct Domains<M: Machine>([CachePadded<Mutex<M::RawMutex, LruList>>; MAX_DOMAINS]);

impl<M: Machine> Domains<M> {
    pub(crate) fn new() -> Self {
        Self(core::array::from_fn(|_| CachePadded::new(Mutex::new(LruList::default()))))
    }

    /// Locks the list of a domain.
    pub(crate) fn lock(&self, domain: usize) -> MutexGuard<'_, M::RawMutex, LruList> {
        self.0[domain % MAX_DOMAINS].lock()
    }
}

/// A walk over one domain's list, from the oldest chunk to the one that was the youngest when it began.
pub(super) struct Walk<'s, M: Machine> {
    domains: &'s Domains<M>,
    domain: usize,
    at: Node,
    end: Node,
    /// Arrivals when it began.
    arrivals: u64,
}

impl<'s, M: Machine> Walk<'s, M> {
    /// Begins a walk with two markers that nobody else uses and that never go away.
    pub(super) fn begin(domains: &'s Domains<M>, domain: usize, markers: &'s [ChunkHeader; 2]) -> Self {
        let [at, end] = markers.each_ref().map(NonNull::from);
        let mut list = domains.lock(domain);
        list.walkers += 1;
        list.insert(None, at);
        let last = list.last;
        list.insert(last, end);
        Self { domains, domain, at, end, arrivals: list.arrivals }
    }

    fn lock(&self) -> MutexGuard<'s, M::RawMutex, LruList> {
        self.domains.lock(self.domain)
    }

    /// The next chunk and its owner, or `None` at the end. Other walkers' markers are skipped. The chunk stays
    /// for certain only if the caller holds the owner's lock already; otherwise he must not look into it.
    pub(super) fn next(&self) -> Option<(ChunkPtr, *const ())> {
        let mut list = self.lock();
        loop {
            let next = link(&header(self.at).lru_next).filter(|n| *n != self.end)?;
            let owner = header(next).owner();
            if !owner.is_null() {
                return Some((ChunkPtr::of_header(next), owner));
            }
            self.pass(&mut list, next);
        }
    }

    /// An owner other than `asking` of a chunk, if chunks have come since the walk began: it may have missed them, since
    /// they go behind its end, and perhaps they are the ones that it would have found.
    pub(super) fn missed(&self, asking: *const ()) -> Option<*const ()> {
        let list = self.lock();
        if list.arrivals == self.arrivals {
            return None;
        }
        list.iter().map(|chunk| chunk.owner()).find(|owner| *owner != asking)
    }

    fn pass(&self, list: &mut LruList, node: Node) {
        list.unlink(self.at);
        list.insert(Some(node), self.at);
    }

    /// Goes past the next chunk if it is still one of `owner`, who could not be locked.
    pub(super) fn pass_chunk_of(&self, owner: *const ()) {
        let mut list = self.lock();
        if let Some(next) = link(&header(self.at).lru_next).filter(|n| *n != self.end)
            && header(next).owner() == owner
        {
            self.pass(&mut list, next);
        }
    }

    /// Goes past `chunk`, the next one, whose owner's lock the caller holds, because there was nothing to take in it. If
    /// nobody else walks the list, the next walk finds it, and all before it, at the end.
    pub(super) fn pass_unproductive(&self, chunk: ChunkPtr) {
        let mut list = self.lock();
        // Another walker's marker may stand in between.
        self.pass(&mut list, chunk.header_ptr());
        if list.walkers == 1 {
            list.rotate_to(self.at);
        }
    }
}

impl<M: Machine> Walk<'_, M> {
    /// Makes an unused chunk of one pmap, off that one's list, an unused and the youngest chunk of another. Both locks are
    /// held.
    pub(super) fn change_owner(&self, chunk: ChunkPtr, from: *const (), to: *const ()) -> ChunkPtr {
        let mut list = self.lock();
        list.remove(chunk, from);
        // SAFETY: the page is a chunk's; it is unused and on no list, so it is the caller's, and stays allocated.
        let chunk = unsafe { ChunkPtr::set_up(chunk.page(), to) };
        list.push(chunk);
        chunk
    }
}

impl<M: Machine> Drop for Walk<'_, M> {
    fn drop(&mut self) {
        let mut list = self.lock();
        list.unlink(self.at);
        list.unlink(self.end);
        list.walkers -= 1;
    }
}

#[cfg(all(test, feature = "sim"))]
mod tests {
    use super::super::chunk::tests::chunk;
    use super::*;
    use crate::sim::SimMachine;
    use std::boxed::Box;
    use std::vec::Vec;

    type Lists = Domains<SimMachine>;

    fn lists(chunks: &[ChunkPtr]) -> Lists {
        let lists = Lists::new();
        chunks.iter().for_each(|c| lists.lock(0).push(*c));
        lists
    }

    fn markers() -> &'static [ChunkHeader; 2] {
        Box::leak(Box::new([ChunkHeader::marker(), ChunkHeader::marker()]))
    }

    fn owners(lists: &Lists) -> Vec<usize> {
        lists.lock(0).iter().map(|c| c.owner().addr()).collect()
    }

    fn begin(lists: &Lists) -> Walk<'_, SimMachine> {
        Walk::begin(lists, 0, markers())
    }

    #[test]
    fn a_walk_alone_leaves_what_it_passed_at_the_end() {
        let chunks = [1, 2, 3].map(chunk);
        let lists = lists(&chunks);
        let walk = begin(&lists);
        for expected in &chunks[..2] {
            assert!(walk.next().is_some_and(|(c, _)| c == *expected));
            walk.pass_unproductive(*expected);
        }
        drop(walk);
        assert_eq!(owners(&lists), [3, 1, 2]);
        let walk = begin(&lists);
        assert!(
            walk.next().is_some_and(|(c, _)| c == chunks[2]),
            "the next walk begins where the first one ended"
        );
        walk.pass_chunk_of(chunks[2].owner());
        walk.pass_chunk_of(chunks[2].owner());
        assert!(walk.next().is_some_and(|(c, _)| c == chunks[0]), "only a chunk of that owner is passed");
        drop(walk);
        assert_eq!(owners(&lists), [3, 1, 2], "what could not be locked keeps its place");
    }

    /// H-68: a marker has no owner, and the places of others must stay where they are.
    #[test]
    fn walkers_skip_each_others_markers_and_rotate_nothing() {
        let chunks = [1, 2, 3, 4].map(chunk);
        let lists = lists(&chunks);
        let first = begin(&lists);
        first.pass_unproductive(chunks[0]);
        assert_eq!(owners(&lists), [2, 3, 4, 1]);
        let second = begin(&lists);
        for expected in [1, 2, 3, 0] {
            assert!(second.next().is_some_and(|(c, _)| c == chunks[expected]));
            second.pass_unproductive(chunks[expected]);
        }
        assert!(second.next().is_none(), "past both markers of the first walk");
        assert_eq!(owners(&lists), [2, 3, 4, 1]);
        assert!(first.next().is_some_and(|(c, _)| c == chunks[1]), "its place was not moved");
        drop(second);
        // Chunks that come after the beginning are behind the end, and the walk knows that it missed them.
        assert!(first.missed(core::ptr::null()).is_none());
        lists.lock(0).push(chunk(5));
        assert!(first.missed(core::ptr::null()).is_some());
        [1, 2, 3].into_iter().for_each(|i| first.pass_unproductive(chunks[i]));
        assert!(first.next().is_none());
        drop(first);
        assert_eq!(lists.lock(0).walkers, 0);
    }

    #[test]
    fn a_chunk_may_go_while_somebody_walks() {
        let chunks = [1, 2, 3].map(chunk);
        let lists = lists(&chunks);
        let walk = begin(&lists);
        assert!(walk.next().is_some_and(|(c, _)| c == chunks[0]));
        lists.lock(0).remove(chunks[0], chunks[0].owner());
        assert!(walk.next().is_some_and(|(c, _)| c == chunks[1]));
        assert_eq!(owners(&lists), [2, 3]);
        assert!(lists.lock(0).has(chunks[2]));
    }

    /// H-67: whoever takes a chunk off says whose lock he holds.
    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "under its owner's lock")]
    fn a_chunk_leaves_under_its_owners_lock_only() {
        let chunks = [1, 2].map(chunk);
        lists(&chunks).lock(0).remove(chunks[0], chunks[1].owner());
    }
}
