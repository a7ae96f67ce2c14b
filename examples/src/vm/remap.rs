//! `mremap`: a mapping moves, grows or shrinks, and takes its pages along.

use std::sync::Arc;

use pmap::{PAGE_SHIFT, PAGE_SIZE, VirtAddr, VirtRange};

use super::{Space, Vm, Vma};

/// Why a mapping could not be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RemapError {
    /// Nothing is mapped at the old place.
    NotMapped,
    /// Something else is mapped at the new place.
    Occupied,
}

impl<'s> Vm<'s> {
    /// Moves or resizes the mapping at `old` to `new`. The whole change happens under the exclusive layout
    /// lock: pages are in neither place meanwhile, and nobody may find that out.
    ///
    /// # Errors
    /// If there is nothing to move or no place for it; nothing changes then.
    pub fn remap(&self, space: &Arc<Space<'s>>, old: VirtRange, new: VirtRange) -> Result<(), RemapError> {
        let mut layout = space.layout.write();
        let Some(&vma) = layout.vmas.find(old.start()) else { return Err(RemapError::NotMapped) };
        let first_page = vma.object_page(old.start());
        let moves = old.start() != new.start();
        let target = |range: VirtRange, offset: u64| {
            let backing = super::Backing { first_page: first_page + offset, ..vma.backing };
            Vma { range, backing, ..vma }
        };
        // What is added: everything if it moves, the growth otherwise.
        let added = if moves { Some(new) } else { VirtRange::new(old.end(), new.end()) };
        let occupied = |range: VirtRange| {
            layout
                .vmas
                .overlapping(range)
                .any(|other| !(moves && other.range.start() >= old.start() && other.range.end() <= old.end()))
        };
        if added.is_some_and(occupied) {
            return Err(RemapError::Occupied);
        }
        let removed = if moves { Some(old) } else { VirtRange::new(new.end(), old.end()) };
        let mut given_up = Vec::new();
        let mut moved = Vec::new();
        if let Some(range) = removed.filter(|range| !range.is_empty()) {
            layout.vmas.remove(range);
            let taken = space.take_private(range);
            space.pmap.remove(range);
            self.observer.range_removed(space.number(), &space.pmap, range);
            let keep = if moves { new.pages() } else { 0 };
            let first = old.start().0 >> PAGE_SHIFT;
            (moved, given_up) = taken.into_iter().partition(|(page, _)| page - first < keep);
        }
        if let Some(range) = added.filter(|range| !range.is_empty()) {
            let offset = if moves { 0 } else { old.pages() };
            // Nothing is there: looked at above, under the same lock.
            let _ = layout.vmas.insert(target(range, offset));
        }
        for (page, held) in moved {
            let offset = (page << PAGE_SHIFT) - old.start().0;
            let va = VirtAddr(new.start().0 + offset);
            debug_assert!(offset / PAGE_SIZE < new.pages(), "partitioned above");
            space.shard(va).lock().insert(va.0 >> PAGE_SHIFT, held);
        }
        space.bump();
        self.observer.moved(space.number(), old, new);
        drop(layout);
        self.give_up(given_up);
        Ok(())
    }
}
