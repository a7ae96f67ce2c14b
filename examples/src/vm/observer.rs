//! Where a checker looks on: what happens, told at the moment from which it is true, and occasions to
//! ask the pmap questions.

use pmap::{Access, Frame, PageRecord, Protection, VirtAddr, VirtRange};

use super::{SpacePmap, System, Vma};

/// An access that was made, with the page locked, so that neither contents nor mapping change meanwhile.
#[derive(Clone, Copy)]
pub struct Seen<'a, 's> {
    /// Space.
    pub space: u32,
    /// Its pmap.
    pub pmap: &'a SpacePmap<'s>,
    /// Address.
    pub va: VirtAddr,
    /// Kind of access.
    pub access: Access,
    /// What was read or written.
    pub value: u64,
    /// Where the page is.
    pub frame: Frame,
    /// Its record.
    pub record: &'a PageRecord,
    /// Whether the page tables permit no more than what is mapped: false while rights are being taken away.
    pub settled: bool,
    /// Whether other CPUs may store to the page without any lock, so that "modified" has no exact answer.
    pub wild: bool,
}

/// Looks on. Functions of the first group tell of changes and are called with the space's layout locked
/// exclusively (or, for single pages, with the page locked): implementations use leaf locks only and do
/// not call the pmap there. Functions of the second group may.
pub trait Observer: Sync {
    /// A new, empty space.
    fn created(&self, _space: u32) {}
    /// A new mapping.
    fn mapped(&self, _space: u32, _vma: &Vma) {}
    /// Whatever was in the range is gone.
    fn unmapped(&self, _space: u32, _range: VirtRange) {}
    /// The range has new rights.
    fn protected(&self, _space: u32, _range: VirtRange, _protection: Protection) {}
    /// The private pages of the range are gone; it stays mapped.
    fn discarded(&self, _space: u32, _range: VirtRange) {}
    /// The page at `va` may become zero at any time until the next store.
    fn disposable(&self, _space: u32, _va: VirtAddr) {}
    /// A page fault for a store at `va` was resolved, with a copy if one was due, and the page is in `frame` now; but
    /// the mapping was taken away again, and the store has not been made.
    fn prepared(&self, _space: u32, _va: VirtAddr, _frame: Frame) {}
    /// The mapping moved, grew or shrank.
    fn moved(&self, _space: u32, _old: VirtRange, _new: VirtRange) {}
    /// `child` is a copy of `parent`.
    fn forked(&self, _parent: u32, _child: u32) {}
    /// The space and everything in it is gone.
    fn gone(&self, _space: u32) {}
    /// The page in this frame was saved: it is not modified any more.
    fn cleaned(&self, _frame: Frame) {}
    /// The frame goes back to the machine.
    fn frame_released(&self, _frame: Frame) {}
    /// A broken promise that does not fit elsewhere.
    fn broken(&self, _what: &'static str) {}
    /// Whether anything was wrong so far.
    fn has_objections(&self) -> bool {
        false
    }

    /// An access was made.
    fn accessed(&self, _system: &System, _seen: &Seen<'_, '_>) {}
    /// A CPU read `value` at an address whose page has not changed since it was there before.
    fn reread(&self, _space: u32, _va: VirtAddr, _value: u64) {}
    /// `Pmap::remove` has returned for this range, and nobody has entered anything since.
    fn range_removed(&self, _space: u32, _pmap: &SpacePmap<'_>, _range: VirtRange) {}
    /// `Pmap::protect` has returned for this range.
    fn rights_taken(
        &self,
        _system: &System,
        _pmap: &SpacePmap<'_>,
        _range: VirtRange,
        _protection: Protection,
    ) {
    }
    /// The tables of `child` were copied; both spaces are locked.
    fn tables_copied(&self, _system: &System, _parent: &SpacePmap<'_>, _child: &SpacePmap<'_>, _vma: &Vma) {}
    /// `remove_all` has returned for this page, which is still locked.
    fn page_emptied(&self, _system: &System, _record: &PageRecord) {}
}

/// Does not look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Observer for Nobody {}
