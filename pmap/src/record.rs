//! Page records: what the pmap knows about each physical page.
//!
//! One cache line per page, laid out over the machine's memory ranges. Fields that a lock protects are
//! relaxed atomics: the lock orders them, and no `unsafe` is needed to reach them.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use static_assertions::const_assert_eq;

use crate::addr::{Frame, FrameRange};
use crate::error::{FrameError, RetireError, StillHeld};
use crate::pv::{PvEntry, PvLocking};

const WRITEABLE: u32 = 1;
const REFERENCED: u32 = 1 << 1;
const IS_DIRTY: u32 = 1 << 2;
const UNMANAGED: u32 = 1 << 3;
const INTERNAL: u32 = 1 << 4;
const RETIRED: u32 = 1 << 5;
/// The bits from here on count those who are entering the page in the place of another one.
const ENTERING: u32 = 1 << 8;

/// In the count of holds: no further ones are taken.
const REFUSED: u32 = 1 << 31;

/// The record of one physical page.
///
/// The embedder owns the page's identity (which object, busy or not); the pmap keeps its reverse map
/// and the states that pass between page tables and page: dirty, referenced, possibly writable.
#[repr(C, align(64))]
pub struct PageRecord {
    frame: AtomicU64,
    /// PV list, protected by the page's PV-list lock.
    pub(crate) pv_first: AtomicPtr<PvEntry>,
    pub(crate) pv_last: AtomicPtr<PvEntry>,
    /// Raised by every change of the PV list; protected by the PV-list lock. 64 bits never wrap (H-66).
    pub(crate) pv_generation: AtomicU64,
    flags: AtomicU32,
    wired: AtomicU32,
    /// Of a page-table page: its valid entries. Protected by the pmap lock. While the page is saved, part of its place.
    table_entries: AtomicU32,
    /// Number of the lock of the page's PV list; never changes.
    pv_lock: AtomicU32,
    /// Of a page-table page that waits for a flush: the next one that does, 0 for none (frame 0 is never used). Of a directory
    /// in use: the root of its saved tables. While the page is saved: part of its place. See `table::saved`.
    chain: AtomicU64,
}

const_assert_eq!(size_of::<PageRecord>(), 64);

/// What a mapping knew of its page.
#[derive(Clone, Copy, Default)]
pub(crate) struct Knew {
    pub(crate) modified: bool,
    pub(crate) referenced: bool,
}

impl PageRecord {
    fn new(frame: Frame, pv_lock: u32) -> Self {
        Self {
            frame: AtomicU64::new(frame.0),
            pv_first: AtomicPtr::new(core::ptr::null_mut()),
            pv_last: AtomicPtr::new(core::ptr::null_mut()),
            pv_generation: AtomicU64::new(0),
            // What a cleared entry points to must hold nothing worth reading: L1 terminal fault (H-41).
            flags: AtomicU32::new(if frame.0 == 0 { RETIRED } else { 0 }),
            wired: AtomicU32::new(0),
            table_entries: AtomicU32::new(0),
            pv_lock: AtomicU32::new(pv_lock),
            chain: AtomicU64::new(0),
        }
    }

    /// The page's frame.
    #[inline]
    #[must_use]
    pub fn frame(&self) -> Frame {
        // ORD: Relaxed; never changes after construction.
        Frame(self.frame.load(Ordering::Relaxed))
    }

    /// Number of the lock of the page's PV list.
    #[inline]
    pub(crate) fn pv_lock(&self) -> u32 {
        // ORD: Relaxed; never changes after construction.
        self.pv_lock.load(Ordering::Relaxed)
    }

    #[inline]
    fn flag(&self, bit: u32) -> bool {
        // ORD: Acquire pairs with `set`'s Release: who sees a page dirty sees why.
        self.flags.load(Ordering::Acquire) & bit != 0
    }

    #[inline]
    fn set(&self, bit: u32) {
        // Looked at first, so that the usual "already set" does not take the line from other CPUs.
        if !self.flag(bit) {
            // ORD: AcqRel pairs with `flag`.
            self.flags.fetch_or(bit, Ordering::AcqRel);
        }
    }

    /// Takes up what a mapping knew that is about to leave the page's list; `last` if no other one is left, so that the
    /// writeable mark goes (H-71). One atomic operation: whoever sees the mark gone sees the rest.
    #[inline]
    pub(crate) fn take_up(&self, knew: Knew, last: bool) {
        let dirty = if knew.modified { IS_DIRTY } else { 0 };
        let marks = dirty | if knew.referenced { REFERENCED } else { 0 };
        let change = |flags: u32| (flags | marks) & if last { !WRITEABLE } else { !0 };
        // ORD: Acquire, as in `flag`; looked at first, as in `set`.
        let now = self.flags.load(Ordering::Acquire);
        if change(now) != now {
            // ORD: AcqRel pairs with `flag`; Acquire on failure, as above.
            let _ = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |flags| Some(change(flags)));
        }
    }

    fn reset(&self, bit: u32) -> bool {
        // ORD: AcqRel pairs with `set`: what was done before the flag was set is visible to who clears it.
        self.flags.fetch_and(!bit, Ordering::AcqRel) & bit != 0
    }

    /// Whether the page is marked dirty. Set by the pmap whenever a dirty bit leaves a page table;
    /// mappings that still exist are asked with [`System::is_modified`](crate::System::is_modified). Ask those
    /// first: bits move from there to here.
    #[inline]
    #[must_use]
    pub fn is_dirty(&self) -> bool {
        self.flag(IS_DIRTY)
    }

    /// Marks the page dirty.
    #[inline]
    pub fn set_dirty(&self) {
        self.set(IS_DIRTY);
    }

    /// Takes the dirty mark away; returns whether it was there.
    pub fn clear_dirty(&self) -> bool {
        self.reset(IS_DIRTY)
    }

    /// Whether an access was recorded when a mapping of the page went away.
    #[must_use]
    pub fn is_referenced_flag(&self) -> bool {
        self.flag(REFERENCED)
    }

    /// Takes the referenced mark away; returns whether it was there.
    pub fn clear_referenced_flag(&self) -> bool {
        self.reset(REFERENCED)
    }

    /// Whether a managed mapping of the page may be writable. Set before the first such mapping exists;
    /// cleared when the last mapping goes or `remove_write` is through (H-71).
    #[inline]
    #[must_use]
    pub fn is_writeable(&self) -> bool {
        self.flag(WRITEABLE)
    }

    #[inline]
    pub(crate) fn set_writeable(&self) {
        self.set(WRITEABLE);
    }

    #[inline]
    pub(crate) fn clear_writeable(&self) {
        if self.flag(WRITEABLE) {
            self.reset(WRITEABLE);
        }
    }

    /// Whether mappings of the page get PV entries.
    #[inline]
    #[must_use]
    pub fn is_managed(&self) -> bool {
        !self.flag(UNMANAGED)
    }

    /// Whether the frame holds structures of the pmap itself.
    #[inline]
    pub(crate) fn is_internal(&self) -> bool {
        self.flag(INTERNAL)
    }

    /// Notes that the pmap lives in the frame from now on, unless it is out of use; says whether it does.
    pub(crate) fn make_internal(&self, even_retired: bool) -> bool {
        let refused = if even_retired { 0 } else { RETIRED };
        // ORD: AcqRel pairs with `flag`; Acquire on failure, as there.
        self.flags
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |flags| {
                (flags & refused == 0).then_some(flags | INTERNAL)
            })
            .is_ok()
    }

    /// Notes that the pmap has left the frame.
    pub(crate) fn forget_internal(&self) {
        self.reset(INTERNAL);
    }

    pub(crate) fn set_unmanaged(&self, unmanaged: bool) {
        if unmanaged {
            self.set(UNMANAGED);
        } else {
            self.reset(UNMANAGED);
        }
    }

    /// Whether the frame must never be used, see [`System::retire`](crate::System::retire).
    #[inline]
    #[must_use]
    pub fn is_retired(&self) -> bool {
        self.flag(RETIRED)
    }

    /// Takes the frame out of use, unless the pmap itself lives in it or somebody is just entering it. One operation with
    /// that question, as [`make_internal`](Self::make_internal) and [`begin_entering`](Self::begin_entering) are: of two,
    /// whoever comes second is told.
    pub(crate) fn retire(&self) -> Result<(), RetireError> {
        // ORD: AcqRel pairs with `flag`; Acquire on failure, as there.
        let result = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |flags| {
            (flags & INTERNAL == 0 && flags < ENTERING).then_some(flags | RETIRED)
        });
        match result {
            Ok(_) => Ok(()),
            Err(flags) if flags & INTERNAL != 0 => Err(RetireError::Frame(FrameError::PmapsOwn)),
            Err(_) => Err(RetireError::StillMapped),
        }
    }

    /// Keeps the frame in use until the value returned is dropped; `None` if it is out of use.
    pub(crate) fn begin_entering(&self) -> Option<Entering<'_>> {
        // ORD: AcqRel pairs with `flag`; Acquire on failure, as there.
        let result = self.flags.fetch_update(Ordering::AcqRel, Ordering::Acquire, |flags| {
            if flags & RETIRED == 0 { flags.checked_add(ENTERING) } else { None }
        });
        result.is_ok().then_some(Entering { page: self })
    }

    /// Number of holds taken by `extract_and_hold` and not yet undone. The embedder must not reuse a
    /// page while there are any.
    #[must_use]
    pub fn wire_count(&self) -> u32 {
        // ORD: Acquire pairs with `unhold`'s Release: the holder's accesses are over.
        self.wired.load(Ordering::Acquire) & !REFUSED
    }

    /// Refuses holds on the page until the value returned is dropped: for who takes the page down, and must not find
    /// after [`remove_all`](crate::System::remove_all) that somebody has got hold of it meanwhile.
    ///
    /// # Errors
    ///
    /// [`StillHeld`] if the page is held, or somebody else refuses holds already.
    pub fn refuse_holds(&self) -> Result<HoldsRefused<'_>, StillHeld> {
        // ORD: Acquire pairs with `unhold`'s Release, as in `wire_count`; Relaxed on failure, nothing follows.
        match self.wired.compare_exchange(0, REFUSED, Ordering::Acquire, Ordering::Relaxed) {
            Ok(_) => Ok(HoldsRefused { page: self }),
            Err(_) => Err(StillHeld),
        }
    }

    /// Takes one hold; false if holds are refused, or there are too many to count.
    pub(crate) fn hold(&self) -> bool {
        // ORD: Acquire pairs with the Release in `HoldsRefused::drop`; Relaxed on failure. The pmap lock held by
        // the caller keeps the mapping, and so the page, from going away.
        self.wired
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |n| (n < REFUSED - 1).then_some(n + 1))
            .is_ok()
    }

    /// Undoes one hold; false if there was none.
    pub(crate) fn unhold(&self) -> bool {
        self.wired
            // ORD: Release pairs with `wire_count`; Relaxed on failure, nothing follows from it.
            .fetch_update(Ordering::Release, Ordering::Relaxed, |n| n.checked_sub(1).filter(|_| n < REFUSED))
            .is_ok()
    }

    #[inline]
    pub(crate) fn table_entries(&self) -> u32 {
        // ORD: Relaxed; protected by the pmap lock.
        self.table_entries.load(Ordering::Relaxed)
    }

    /// Counts a valid entry of the page-table page less; returns how many are left.
    #[inline]
    pub(crate) fn drop_table_entry(&self) -> u32 {
        let left = self.table_entries().saturating_sub(1);
        self.set_table_entries(left);
        left
    }

    #[inline]
    pub(crate) fn set_table_entries(&self, entries: u32) {
        // ORD: Relaxed; protected by the pmap lock.
        self.table_entries.store(entries, Ordering::Relaxed);
    }

    pub(crate) fn chain(&self) -> Option<Frame> {
        // ORD: Relaxed; only the owner of the chain touches it.
        let next = self.chain.load(Ordering::Relaxed);
        (next != 0).then_some(Frame(next))
    }

    pub(crate) fn set_chain(&self, next: Option<Frame>) {
        // ORD: Relaxed; only the owner of the chain touches it.
        self.chain.store(next.map_or(0, |f| f.0), Ordering::Relaxed);
    }
}

/// For the store of saved tables. Other fields that a page-table page has no use for can be reached by safe calls from outside,
/// which would follow, or change, what does not belong to them.
impl PageRecord {
    /// A saved page-table page's place in the store.
    pub(crate) fn place(&self) -> (u64, u32) {
        // ORD: Relaxed; protected by the pmap lock.
        (self.chain.load(Ordering::Relaxed), self.table_entries())
    }

    /// Gives a page-table page its place in the store; on leaving it, `chain` is 0 and the other word its count again.
    pub(crate) fn set_place(&self, (chain, table_entries): (u64, u32)) {
        // ORD: Relaxed; protected by the pmap lock.
        self.chain.store(chain, Ordering::Relaxed);
        self.set_table_entries(table_entries);
    }
}

/// While this lives, nobody gets a hold on the page. Made by [`PageRecord::refuse_holds`].
#[must_use = "holds are refused only while this lives"]
#[derive(Debug)]
pub struct HoldsRefused<'a> {
    page: &'a PageRecord,
}

impl Drop for HoldsRefused<'_> {
    fn drop(&mut self) {
        // ORD: Release pairs with the Acquire in `hold`: what was done to the page meanwhile is visible.
        self.page.wired.fetch_and(!REFUSED, Ordering::Release);
    }
}

/// While this lives, the frame does not go out of use. Made by [`PageRecord::begin_entering`].
#[must_use = "the frame is kept in use only while this lives"]
pub(crate) struct Entering<'a> {
    page: &'a PageRecord,
}

impl Drop for Entering<'_> {
    fn drop(&mut self) {
        // ORD: Release pairs with the Acquire in `retire`.
        self.page.flags.fetch_sub(ENTERING, Ordering::Release);
    }
}

impl fmt::Debug for PageRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PageRecord")
            .field("frame", &self.frame())
            .field("managed", &self.is_managed())
            .field("dirty", &self.is_dirty())
            .field("referenced", &self.is_referenced_flag())
            .field("writeable", &self.is_writeable())
            .field("wired", &self.wire_count())
            .finish_non_exhaustive()
    }
}

/// All page records of a machine: an array in storage that outlives it.
pub(crate) struct Records {
    first: NonNull<PageRecord>,
    count: usize,
}

// SAFETY: the records are atomics, reachable by shared references only.
unsafe impl Send for Records {}
// SAFETY: as above.
unsafe impl Sync for Records {}

impl Records {
    /// Number of records that `memory` needs.
    pub(crate) fn needed(memory: &[FrameRange]) -> usize {
        memory.iter().map(|r| r.count as usize).sum()
    }

    /// Writes a record per page into `storage`.
    ///
    /// # Safety
    ///
    /// `storage` is aligned for, and valid for writes of, `needed(memory)` records, is used by nobody
    /// else, and lives as long as the value returned.
    pub(crate) unsafe fn lay_out(
        memory: &[FrameRange],
        locking: PvLocking,
        storage: NonNull<PageRecord>,
    ) -> Self {
        let mut locks = locking.numbering();
        let frames = memory.iter().flat_map(|r| (0..r.count).map(move |i| Frame(r.start.0 + i)));
        let mut count = 0;
        for (i, frame) in frames.enumerate() {
            // SAFETY: i is below needed(memory), so the place lies inside the storage.
            unsafe { storage.add(i).write(PageRecord::new(frame, locks.of(frame))) };
            count = i + 1;
        }
        Self { first: storage, count }
    }

    #[inline]
    pub(crate) fn all(&self) -> &[PageRecord] {
        // SAFETY: `lay_out` initialised `count` records, which live as long as self and are only shared.
        unsafe { core::slice::from_raw_parts(self.first.as_ptr(), self.count) }
    }

    /// The record of `frame`; `None` outside `memory`, which must be what `lay_out` was given.
    #[inline]
    pub(crate) fn get(&self, memory: &[FrameRange], frame: Frame) -> Option<&PageRecord> {
        let mut base = 0;
        for range in memory {
            let offset = frame.0.wrapping_sub(range.start.0);
            if offset < range.count {
                return self.all().get(base + offset as usize);
            }
            base += range.count as usize;
        }
        None
    }
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    /// Neither order leaves something of the pmap's in a frame that is out of use.
    #[test]
    fn a_frame_is_the_pmaps_own_or_out_of_use_but_not_both() {
        let own = PageRecord::new(Frame(7), 0);
        assert!(own.make_internal(false));
        assert_eq!(own.retire(), Err(RetireError::Frame(FrameError::PmapsOwn)));
        assert!(!own.is_retired());
        own.forget_internal();
        assert_eq!(own.retire(), Ok(()));
        assert!(own.is_retired() && !own.make_internal(false) && !own.is_internal());
    }

    #[test]
    fn a_frame_is_being_entered_or_out_of_use_but_not_both() {
        let page = PageRecord::new(Frame(7), 0);
        let entering = [page.begin_entering(), page.begin_entering()];
        assert!(entering.iter().all(Option::is_some));
        page.set_dirty();
        assert_eq!(page.retire(), Err(RetireError::StillMapped));
        drop(entering);
        assert!(!page.is_retired() && page.is_dirty());
        assert_eq!(page.retire(), Ok(()));
        assert!(page.begin_entering().is_none());
    }
}
