//! A mapping moves, grows or shrinks, and takes its pages along.

use alloc::vec::Vec;
use core::fmt;

use pmap::{PAGE_SHIFT, VirtRange};

use super::{Space, Vma};

/// Why a mapping stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RemapError {
    /// There is none.
    NotMapped,
    /// Something else is mapped where it should go.
    Occupied,
}

impl fmt::Display for RemapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotMapped => "nothing is mapped there",
            Self::Occupied => "something else is mapped where it should go",
        })
    }
}

impl core::error::Error for RemapError {}

impl Space {
    /// Moves the mapping that begins at `old`, or part of it, to `new`; or resizes it, if both begin at the same address. An `old` without pages shows
    /// the mapping a second time. Private pages move too; those that have no place any more are gone.
    ///
    /// # Errors
    ///
    /// [`RemapError`]; nothing has changed then.
    pub(crate) fn remap(&self, old: VirtRange, new: VirtRange) -> Result<(), RemapError> {
        // All the time: pages are in neither place for a while, and no fault may find new ones there.
        let mut map = self.map.write();
        let vma = map.find(old.start()).cloned().ok_or(RemapError::NotMapped)?;
        let moves = old.start() != new.start();
        let (removed, added) = if moves {
            (Some(old), Some(new))
        } else {
            (VirtRange::new(new.end(), old.end()), VirtRange::new(old.end(), new.end()))
        };
        let leaves =
            |other: &Vma| moves && other.range.start() >= old.start() && other.range.end() <= old.end();
        if added.is_some_and(|range| map.overlapping(range).any(|other| !leaves(other))) {
            return Err(RemapError::Occupied);
        }
        let (from, to) = (old.start().0 >> PAGE_SHIFT, new.start().0 >> PAGE_SHIFT);
        let mut moving = Vec::new();
        let mut gone = Vec::new();
        if let Some(range) = removed.filter(|range| !range.is_empty()) {
            map.remove(range);
            if moves {
                let kept = from..from + new.pages().min(old.pages());
                moving.extend(self.private.lock().extract_if(kept, |_, _| true));
            }
            gone = self.take_private(range);
            self.pmap.remove(range);
        }
        if let Some(range) = added.filter(|range| !range.is_empty()) {
            let skipped = old.start().0 - vma.range.start().0 + (range.start().0 - new.start().0);
            let backing = vma.backing.advanced(skipped >> PAGE_SHIFT);
            let inserted = map.insert(Vma { range, protection: vma.protection, backing });
            debug_assert!(inserted.is_ok(), "looked at above, under the same lock");
        }
        self.private.lock().extend(moving.into_iter().map(|(number, page)| (number - from + to, page)));
        drop(map);
        gone.iter().for_each(|page| self.vm.let_go(page));
        Ok(())
    }
}
