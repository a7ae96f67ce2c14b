//! Page faults: which page, with what rights, and whether a private copy is due.

use alloc::sync::Arc;

use pmap::{Access, EnterError, EnterFlags, Frame, PAGE_SHIFT, Protection, VirtAddr};

use super::page::{Page, PageRef};
use super::space::Private;
use super::{Shortage, Space, Vma};
use crate::sched::Mutex;

/// Why an access cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Nothing is mapped there.
    NotMapped,
    /// The mapping does not permit it.
    NotPermitted,
    /// There is no memory for it, and none to be had.
    OutOfMemory,
}

/// One attempt to resolve a fault.
enum Attempt {
    Done,
    Refused(Refused),
    Shortage,
}

impl From<Result<(), Shortage>> for Attempt {
    fn from(result: Result<(), Shortage>) -> Self {
        result.map_or(Self::Shortage, |()| Self::Done)
    }
}

/// On amd64 a mapping that permits anything can be read.
pub(super) fn readable(protection: Protection) -> Protection {
    if protection.is_empty() { protection } else { protection | Protection::READ }
}

impl Space {
    /// Makes the access possible that has faulted. May block, and reclaim memory.
    ///
    /// # Errors
    ///
    /// [`Refused`].
    pub(crate) fn resolve(&self, va: VirtAddr, access: Access) -> Result<(), Refused> {
        loop {
            match self.attempt(va, access) {
                Attempt::Done => {
                    self.vm.counts.faults.add_one();
                    return Ok(());
                }
                Attempt::Refused(why) => return Err(why),
                Attempt::Shortage => self.vm.reclaim_directly().map_err(|Shortage| Refused::OutOfMemory)?,
            }
        }
    }

    fn attempt(&self, va: VirtAddr, access: Access) -> Attempt {
        let map = self.map.read();
        let Some(vma) = map.find(va) else { return Attempt::Refused(Refused::NotMapped) };
        if !readable(vma.protection).contains(access.needs()) {
            return Attempt::Refused(Refused::NotPermitted);
        }
        let mut private = self.private.lock();
        let own = private.get(&(va.0 >> PAGE_SHIFT)).cloned();
        let done = match (own, vma.object_at(va)) {
            (Some(page), _) => self.show(&mut private, vma, va, access, &page, true),
            (None, Some((object, number))) => {
                let page = object.page(number);
                self.show(&mut private, vma, va, access, &page, false)
            }
            (None, None) => self.first_touch(&mut private, vma, va, access),
        };
        done.into()
    }

    /// Anonymous memory that nobody has used yet.
    fn first_touch(
        &self,
        private: &mut Private,
        vma: &Vma,
        va: VirtAddr,
        access: Access,
    ) -> Result<(), Shortage> {
        let frame = self.vm.allocate()?;
        self.vm.zero(frame);
        self.show_new(private, vma, va, access, frame, false)
    }

    /// Maps `page`, or a copy of it if the access is a store that others must not see. `own`: it is in the table of private pages.
    fn show(
        &self,
        private: &mut Private,
        vma: &Vma,
        va: VirtAddr,
        access: Access,
        page: &PageRef,
        own: bool,
    ) -> Result<(), Shortage> {
        let mut held = page.lock();
        let frame = self.vm.bring_in(&mut held, page)?;
        let copy_on_write = vma.is_private() && (!own || held.is_shared_copy());
        if !copy_on_write || access != Access::Write {
            let rights = readable(vma.protection);
            let rights = if copy_on_write { rights - Protection::WRITE } else { rights };
            return self.enter(va, frame, rights, access);
        }
        let copy = self.vm.allocate()?;
        if self.vm.system.copy_page(frame, copy).is_err() {
            self.vm.violations.note(format_args!("{frame:?} cannot be copied to {copy:?}"));
        }
        self.vm.counts.copies.add_one();
        self.show_new(private, vma, va, access, copy, true)?;
        // The old page's mapping here has been replaced, and flushed.
        drop(held);
        if own {
            self.vm.let_go(page);
        }
        Ok(())
    }

    /// Maps a frame that nobody else knows, and makes it the private page at the address.
    fn show_new(
        &self,
        private: &mut Private,
        vma: &Vma,
        va: VirtAddr,
        access: Access,
        frame: Frame,
        unsaved: bool,
    ) -> Result<(), Shortage> {
        if let Err(shortage) = self.enter(va, frame, readable(vma.protection), access) {
            self.vm.free(frame);
            return Err(shortage);
        }
        let page = Arc::new(Mutex::new(Page::resident(frame, unsaved)));
        private.insert(va.0 >> PAGE_SHIFT, page.clone());
        self.vm.admit(&mut page.lock(), &page);
        Ok(())
    }

    fn enter(&self, va: VirtAddr, frame: Frame, rights: Protection, access: Access) -> Result<(), Shortage> {
        match self.pmap.enter(va.page(), frame, rights, access, EnterFlags::empty()) {
            Ok(()) => Ok(()),
            Err(EnterError::Shortage) => Err(Shortage),
            Err(error) => {
                self.vm.violations.note(format_args!("enter refuses a mapping that is in order: {error}"));
                Ok(())
            }
        }
    }
}
