//! Mapping resident neighbours ahead of their first access, as kernels do around a read fault on a file.

use std::sync::Arc;

use pmap::{Frame, PAGE_SHIFT, PAGE_SIZE, Protection, VirtAddr, VirtRange};

use super::access::Shown;
use super::fault::readable;
use super::page::{HeldPage, Residence};
use super::space::{Layout, WINDOW_PAGES};
use super::table::count;
use super::{Cpu, Space, Vm};

impl<'s> Vm<'s> {
    /// Maps those pages of the aligned window around the fault that are in memory, that nobody has
    /// locked, and of which the space has no private copy. All are locked while they are entered.
    pub(super) fn prefault(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        layout: &Layout,
        shown: &Shown<'_>,
    ) {
        let vma = &shown.vma;
        let window = VirtAddr(shown.va.0 & !(WINDOW_PAGES * PAGE_SIZE - 1));
        let start = window.max(vma.range.start());
        let end = window.wrapping_add(WINDOW_PAGES * PAGE_SIZE).min(vma.range.end());
        let Some(range) = VirtRange::new(start, end) else { return };
        let neighbours: Vec<(VirtAddr, Frame, HeldPage)> = range
            .iter()
            // One shard covers the window, and it is locked.
            .filter(|va| {
                *va != shown.va.page()
                    && !layout.is_busy(*va)
                    && !shown.shard.contains_key(&(va.0 >> PAGE_SHIFT))
            })
            .filter_map(|va| {
                let page = self.objects.existing(vma.backing.object, vma.object_page(va))?;
                let held = page.try_lock_arc()?;
                let Residence::In(frame) = held.residence else { return None };
                Some((va, frame, held))
            })
            .collect();
        let rights = readable(vma.protection) - Protection::WRITE;
        let entered = if cpu.dice.one_in(4) {
            neighbours.iter().filter(|(va, frame, _)| space.pmap.enter_quick(*va, *frame, rights)).count()
                as u64
        } else {
            space.pmap.enter_object(range, rights, |va| {
                let at = neighbours.binary_search_by_key(&va, |(va, ..)| *va).ok()?;
                Some(neighbours[at].1)
            })
        };
        count(&self.counts.prefaults, entered);
    }
}
