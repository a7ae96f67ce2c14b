//! What each page must show: a model of address spaces without page tables, frames, or copying on write.
//!
//! A store goes to one of two words of its page, in turn, so that a later look at both also sees whether what the page held before has
//! come along: into a copy, to swap and back. A fork copies everything at once. Nothing here knows the pmap, so that it can be wrong only
//! in ways of its own.

mod cell;
mod regions;

use alloc::collections::{BTreeMap, VecDeque};

use pmap::{PAGE_SHIFT, Protection, VirtAddr, VirtRange};

pub(crate) use cell::{Cell, Objects, SLOTS, Words};
use regions::Regions;
pub(crate) use regions::{Region, Source};

/// Whose page shows at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// This space's alone: new anonymous memory, or a copy.
    Space,
    /// An object's, to which stores go.
    Object,
    /// An object's, which a store must not reach: it makes a copy.
    Foreign,
}

/// What is known of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Nothing is mapped there.
    Nothing,
    /// A page.
    Page {
        /// What may be done with it.
        protection: Protection,
        /// Whose it is.
        owner: Owner,
        /// What it holds, at [`SLOTS`].
        words: Words,
    },
}

/// What is known of one address at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct View {
    /// What must be there.
    pub(crate) shown: Shown,
    /// Changes of the space's ranges so far, and whether one is under way.
    changes: (u64, bool),
    /// Stores to the page so far, and whether one is under way.
    stores: (u32, bool),
}

impl View {
    /// Nothing that it depends on is being changed.
    pub(crate) fn is_settled(&self) -> bool {
        !self.changes.1 && !self.stores.1
    }

    /// Nothing has happened between two looks, and nothing was under way.
    pub(crate) fn holds_until(&self, later: &Self) -> bool {
        self == later && self.is_settled()
    }

    /// No store was made to the page between two looks; for who knows that its range is left alone.
    pub(crate) fn is_unstored_until(&self, later: &Self) -> bool {
        (self.shown, self.stores) == (later.shown, later.stores) && !self.stores.1
    }
}

/// A store that is about to be made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Store {
    /// Which of the [`SLOTS`].
    pub(crate) slot: usize,
    /// What is to be stored.
    pub(crate) stamp: u64,
    /// What the other word must be afterwards; `None` if another space may be storing to what is copied.
    pub(crate) other: Option<u64>,
    /// Whose page it is, if it is an object's.
    source: Option<Source>,
}

/// One address space.
pub(crate) struct Shadow {
    number: u32,
    regions: Regions,
    /// Pages that are the space's own, by page number.
    own: BTreeMap<u64, Cell>,
    /// Changes of ranges that are under way.
    changing: u32,
    changes: u64,
    /// Where the last ones were.
    recent: VecDeque<VirtRange>,
}

/// Changes of ranges that are remembered.
const RECENT: usize = 8;

impl Shadow {
    /// An empty one, with the number that its stamps bear.
    pub(crate) fn new(number: u32) -> Self {
        let (regions, own, recent) = (Regions::default(), BTreeMap::new(), VecDeque::new());
        Self { number, regions, own, changing: 0, changes: 0, recent }
    }

    /// A copy.
    pub(crate) fn fork(&self, number: u32) -> Self {
        Self { regions: self.regions.clone(), own: self.own.clone(), ..Self::new(number) }
    }

    /// Ranges are about to change: until [`end_change`](Self::end_change) no look at them proves anything.
    pub(crate) fn begin_change(&mut self) {
        self.changing += 1;
    }

    /// What is in `range` has changed.
    pub(crate) fn end_change(&mut self, range: VirtRange) {
        self.changing -= 1;
        self.changes += 1;
        self.recent.truncate(RECENT - 1);
        self.recent.push_front(range);
    }

    /// How many changes there were.
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Where changes were since there had been so many; the older ones of many are forgotten.
    pub(crate) fn changed_since(&self, changes: u64) -> impl Iterator<Item = VirtRange> + '_ {
        let new = self.changes.saturating_sub(changes);
        self.recent.iter().take(usize::try_from(new).unwrap_or(RECENT)).copied()
    }

    /// What must be seen at `va`.
    pub(crate) fn view(&self, va: VirtAddr, objects: &Objects) -> View {
        let changes = (self.changes, self.changing > 0);
        let mut view = View { shown: Shown::Nothing, changes, stores: (0, false) };
        let Some(region) = self.regions.at(va) else { return view };
        let page = va.0 >> PAGE_SHIFT;
        let (cell, owner) = match (self.own.get(&page), region.source) {
            (Some(cell), _) => (*cell, Owner::Space),
            (None, Some(source)) if region.is_shared => (objects.cell(source), Owner::Object),
            (None, Some(source)) => (objects.cell(source), Owner::Foreign),
            (None, None) => (Cell::default(), Owner::Space),
        };
        view.shown = Shown::Page { protection: region.protection, owner, words: cell.words };
        view.stores = (cell.stores, cell.is_being_stored_to);
        view
    }

    /// Maps a region; false if something is in the way.
    pub(crate) fn map(&mut self, range: VirtRange, region: Region) -> bool {
        let free = !self.regions.has(range);
        if free {
            self.regions.insert(range, region);
        }
        free
    }

    /// Removes what is mapped; false if nothing was.
    pub(crate) fn unmap(&mut self, range: VirtRange) -> bool {
        self.drop_own(range);
        self.regions.remove(range) > 0
    }

    /// Gives what is mapped other rights; false if nothing is.
    pub(crate) fn protect(&mut self, range: VirtRange, protection: Protection) -> bool {
        self.regions.protect(range, protection) > 0
    }

    /// Throws own pages away; false if nothing is mapped.
    pub(crate) fn discard(&mut self, range: VirtRange) -> bool {
        self.drop_own(range);
        self.regions.has(range)
    }

    /// Whether something is mapped at `va`.
    pub(crate) fn has_mapping(&self, va: VirtAddr) -> bool {
        self.regions.at(va).is_some()
    }

    /// Whether [`remap`](Self::remap) has room for what it adds.
    pub(crate) fn has_room(&self, old: VirtRange, new: VirtRange) -> bool {
        if old.start() == new.start() {
            return VirtRange::new(old.end(), new.end()).is_none_or(|growth| !self.regions.has(growth));
        }
        let mut others = self.regions.clone();
        others.remove(old);
        !others.has(new)
    }

    /// Moves the mapping at `old` to `new`, or resizes it. It is there, and there is room.
    pub(crate) fn remap(&mut self, old: VirtRange, new: VirtRange) {
        let Some(region) = self.regions.at(old.start()) else { return };
        let pages = (old.start().0 >> PAGE_SHIFT)..(old.end().0 >> PAGE_SHIFT);
        let moved: BTreeMap<u64, Cell> = self.own.extract_if(pages.clone(), |_, _| true).collect();
        let (from, to) = (pages.start, new.start().0 >> PAGE_SHIFT);
        let kept = moved.into_iter().filter(|(page, _)| page - from < new.pages());
        let kept: BTreeMap<u64, Cell> = kept.map(|(page, cell)| (page - from + to, cell)).collect();
        self.regions.remove(old);
        self.regions.insert(new, region);
        self.own.extend(kept);
    }

    fn drop_own(&mut self, range: VirtRange) {
        let pages = (range.start().0 >> PAGE_SHIFT)..(range.end().0 >> PAGE_SHIFT);
        self.own.extract_if(pages, |_, _| true).for_each(drop);
    }

    /// A store to the page at `va`, which is mapped and may be stored to, is about to be made.
    pub(crate) fn begin_store(&mut self, va: VirtAddr, objects: &mut Objects) -> Option<Store> {
        let region = self.regions.at(va)?;
        let mut other_is_known = true;
        let (cell, source) = match region.source {
            Some(source) if region.is_shared => (objects.cell_mut(source), Some(source)),
            source => {
                let new = || {
                    let cell = source.map(|source| objects.cell(source)).unwrap_or_default();
                    other_is_known = cell.stores == 0 && !cell.is_being_stored_to;
                    Cell { is_being_stored_to: false, ..cell }
                };
                (self.own.entry(va.0 >> PAGE_SHIFT).or_insert_with(new), None)
            }
        };
        cell.is_being_stored_to = true;
        let (slot, stamp) = cell.next(self.number, va);
        let other = other_is_known.then_some(cell.words[1 - slot]);
        Some(Store { slot, stamp, other, source })
    }

    /// It has been made; the page's other word is `other` now.
    pub(crate) fn end_store(&mut self, va: VirtAddr, store: &Store, other: u64, objects: &mut Objects) {
        let cell = match store.source {
            Some(source) => Some(objects.cell_mut(source)),
            None => self.own.get_mut(&(va.0 >> PAGE_SHIFT)),
        };
        if let Some(cell) = cell {
            cell.stores += 1;
            cell.is_being_stored_to = false;
            cell.words[store.slot] = store.stamp;
            cell.words[1 - store.slot] = other;
        }
    }

    /// Addresses of some of the pages that are the space's own: one in `step`.
    pub(crate) fn own_pages(&self, step: usize) -> impl Iterator<Item = VirtAddr> + '_ {
        self.own.keys().step_by(step.max(1)).map(|page| VirtAddr(page << PAGE_SHIFT))
    }

    /// How many pages are the space's own.
    pub(crate) fn own_count(&self) -> usize {
        self.own.len()
    }
}
