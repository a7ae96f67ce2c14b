//! Resolving a page fault: which page, with what rights, and whether a private copy is due.

use std::sync::Arc;

use pmap::{Access, EnterError, EnterFlags, Frame, PAGE_SHIFT, Protection, VirtRange};

use super::access::Shown;
use super::page::{HeldPage, Page};
use super::space::Layout;
use super::table::count;
use super::{Cpu, Shortage, Space, Vm};

impl<'s> Vm<'s> {
    /// Makes the access of `shown` possible. Its mapped range permits it.
    pub(super) fn fault(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        layout: &Layout,
        shown: &mut Shown<'_>,
    ) -> Result<(), Shortage> {
        match shown.page.take() {
            None => self.first_access(cpu, space, shown),
            Some(page) if shown.needs_copy(&page) => self.copy_on_write(cpu, space, shown, page),
            Some(mut page) => {
                let this = HeldPage::mutex(&page).clone();
                let rights = shown.rights(&page);
                let done = self
                    .bring_in(&mut page, &this)
                    .and_then(|frame| self.enter(cpu, space, shown, frame, rights));
                let neighbours =
                    done.is_ok() && !shown.own && !page.is_kernel() && shown.access != Access::Write;
                shown.page = Some(page);
                if neighbours && cpu.dice.one_in(self.settings.prefault_one_in) {
                    self.prefault(cpu, space, layout, shown);
                }
                done
            }
        }
    }

    /// Anonymous memory that nobody has used yet: a page of zeroes.
    fn first_access(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        shown: &mut Shown<'_>,
    ) -> Result<(), Shortage> {
        let frame = self.allocate(true)?;
        self.show_new(cpu, space, shown, frame, false)
    }

    /// A store to a page that others see too and must not see changed: a copy takes its place.
    fn copy_on_write(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        shown: &mut Shown<'_>,
        mut page: HeldPage,
    ) -> Result<(), Shortage> {
        let this = HeldPage::mutex(&page).clone();
        let held = shown.own;
        let copied = self.bring_in(&mut page, &this).and_then(|frame| self.copy_frame(cpu, frame));
        let done = copied.and_then(|frame| self.show_new(cpu, space, shown, frame, true));
        match done {
            Ok(()) => shown.replaced = Some((page, held)),
            Err(Shortage) => shown.page = Some(page),
        }
        done
    }

    /// Enters a frame that nobody else knows, and makes it the space's own page at this address.
    fn show_new(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        shown: &mut Shown<'_>,
        frame: Frame,
        copied: bool,
    ) -> Result<(), Shortage> {
        space.bump();
        if let Err(shortage) = self.enter(cpu, space, shown, frame, readable(shown.vma.protection)) {
            self.free(frame);
            return Err(shortage);
        }
        let page = Page::private(frame, copied);
        shown.shard.insert(shown.va.0 >> PAGE_SHIFT, page.clone());
        let mut held = page.lock_arc();
        self.admit(&mut held, &page);
        (shown.page, shown.own) = (Some(held), true);
        Ok(())
    }

    /// `Pmap::enter`, now and then wired for a moment.
    fn enter(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        shown: &Shown<'_>,
        frame: Frame,
        rights: Protection,
    ) -> Result<(), Shortage> {
        let wire = cpu.dice.one_in(self.settings.wire_one_in);
        let flags = if wire { EnterFlags::WIRED } else { EnterFlags::empty() };
        match space.pmap.enter(shown.va.page(), frame, rights, shown.access, flags) {
            Ok(()) => {}
            Err(EnterError::Shortage) => return Err(Shortage),
            Err(_) => self.observer.broken("enter refuses a mapping that is in order"),
        }
        if wire {
            count(&self.counts.wirings, 1);
            // A wired mapping stays as long as its page is locked here, so it is there to be unwired.
            let page = VirtRange::page_of(shown.va);
            if space.pmap.wired_count() == 0 || space.pmap.unwire(page).is_err() {
                self.observer.broken("a mapping that was entered wired is not wired");
            }
        }
        Ok(())
    }
}

impl Shown<'_> {
    /// Whether a store must go to a copy.
    fn needs_copy(&self, page: &Page) -> bool {
        self.access == Access::Write && self.is_copy_on_write(page)
    }

    fn is_copy_on_write(&self, page: &Page) -> bool {
        self.vma.is_private() && (!self.own || page.is_shared_copy())
    }

    /// The rights with which the page may be mapped here.
    fn rights(&self, page: &Page) -> Protection {
        let rights = readable(self.vma.protection);
        if self.is_copy_on_write(page) { rights - Protection::WRITE } else { rights }
    }
}

/// On this processor every right includes reading.
pub(super) fn readable(protection: Protection) -> Protection {
    if protection.is_empty() { protection } else { protection | Protection::READ }
}
