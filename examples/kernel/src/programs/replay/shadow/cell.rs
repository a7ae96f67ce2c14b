//! What a page holds, as far as it is looked at.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;

use pmap::{PAGE_SHIFT, VirtAddr};

use super::Source;

/// The words of a page that are stored to and looked at: near its beginning and near its end.
pub(crate) const SLOTS: [u64; 2] = [1, 510];

/// What they hold.
pub(crate) type Words = [u64; SLOTS.len()];

/// One page. A new one is all zeroes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(super) words: Words,
    /// Stores so far.
    pub(super) stores: u32,
    pub(super) is_being_stored_to: bool,
}

impl Cell {
    /// Where the next store goes, and what it stores: who did it, where, and the how manieth it is.
    pub(super) fn next(&self, space: u32, va: VirtAddr) -> (usize, u64) {
        let page = (va.0 >> PAGE_SHIFT) & 0xffff_ffff;
        let count = self.stores.wrapping_add(1);
        let stamp = u64::from(space) << 48 | page << 16 | u64::from(count & 0xffff);
        (self.stores as usize % SLOTS.len(), stamp)
    }
}

/// A word of an object to which nobody has stored, from the object, the page, and the place in the page.
type Initial = dyn Fn(u32, u64, u64) -> u64 + Send;

/// The pages of objects that were stored to, and what the others hold.
pub(crate) struct Objects {
    initial: Box<Initial>,
    cells: BTreeMap<(u32, u64), Cell>,
}

impl Objects {
    pub(crate) fn new(initial: impl Fn(u32, u64, u64) -> u64 + Send + 'static) -> Self {
        Self { initial: Box::new(initial), cells: BTreeMap::new() }
    }

    pub(super) fn cell(&self, source: Source) -> Cell {
        self.cells.get(&(source.object, source.page)).copied().unwrap_or_else(|| new(&*self.initial, source))
    }

    pub(super) fn cell_mut(&mut self, source: Source) -> &mut Cell {
        let initial = &*self.initial;
        self.cells.entry((source.object, source.page)).or_insert_with(|| new(initial, source))
    }
}

fn new(initial: &Initial, source: Source) -> Cell {
    Cell { words: SLOTS.map(|slot| initial(source.object, source.page, slot)), ..Cell::default() }
}
