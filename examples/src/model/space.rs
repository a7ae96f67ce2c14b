//! One address space of the model.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::cell::Cell;
use super::ranges::{Pages, Run, Runs};

/// What one space maps and holds.
#[derive(Clone, Debug, Default)]
pub(super) struct ModelSpace {
    pub(super) runs: Runs,
    /// Private pages.
    pub(super) private: BTreeMap<u64, Arc<Cell>>,
    /// Pages that were accessed, or may have been mapped by a fork, since they were last unmapped.
    pub(super) seen: BTreeSet<u64>,
    /// Pages seen in ranges whose removal is not through yet.
    pub(super) going: Vec<(Pages, Vec<u64>)>,
}

impl ModelSpace {
    /// Removes what is mapped.
    pub(super) fn unmap(&mut self, pages: &Pages) {
        self.runs.clear(pages);
        self.discard(pages);
    }

    /// Throws private pages away.
    pub(super) fn discard(&mut self, pages: &Pages) {
        self.private.extract_if(pages.clone(), |_, _| true).for_each(drop);
        let seen: Vec<u64> = self.seen.range(pages.clone()).copied().collect();
        for page in &seen {
            self.seen.remove(page);
        }
        self.going.push((pages.clone(), seen));
    }

    /// Pages that were seen in a range that is unmapped by now.
    pub(super) fn take_going(&mut self, pages: &Pages) -> Vec<u64> {
        match self.going.iter().position(|(range, _)| range == pages) {
            Some(at) => self.going.swap_remove(at).1,
            None => self.seen.range(pages.clone()).copied().collect(),
        }
    }

    /// Moves or resizes the mapping at `old`.
    pub(super) fn remap(&mut self, old: &Pages, new: &Pages) {
        let Some(&run) = self.runs.at(old.start) else { return };
        let first = run.object_page(old.start);
        if old.start == new.start {
            if new.end < old.end {
                self.unmap(&(new.end..old.end));
            } else {
                let grown = old.end..new.end;
                let first = first + (old.end - old.start);
                self.runs.put(&grown, Run::new(&grown, run.rights, run.object, first, run.shared));
            }
        } else {
            let moved: Vec<(u64, Arc<Cell>)> = self
                .private
                .range(old.clone())
                .map(|(page, cell)| (page - old.start, cell.clone()))
                .collect();
            self.unmap(old);
            self.runs.put(new, Run::new(new, run.rights, run.object, first, run.shared));
            let length = new.end - new.start;
            let kept = moved.into_iter().filter(|(offset, _)| *offset < length);
            self.private.extend(kept.map(|(offset, cell)| (new.start + offset, cell)));
        }
        // Nothing asks about these: the removal was looked at under the lock that is still held.
        self.going.clear();
    }
}

#[cfg(test)]
mod tests {
    use pmap::Protection;

    use super::super::cell::Base;
    use super::*;

    fn space() -> ModelSpace {
        let mut space = ModelSpace::default();
        space.runs.put(&(10..20), Run::new(&(10..20), Protection::all(), 4, 100, false));
        for page in [11, 15] {
            space.private.insert(page, Arc::new(Cell::new(Base::Zero)));
            space.seen.insert(page);
        }
        space
    }

    #[test]
    fn unmapped_pages_are_remembered_until_their_removal_was_looked_at() {
        let mut space = space();
        space.unmap(&(10..14));
        assert!(space.runs.at(11).is_none() && space.runs.at(14).is_some());
        assert!(!space.private.contains_key(&11) && space.private.contains_key(&15));
        assert_eq!(space.take_going(&(10..14)), [11]);
        assert!(space.take_going(&(10..14)).is_empty());
    }

    #[test]
    fn discarded_pages_stay_mapped() {
        let mut space = space();
        space.discard(&(10..20));
        assert!(space.runs.at(15).is_some() && space.private.is_empty());
    }

    #[test]
    fn pages_move_with_their_mapping() {
        let mut space = space();
        space.remap(&(10..20), &(40..44));
        assert!(space.runs.at(10).is_none() && space.runs.at(44).is_none());
        assert_eq!(space.runs.at(41).map(|run| run.object_page(41)), Some(101));
        assert_eq!(space.private.keys().copied().collect::<Vec<_>>(), [41], "the other one did not fit");
        space.remap(&(40..44), &(40..50));
        assert_eq!(space.runs.at(49).map(|run| run.object_page(49)), Some(109));
        space.remap(&(40..50), &(40..42));
        assert!(space.runs.at(41).is_some() && space.runs.at(42).is_none());
    }
}
