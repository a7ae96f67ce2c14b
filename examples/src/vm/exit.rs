//! The end of an address space.

use pmap::VirtRange;

use super::{Cpu, Vm, VmError};

impl<'s> Vm<'s> {
    /// Tears the space down: every CPU leaves it, its mappings go by the fast path for exiting processes, its
    /// pages are let go, its tables are freed. Returns false if there is no such space.
    ///
    /// # Errors
    /// If the run is stopped meanwhile, or the pmap refuses.
    pub fn exit(&self, cpu: &mut Cpu<'s>, number: u32) -> Result<bool, VmError> {
        let Some(space) = self.spaces.take(number) else { return Ok(false) };
        self.deactivate(cpu);
        let Ok(space) = self.wait_until_left(space) else { return Err(VmError::Stopped) };
        // Current here and nowhere else, as `remove_pages` wants it.
        space.pmap.activate();
        if space.pmap.remove_pages().is_err() {
            self.observer
                .broken("remove_pages says that a space is active elsewhere which everybody has left");
        }
        // What is left: pages that the pmap does not manage, and wired ones.
        space.pmap.remove(VirtRange::user());
        self.system.activate_kernel();
        self.observer.range_removed(number, &space.pmap, VirtRange::user());
        self.observer.gone(number);
        let taken = space.take_private(VirtRange::user());
        let (resident, wired) = (space.pmap.resident_count(), space.pmap.wired_count());
        if resident != 1 || wired != 0 {
            self.observer.broken("an empty address space counts more than its root table");
        }
        let destroyed = space.pmap.destroy().is_ok();
        self.give_up(taken);
        if destroyed {
            Ok(true)
        } else {
            Err(VmError::Broken("a space that is current nowhere cannot be destroyed"))
        }
    }
}
