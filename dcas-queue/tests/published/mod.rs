//! What `dcas-queue` is measured against: the lock-less generation list as it was published with delayed TLB invalidation,
//! written from a description of it, on the same pairs. The tests use it, and the benchmarks, where it has to be at its
//! best: nodes on lines of their own, links that are addresses, hooks that are compiled away.
//!
//! It has the same list and the same donation of generations; the differences are what matters here. A node carries an INVALID
//! bit while it is not in the list *and while it is being inserted or removed*. Whoever meets the bit on a walk starts again, and
//! goes on doing so until the owner has cleared it: nobody helps. A kernel makes that bearable with critical sections; in user
//! space a thread can stop there. Pairs are read by a locked 16-byte instruction.
//!
//! Locked instructions: 2 to begin (a 16-byte read, a compare-exchange), 3 to finish (the bit, a read, a compare-exchange).

use dcas_queue::pair::{AtomicPair, MARK, Pair};

/// The bit that says "not in the list, or on the way in or out".
const INVALID: usize = MARK;

/// Where a thread stands when the hook is called: each single access that others may see is about to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    /// Begin: the pairs up to the tail are about to be walked.
    Walk,
    /// Begin: the tail was found; it is about to be read as a whole.
    ReadTail,
    /// Begin: the own node is prepared and about to be linked, still INVALID.
    Link,
    /// Begin: linked; INVALID is about to be cleared.
    Validate,
    /// Finish: the predecessor is about to be searched.
    Search,
    /// Finish: INVALID is about to be set in the own node.
    Invalidate,
    /// Finish: set; the predecessor is about to be read as a whole.
    ReadPredecessor,
    /// Finish: the compare-exchange on the predecessor is about to unlink the node.
    Unlink,
}

impl Point {
    /// All points, in the order of a section.
    pub const ALL: [Self; 8] = [
        Self::Walk,
        Self::ReadTail,
        Self::Link,
        Self::Validate,
        Self::Search,
        Self::Invalidate,
        Self::ReadPredecessor,
        Self::Unlink,
    ];
}

/// Hooks: where it stands, and what to do before another attempt (`false`: give up).
pub trait Hook {
    /// Called before the access that `point` names.
    fn at(&self, point: Point);
    /// Called before another attempt; whether there is to be one.
    fn again(&self) -> bool;
}

/// The operation gave up, as its hook said.
#[derive(Debug)]
pub struct GaveUp;

/// A pair on lines of its own: processors fetch them in twos.
#[repr(align(128))]
struct Line(AtomicPair);

/// The list with its nodes, which are known by number; node 0 is the head.
pub struct Published {
    lines: Box<[Line]>,
}

impl Published {
    /// An empty list with nodes 1 to `nodes`.
    #[must_use]
    pub fn new(nodes: usize) -> Self {
        let idle = (0..nodes).map(|_| Pair { payload: 0, link: INVALID });
        let pairs = std::iter::once(Pair::default()).chain(idle);
        Self { lines: pairs.map(|pair| Line(AtomicPair::new(pair))).collect() }
    }

    /// The generation up to which all sections have finished.
    #[inline]
    #[must_use]
    pub fn watermark(&self) -> u64 {
        self.lines[0].0.load_payload()
    }

    /// A 16-byte read; none if the pair is INVALID, which sends the caller back.
    #[inline]
    fn read(pair: &AtomicPair) -> Option<Pair> {
        let seen = pair.load();
        (seen.link & INVALID == 0).then_some(seen)
    }

    /// The pair whose link is `link`, from the head on; none if something INVALID or the end came first.
    #[inline]
    fn find(&self, link: usize) -> Option<&AtomicPair> {
        let mut pair = &self.lines[0].0;
        loop {
            let next = pair.load_link();
            if next == link {
                return Some(pair);
            }
            if next & INVALID != 0 || next == 0 {
                return None;
            }
            // SAFETY: the address of one of `self.lines`, which do not move, exposed when it was linked.
            pair = unsafe { &*core::ptr::with_exposed_provenance(next) };
        }
    }

    /// A node, and the link to it.
    #[inline]
    fn node(&self, node: usize) -> (&AtomicPair, usize) {
        let pair = &self.lines[node].0;
        (pair, core::ptr::from_ref(pair).expose_provenance())
    }

    #[inline]
    fn try_begin(&self, node: usize, hook: &impl Hook) -> Option<u64> {
        let (own, to_own) = self.node(node);
        hook.at(Point::Walk);
        let tail = self.find(0)?;
        hook.at(Point::ReadTail);
        let seen = Self::read(tail).filter(|seen| seen.link == 0)?;
        let generation = seen.payload + 1;
        // SAFETY: the node is not linked, and its owner is here.
        unsafe { own.store_payload(generation) };
        hook.at(Point::Link);
        if !tail.compare_exchange(seen, Pair { link: to_own, ..seen }) {
            return None;
        }
        hook.at(Point::Validate);
        // SAFETY: INVALID: nobody else changes it.
        unsafe { own.store_link(0) };
        Some(generation)
    }

    /// Begins a section on an idle node; one thread per node.
    ///
    /// # Errors
    /// [`GaveUp`], if the hook said so.
    #[inline]
    pub fn begin(&self, node: usize, hook: &impl Hook) -> Result<u64, GaveUp> {
        loop {
            match self.try_begin(node, hook) {
                Some(generation) => return Ok(generation),
                None if hook.again() => {}
                None => return Err(GaveUp),
            }
        }
    }

    #[inline]
    fn try_finish(&self, node: usize, hook: &impl Hook) -> Option<()> {
        let (own, to_own) = self.node(node);
        hook.at(Point::Search);
        let predecessor = self.find(to_own)?;
        hook.at(Point::Invalidate);
        let next = own.mark();
        let generation = own.load_payload();
        hook.at(Point::ReadPredecessor);
        let seen = Self::read(predecessor).filter(|seen| seen.link == to_own);
        hook.at(Point::Unlink);
        let unlinked = seen
            .is_some_and(|seen| predecessor.compare_exchange(seen, Pair { payload: generation, link: next }));
        if !unlinked {
            // SAFETY: INVALID: nobody else changes it.
            unsafe { own.store_link(next) };
            return None;
        }
        Some(())
    }

    /// Finishes the section of a node.
    ///
    /// # Errors
    /// [`GaveUp`], if the hook said so; the section is open then.
    #[inline]
    pub fn finish(&self, node: usize, hook: &impl Hook) -> Result<(), GaveUp> {
        loop {
            match self.try_finish(node, hook) {
                Some(()) => return Ok(()),
                None if hook.again() => {}
                None => return Err(GaveUp),
            }
        }
    }
}
