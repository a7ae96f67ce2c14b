//! New address spaces: empty ones for exec, copies for fork.

use std::sync::Arc;

use pmap::Protection;

use super::space::Layout;
use super::{Cpu, Space, Vm, VmError};
use crate::trace::ObjectKind;

impl<'s> Vm<'s> {
    /// A new, empty space. `Ok(None)` if the number is taken.
    ///
    /// # Errors
    /// If there is not enough memory for its root table.
    pub fn create(&self, cpu: &mut Cpu<'s>, number: u32) -> Result<Option<Arc<Space<'s>>>, VmError> {
        if self.spaces.get(number).is_some() {
            return Ok(None);
        }
        let space = Arc::new(self.empty(cpu, number)?);
        self.observer.created(number);
        Ok(self.spaces.add(space.clone()).is_ok().then_some(space))
    }

    /// A living space by number.
    #[must_use]
    pub fn space(&self, number: u32) -> Option<Arc<Space<'s>>> {
        self.spaces.get(number)
    }

    /// Numbers of all living spaces.
    #[must_use]
    pub fn space_numbers(&self) -> Vec<u32> {
        self.spaces.numbers()
    }

    /// A copy of `parent`: shared mappings are shared, private pages too until somebody stores to them.
    /// `Ok(None)` if the number is taken.
    ///
    /// # Errors
    /// If there is not enough memory for its root table.
    pub fn fork(
        &self,
        cpu: &mut Cpu<'s>,
        parent: &Arc<Space<'s>>,
        number: u32,
    ) -> Result<Option<Arc<Space<'s>>>, VmError> {
        if self.spaces.get(number).is_some() {
            return Ok(None);
        }
        let child = self.empty(cpu, number)?;
        // Nobody faults in the parent while it is copied.
        let layout = parent.layout.write();
        parent.bump();
        for (from, to) in parent.shards().iter().zip(child.shards()) {
            let copy = from.lock().clone();
            copy.values().for_each(|page| page.lock().holders += 1);
            *to.lock() = copy;
        }
        // Before the tables are copied: neither side may store to what both see now.
        let writable = |vma: &&super::Vma| vma.is_private() && vma.protection.contains(Protection::WRITE);
        let ranges = layout.vmas.iter().filter(writable).map(|vma| vma.range);
        parent.pmap.protect_ranges(ranges, Protection::READ | Protection::EXECUTE);
        for vma in layout.vmas.iter().filter(|vma| !vma.protection.is_empty()) {
            if self.objects.kind(vma.backing.object) != ObjectKind::Kernel || vma.backing.object == 0 {
                child.pmap.copy_from(&parent.pmap, vma.range);
                self.observer.tables_copied(self.system, &parent.pmap, &child.pmap, vma);
            }
        }
        *child.layout.write() = Layout { vmas: layout.vmas.clone(), ..Layout::default() };
        self.observer.forked(parent.number(), number);
        drop(layout);
        let child = Arc::new(child);
        Ok(self.spaces.add(child.clone()).is_ok().then_some(child))
    }

    fn empty(&self, cpu: &mut Cpu<'s>, number: u32) -> Result<Space<'s>, VmError> {
        loop {
            match self.system.create() {
                Ok(pmap) => return Ok(Space::new(number, pmap)),
                Err(_) => self.reclaim_or_fail(cpu, "the root table of an address space")?,
            }
        }
    }
}
