//! Walking a range, leaf table by leaf table.

use super::ROOT_LEVEL;
use crate::addr::{Frame, PAGE_SHIFT, SUPERPAGE_SIZE, VirtAddr, VirtRange};
use crate::machine::Machine;
use crate::pmap::Core;
use crate::system::System;

/// The leaf tables that exist for a range, each with the part of the range that it covers. Absent upper
/// levels are skipped whole. Each step starts at the root, so the operation may free tables behind it.
pub(crate) struct LeafTables<'s, M: Machine> {
    system: &'s System<M>,
    root: Frame,
    at: VirtAddr,
    end: VirtAddr,
}

/// What of `range` lies in the user half.
pub(crate) fn user_part(range: VirtRange) -> VirtRange {
    let end = range.end().min(VirtRange::user().end());
    VirtRange::new(range.start().min(end), end).unwrap_or(range)
}

impl<'s, M: Machine> LeafTables<'s, M> {
    pub(crate) fn new(system: &'s System<M>, root: Frame, range: VirtRange) -> Self {
        Self { system, root, at: range.start(), end: range.end() }
    }

    /// First address after the part of a table of `level` that one entry covers and `at` lies in; `end`
    /// if that is beyond it or wraps.
    fn next_entry(&self, level: u32) -> VirtAddr {
        let bytes = 1u64 << (PAGE_SHIFT + 9 * (level - 1));
        match (self.at.0 & !(bytes - 1)).checked_add(bytes) {
            Some(next) if next < self.end.0 => VirtAddr(next),
            _ => self.end,
        }
    }
}

impl<M: Machine> Iterator for LeafTables<'_, M> {
    type Item = (Frame, VirtRange);

    fn next(&mut self) -> Option<Self::Item> {
        'again: while self.at < self.end {
            let mut table = self.root;
            for level in (2..=ROOT_LEVEL).rev() {
                let entry = self.system.slot(table, self.at.index(level)).load();
                if !entry.is_present() {
                    self.at = self.next_entry(level);
                    continue 'again;
                }
                table = entry.frame();
            }
            let start = self.at;
            self.at = self.next_entry(2);
            return VirtRange::new(start, self.at).map(|part| (table, part));
        }
        None
    }
}

/// The leaf table that a walk over ascending addresses was in last, so that not every page needs a walk from the root.
#[derive(Default)]
pub(crate) struct LeafCursor {
    last: Option<(u64, Frame)>,
}

impl LeafCursor {
    /// The leaf table that covers `va`, if there is one. Good while the pmap lock is held and no table goes.
    pub(crate) fn table<M: Machine>(
        &mut self,
        system: &System<M>,
        core: &Core<M>,
        va: VirtAddr,
    ) -> Option<Frame> {
        let region = va.0 >> SUPERPAGE_SIZE.trailing_zeros();
        if let Some((_, table)) = self.last.filter(|(last, _)| *last == region) {
            return Some(table);
        }
        let table = system.leaf_table(core.root(), va)?;
        self.last = Some((region, table));
        Some(table)
    }
}
