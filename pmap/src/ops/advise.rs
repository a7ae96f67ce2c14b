//! `advise`: what a program says about memory that it will not need for some time.

use crate::addr::VirtRange;
use crate::entry::{ACCESSED, DIRTY, Entry, MANAGED};
use crate::machine::Machine;
use crate::pmap::Pmap;
use crate::record::PageRecord;
use crate::table::user_part;

/// What a program expects of a range of its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Advice {
    /// The pages will not be needed soon, but their contents matter (`MADV_DONTNEED` of BSD).
    DontNeed,
    /// The contents may be thrown away until somebody stores to the pages again (`MADV_FREE`).
    Free,
}

impl<M: Machine> Pmap<'_, M> {
    /// Makes the managed mappings in the user part of `range` look unused: clean and not accessed. The dirty bits
    /// move to the pages with [`Advice::DontNeed`] and are thrown away with [`Advice::Free`]; what the
    /// pages' own marks say already is the caller's to keep or to clear. The accessed bits are thrown away in any
    /// case.
    ///
    /// On return the next access through any of these mappings is noted again: no CPU holds a translation that
    /// would hide it. Nothing is unmapped, so no DI section is needed, and no memory.
    pub fn advise(&self, range: VirtRange, advice: Advice) {
        let range = user_part(range);
        let (system, core) = (self.system(), self.core());
        let forget = |entry: Entry| {
            let used = entry.is_modified() || entry.has(ACCESSED);
            let bits = if entry.is_modified() { ACCESSED | DIRTY } else { ACCESSED };
            (entry.has(MANAGED) && used).then(|| entry.without(bits))
        };
        system.restrict_leaves(core, range, forget, |old| {
            if old.is_modified() && advice == Advice::DontNeed {
                system.page(old.frame()).into_iter().for_each(PageRecord::set_dirty);
            }
        });
        system.count(|c| &c.advises, 1);
    }
}
