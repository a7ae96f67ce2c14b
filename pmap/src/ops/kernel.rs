//! Kernel mappings: `kenter`, `kremove`, `qenter`, `qremove`.
//!
//! They live in the machine's kernel window, whose tables are made with the system and shared by all
//! address spaces; so they need no lock. Unmanaged, global, born accessed and dirty.

use crate::addr::{Frame, PAGE_SHIFT, PhysAddr, VirtAddr, VirtRange};
use crate::entry::{ACCESSED, DIRTY, Entry, GLOBAL, Slot};
use crate::error::{KernelMapError, Shortage};
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::protection::Protection;
use crate::shootdown::Invalidation;
use crate::system::System;

impl<M: Machine> System<M> {
    /// Makes the tables of the kernel window; returns their number. Needs no current CPU.
    pub(crate) fn make_kernel_tables(&self) -> Result<u64, Shortage> {
        let mut made = 0;
        let window = self.machine().kernel_window();
        let kernel = self.kernel();
        let _state = kernel.lock();
        let mut va = window.start();
        while va < window.end() {
            made += self.link_tables(kernel, va)?.1;
            match (va.0 >> 21).checked_add(1).map(|next| next << 21) {
                Some(next) if next > va.0 => va = VirtAddr(next),
                _ => break,
            }
        }
        Ok(made)
    }

    fn kernel_slot(&self, va: VirtAddr) -> Result<Slot<'_, M>, KernelMapError> {
        let inside = self.machine().kernel_window().contains(va) && va.is_page_aligned();
        let slot = if inside { self.leaf_slot(self.kernel().root(), va) } else { None };
        slot.ok_or(KernelMapError::OutsideWindow(va))
    }

    fn kernel_range(&self, va: VirtAddr, pages: usize) -> Result<VirtRange, KernelMapError> {
        let window = self.machine().kernel_window();
        let bytes = u64::try_from(pages).ok().and_then(|p| p.checked_mul(1 << PAGE_SHIFT));
        bytes
            .and_then(|bytes| va.0.checked_add(bytes))
            .and_then(|end| VirtRange::new(va, VirtAddr(end)))
            .filter(|r| window.start() <= r.start() && r.end() <= window.end())
            .ok_or(KernelMapError::OutsideWindow(va))
    }

    fn kernel_leaf(&self, frame: Frame, prot: Protection) -> Entry {
        Entry::leaf(frame, self.granted(prot)).with(GLOBAL | ACCESSED | DIRTY)
    }

    /// Maps the kernel page at `va` to `frame`. Nothing is flushed: the caller either knows that no
    /// CPU has a translation of `va`, or calls [`invalidate_kernel`](Self::invalidate_kernel).
    ///
    /// # Errors
    ///
    /// [`KernelMapError`] for an address outside the kernel window or a frame that cannot be mapped.
    pub fn kenter(&self, va: VirtAddr, frame: Frame, prot: Protection) -> Result<(), KernelMapError> {
        self.check_frame(frame)?;
        let _ = self.kernel_slot(va)?.exchange(self.kernel_leaf(frame, prot));
        Ok(())
    }

    /// Removes the mapping of the kernel page at `va`. Nothing is flushed, see [`kenter`](Self::kenter).
    ///
    /// # Errors
    ///
    /// [`KernelMapError`] for an address outside the kernel window.
    pub fn kremove(&self, va: VirtAddr) -> Result<(), KernelMapError> {
        let _ = self.kernel_slot(va)?.take();
        Ok(())
    }

    /// Maps consecutive kernel pages from `va` on to `frames`, readable and writable. If one of them mapped
    /// something else before, all CPUs are flushed: on return they all use the new mappings.
    ///
    /// # Errors
    ///
    /// [`KernelMapError`] unless all addresses lie in the kernel window and all frames can be mapped; nothing is
    /// mapped then.
    pub fn qenter(&self, va: VirtAddr, frames: &[Frame]) -> Result<(), KernelMapError> {
        let range = self.kernel_range(va, frames.len())?;
        frames.iter().try_for_each(|frame| self.check_frame(*frame).map(|_| ()))?;
        let mut stale = false;
        for (va, frame) in range.iter().zip(frames) {
            let slot = self.kernel_slot(va)?;
            let new = self.kernel_leaf(*frame, Protection::READ | Protection::WRITE);
            let old = slot.load();
            if old != new {
                let _ = slot.exchange(new);
                stale |= old.is_present();
            }
        }
        self.flush_kernel(range, stale);
        Ok(())
    }

    /// Invalidates what was replaced or removed, if that was anything.
    fn flush_kernel(&self, range: VirtRange, stale: bool) {
        if stale && !self.mutation().is(Mutation::NoFlushOfKernel) {
            self.invalidate(self.kernel(), Invalidation::of_range(range, true));
        }
    }

    /// The physical address that `va` in the kernel window translates to; `None` if nothing is mapped there. Takes
    /// no lock: each entry on the way is read once, so the answer was true at some moment during the call.
    #[must_use]
    pub fn kextract(&self, va: VirtAddr) -> Option<PhysAddr> {
        let entry = self.kernel_slot(va.page()).ok()?.load();
        entry.is_present().then(|| PhysAddr(entry.frame().addr().0 | va.page_offset()))
    }

    /// Invalidates all CPUs' translations of `range`, after [`kenter`](Self::kenter) or
    /// [`kremove`](Self::kremove). On return all CPUs use what the page tables say.
    pub fn invalidate_kernel(&self, range: VirtRange) {
        self.invalidate(self.kernel(), Invalidation::of_range(range, true));
    }

    /// Removes the mappings of `pages` consecutive kernel pages from `va` on. On return no CPU uses them.
    ///
    /// # Errors
    ///
    /// [`KernelMapError`] unless all addresses lie in the kernel window; nothing is removed then.
    pub fn qremove(&self, va: VirtAddr, pages: usize) -> Result<(), KernelMapError> {
        let range = self.kernel_range(va, pages)?;
        let mut stale = false;
        for va in range.iter() {
            stale |= self.kernel_slot(va)?.take().is_present();
        }
        self.flush_kernel(range, stale);
        self.guarantee_unmapped(self.kernel(), range);
        Ok(())
    }
}
