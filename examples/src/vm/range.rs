//! Changes of what is mapped: map, unmap, protect, advice.

use std::sync::Arc;

use pmap::{PAGE_SHIFT, Protection, VirtAddr, VirtRange};

use super::fault::readable;
use super::page::{PageRef, Residence};
use super::table::count;
use super::{Occupied, Space, Vm, Vma};
use crate::trace::ObjectKind;

impl<'s> Vm<'s> {
    /// Adds a mapping. Nothing is entered: that is what faults are for.
    ///
    /// # Errors
    /// If something is mapped there.
    pub fn map(&self, space: &Arc<Space<'s>>, vma: Vma) -> Result<(), Occupied> {
        let mut layout = space.layout.write();
        layout.vmas.insert(vma)?;
        space.bump();
        self.observer.mapped(space.number(), &vma);
        Ok(())
    }

    /// Removes whatever is mapped in `range`; returns the number of pages that were mapped there.
    ///
    /// The mapped range goes first, under the exclusive lock, so that no fault enters anything any more.
    /// Then, with no lock held, the pmap removes what earlier faults entered and flushes. Only when it has
    /// returned do the frames go back.
    pub fn unmap(&self, space: &Arc<Space<'s>>, range: VirtRange) -> u64 {
        let (pages, taken) = {
            let mut layout = space.layout.write();
            let pages = layout.vmas.remove(range).iter().map(|vma| vma.range.pages()).sum();
            if pages == 0 {
                return 0;
            }
            let taken = space.take_private(range);
            self.observer.unmapped(space.number(), range);
            (pages, taken)
        };
        space.pmap.remove(range);
        self.observer.range_removed(space.number(), &space.pmap, range);
        self.give_up(taken);
        pages
    }

    /// Gives whatever is mapped in `range` new rights; returns the number of pages concerned. Rights that are
    /// taken away are gone on every CPU on return; rights that are added arrive by faults.
    pub fn protect(&self, space: &Arc<Space<'s>>, range: VirtRange, protection: Protection) -> u64 {
        let pages = {
            let mut layout = space.layout.write();
            let pages = layout.vmas.protect(range, protection);
            if pages > 0 {
                space.bump();
                layout.unsettled.push(range);
                self.observer.protected(space.number(), range, protection);
            }
            pages
        };
        if pages > 0 {
            space.pmap.protect(range, readable(protection));
            forget(&mut space.layout.write().unsettled, range);
            self.observer.rights_taken(self.system, &space.pmap, range, protection);
        }
        pages
    }

    /// Throws the private pages of `range` away (advice DONTNEED); it stays mapped and shows zeroes, or the
    /// object again. Returns false if nothing is mapped there.
    pub fn discard(&self, space: &Arc<Space<'s>>, range: VirtRange) -> bool {
        let taken = {
            let mut layout = space.layout.write();
            if layout.vmas.overlapping(range).next().is_none() {
                return false;
            }
            layout.busy.push(range);
            let taken = space.take_private(range);
            self.observer.discarded(space.number(), range);
            taken
        };
        space.pmap.remove(range);
        self.observer.range_removed(space.number(), &space.pmap, range);
        forget(&mut space.layout.write().busy, range);
        self.give_up(taken);
        true
    }

    /// Allows the page daemon to throw the private pages of `range` away instead of saving them, until they
    /// are stored to again (advice FREE). Returns false if nothing is mapped there.
    pub fn offer(&self, space: &Arc<Space<'s>>, range: VirtRange) -> bool {
        let layout = space.layout.read();
        let mut any = false;
        for vma in layout.vmas.overlapping(range) {
            any = true;
            if !vma.is_private() || vma.backing.object != 0 {
                continue;
            }
            let Some(part) =
                VirtRange::new(range.start().max(vma.range.start()), range.end().min(vma.range.end()))
            else {
                continue;
            };
            for (number, _) in space.private_in(part) {
                // Looked up again, and the place kept: a fault may have put a copy there meanwhile, and the page
                // that was there may be another space's alone by now.
                let va = VirtAddr(number << PAGE_SHIFT);
                let shard = space.shard(va).lock();
                let Some(page) = shard.get(&number) else { continue };
                let mut page = page.lock();
                let Residence::In(frame) = page.residence else { continue };
                let Some(record) = self.record(frame).filter(|_| !page.is_shared_copy()) else { continue };
                // From here on a store sets the modified bit anew, and with it saves the page.
                self.system.clear_modify(record);
                record.clear_dirty();
                page.disposable = true;
                self.observer.cleaned(frame);
                self.observer.disposable(space.number(), va);
            }
        }
        any
    }

    /// Writes the modified pages of shared file mappings in `range` back (as `msync` does): first nobody can
    /// store to them any more, then they are saved, then they count as clean.
    pub fn sync(&self, space: &Arc<Space<'s>>, range: VirtRange) {
        let pages: Vec<PageRef> = {
            let layout = space.layout.read();
            let of_files =
                |vma: &&Vma| vma.backing.shared && self.objects.kind(vma.backing.object) == ObjectKind::File;
            let vmas = layout.vmas.overlapping(range).filter(of_files);
            vmas.flat_map(|vma| vma.range.iter().map(|va| (vma.backing.object, vma.object_page(va))))
                .filter_map(|(object, page)| self.objects.existing(object, page))
                .collect()
        };
        for page in pages {
            let mut page = page.lock();
            if let Residence::In(frame) = page.residence {
                self.write_back(&mut page, frame);
            }
        }
    }

    /// The private pages of `range`, wherever they are.
    #[must_use]
    pub fn private_pages(&self, space: &Arc<Space<'s>>, range: VirtRange) -> Vec<PageRef> {
        let _layout = space.layout.read();
        space.private_in(range).into_iter().map(|(_, page)| page).collect()
    }

    /// The space lets go of private pages that no page table of it shows any more.
    pub(super) fn give_up(&self, pages: Vec<(u64, PageRef)>) {
        for (_, page) in pages {
            self.let_go(&mut page.lock());
        }
    }

    /// Notes that an access stepped back.
    pub fn met_race(&self) {
        count(&self.counts.races_met, 1);
    }
}

/// Takes one of several equal ranges out.
fn forget(ranges: &mut Vec<VirtRange>, range: VirtRange) {
    if let Some(at) = ranges.iter().position(|other| *other == range) {
        ranges.swap_remove(at);
    }
}
