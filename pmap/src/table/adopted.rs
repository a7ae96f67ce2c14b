//! The kernel half of the tables that the machine booted with (INV-K-1).

use core::ops::Range;

use crate::addr::{PAGE_SHIFT, VirtAddr};
use crate::error::SystemError;
use crate::machine::Machine;
use crate::system::{KERNEL_SLOT, System};
use crate::table::ROOT_LEVEL;

/// First address of a slot of the root in the kernel half.
fn address_of(slot: usize) -> VirtAddr {
    const SIGN: u64 = 0xffff_0000_0000_0000;
    VirtAddr(SIGN | (slot as u64) << (PAGE_SHIFT + 9 * (ROOT_LEVEL - 1)))
}

impl<M: Machine> System<M> {
    /// Slots of the kernel's root that are the pmap's own: those in which the kernel window lies.
    pub(crate) fn own_kernel_slots(&self) -> Range<usize> {
        let window = self.machine().kernel_window();
        if window.is_empty() {
            return KERNEL_SLOT..KERNEL_SLOT;
        }
        let last = VirtAddr(window.end().0.wrapping_sub(1));
        window.start().index(ROOT_LEVEL)..last.index(ROOT_LEVEL) + 1
    }

    /// Copies the top-level entries of the boot root's kernel half into the kernel's root, which is empty.
    pub(crate) fn adopt_boot_tables(&self) -> Result<(), SystemError> {
        let Some(boot) = self.machine().boot_root() else { return Ok(()) };
        let own = self.own_kernel_slots();
        for slot in KERNEL_SLOT..512 {
            let entry = self.slot(boot, slot).load();
            if !entry.is_present() {
                continue;
            }
            if own.contains(&slot) {
                let start = self.machine().kernel_window().start();
                return Err(SystemError::KernelWindowTaken(start.max(address_of(slot))));
            }
            self.slot(self.kernel().root(), slot).create(entry);
        }
        Ok(())
    }
}
