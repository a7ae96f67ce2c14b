//! What each operation does to the system, and what it should do.

use pmap::{
    Access, Advice, EnterError, EnterFlags, Machine, NotWired, Protection, StillHeld, VirtAddr, VirtRange,
};

use super::World;
use super::model::Mapping;
use super::op::{FILL, KERNEL_PAGES, Kind, Op, PAGES, PLACES, Place, SPACES, UNMANAGED, range};

const PAGE: u64 = 4096;

impl World<'_> {
    pub(super) fn apply(&mut self, op: Op) {
        match op.kind {
            Kind::Touch { place, access } => self.touch(op.cpu, place, access),
            Kind::Activate { space } => {
                self.space(space).activate();
                self.model.cpus[op.cpu].current = Some(space);
            }
            Kind::Enter { space, place, page, prot, access, wired } => {
                self.enter(space, place, page, prot, access, wired);
            }
            Kind::EnterQuick { space, place, page, prot } => {
                let done = self.space(space).enter_quick(place.va(), self.frames[page], prot);
                let expected = self.model.at(space, place.va()).is_none() && prot.contains(Protection::READ);
                let given_up = !done && expected && self.is_limited();
                assert!(done == expected || given_up, "a speculative mapping goes where nothing is");
                if done {
                    let prot = self.granted(prot & !Protection::WRITE);
                    self.model.insert(space, place.va(), Mapping::new(page, prot));
                }
            }
            Kind::Fill { space, page, count } => self.fill(space, page, count),
            Kind::Remove { space, from, to, delete } => {
                if delete {
                    self.space(space).map_delete(range(from, to));
                } else {
                    self.space(space).remove(range(from, to));
                }
                self.model.remove(space, range(from, to), |_| true);
            }
            Kind::Protect { space, from, to, prot } => self.protect(space, range(from, to), prot),
            Kind::Unwire { space, place } => {
                let result = self.space(space).unwire(VirtRange::page_of(place.va()));
                match self.model.spaces[space].get_mut(&place.va().0) {
                    Some(m) if !m.wired => assert_eq!(result, Err(NotWired(place.va()))),
                    Some(m) => {
                        assert_eq!(result, Ok(()));
                        m.wired = false;
                    }
                    None => assert_eq!(result, Ok(()), "nothing mapped, nothing to complain about"),
                }
            }
            Kind::Advise { space, from, to, advice } => {
                self.space(space).advise(range(from, to), advice);
                self.model.each_in(space, range(from, to), |m, page| {
                    if m.is_managed() {
                        page.dirty |= m.dirty && advice == Advice::DontNeed;
                        (m.dirty, m.accessed) = (false, false);
                    }
                });
            }
            Kind::RemovePages { space } => {
                let result = self.space(space).remove_pages();
                assert_eq!(
                    result.is_ok(),
                    self.model.active(space) == [op.cpu],
                    "current here and nowhere else"
                );
                if result.is_ok() {
                    self.model.remove(space, VirtRange::user(), |m| m.is_managed() && !m.wired);
                }
            }
            Kind::Copy { to, from } => self.copy(to, from),
            Kind::RemoveAll { page } => {
                self.system.remove_all(self.record(page));
                for (space, va) in self.model.pages[page].list.clone() {
                    self.model.take(space, va);
                }
            }
            Kind::RemoveWrite { page } => {
                self.system.remove_write(self.record(page));
                self.model.each(page, |m, page| {
                    page.dirty |= std::mem::take(&mut m.dirty);
                    m.prot -= Protection::WRITE;
                });
                self.model.pages[page].writeable = false;
            }
            Kind::ClearModify { page } => {
                self.system.clear_modify(self.record(page));
                self.model.each(page, |m, _| m.dirty = false);
            }
            Kind::Age { page } => self.age(page),
            Kind::Hold { space, place, prot } => {
                let held = self.space(space).extract_and_hold(place.va(), prot);
                let permitted = self.model.at(space, place.va()).filter(|m| m.prot.contains(prot));
                let expected = permitted.filter(|m| !self.model.pages[m.page].holds_refused);
                assert_eq!(held, expected.map(|m| self.frames[m.page]));
                expected.into_iter().for_each(|m| self.model.pages[m.page].holds += 1);
            }
            Kind::Unhold { page } => {
                let holds = &mut self.model.pages[page].holds;
                let held = *holds > 0;
                *holds -= u32::from(held);
                assert_eq!(self.system.unhold(self.record(page)), held);
            }
            Kind::RefuseHolds { page } => self.refuse_holds(page),
            Kind::CopyPage { from, to } => {
                self.system.copy_page(self.frames[from], self.frames[to]).expect("data frames");
                self.model.pages[to].words = self.model.pages[from].words;
            }
            Kind::CopyPages { from, to, offset } => self.copy_pages(from, to, offset),
            Kind::ZeroArea { page, offset, size } => {
                self.system.zero_page_area(self.frames[page], offset, size).expect("inside the page");
                for (word, at) in self.model.pages[page].words.iter_mut().zip((0u64..).step_by(8)) {
                    let mut bytes = word.to_le_bytes();
                    let inside = |i: u64| (offset..offset + size).contains(&(at + i));
                    bytes.iter_mut().zip(0..).filter(|(_, i)| inside(*i)).for_each(|(byte, _)| *byte = 0);
                    *word = u64::from_le_bytes(bytes);
                }
            }
            Kind::KernelEnter { at, page, several } => self.kernel_enter(at, page, several),
            Kind::KernelRemove { at } => {
                self.system.qremove(self.kernel_va(at), 1).expect("in the window");
                self.model.kernel[at] = None;
            }
            Kind::KernelTouch { at, access } => self.kernel_touch(at, access),
            Kind::Recreate { space } => self.recreate(space),
            Kind::Reserve { space, mappings } => self.reserve(space, mappings),
            Kind::StopCpu => {}
        }
    }

    fn enter(
        &mut self,
        space: usize,
        place: Place,
        page: usize,
        prot: Protection,
        access: Access,
        wired: bool,
    ) {
        let va = place.va();
        let flags = if wired { EnterFlags::WIRED } else { EnterFlags::empty() };
        let result = self.space(space).enter(va, self.frames[page], prot, access, flags);
        if !prot.contains(access.needs() | Protection::READ) {
            assert_eq!(result, Err(EnterError::AccessNotPermitted));
            return;
        }
        self.take_in_reclaimed();
        if result == Err(EnterError::Shortage) {
            return self.assert_exhausted();
        }
        assert_eq!(result, Ok(()));
        let prot = self.granted(prot);
        let managed = page != UNMANAGED;
        let dirty = access == Access::Write || (!managed && prot.contains(Protection::WRITE));
        let mut new = Mapping { wired, dirty, accessed: true, ..Mapping::new(page, prot) };
        match self.model.at(space, va) {
            Some(old) if old.page == page => {
                if (old.prot, old.wired) == (prot, wired) {
                    // Nothing but hardware's own bits would change, so nothing is stored.
                    (new.dirty, new.accessed) = (old.dirty, old.accessed);
                }
                let state = &mut self.model.pages[page];
                state.dirty |= managed && old.dirty && !new.dirty;
                state.writeable |= managed && prot.contains(Protection::WRITE);
                self.model.spaces[space].insert(va.0, new);
            }
            Some(_) => {
                self.model.take(space, va.0);
                self.model.insert(space, va, new);
            }
            None => self.model.insert(space, va, new),
        }
    }

    fn fill(&mut self, space: usize, page: usize, count: u64) {
        let range = VirtRange::new(FILL, FILL.wrapping_add(count * PAGE)).expect("aligned");
        let made = self.space(space).enter_object(range, Protection::READ, |_| Some(self.frames[page]));
        let mut expected = 0;
        for va in range.iter().filter(|va| self.model.at(space, *va).is_none()).collect::<Vec<_>>() {
            if self.is_limited() && made == expected {
                break;
            }
            let prot = self.granted(Protection::READ);
            self.model.insert(space, va, Mapping::new(page, prot));
            expected += 1;
        }
        assert_eq!(made, expected);
    }

    fn protect(&mut self, space: usize, range: VirtRange, prot: Protection) {
        self.space(space).protect(range, prot);
        if !prot.contains(Protection::READ) {
            return self.model.remove(space, range, |_| true);
        }
        let prot = self.granted(prot);
        self.model.each_in(space, range, |m, page| {
            if !prot.contains(Protection::WRITE) {
                page.dirty |= m.dirty && m.is_managed();
                m.dirty = false;
            }
            m.prot &= prot;
        });
    }

    fn copy(&mut self, to: usize, from: usize) {
        let made = self.space(to).copy_from(self.space(from), VirtRange::user());
        let mut expected = 0;
        if to != from {
            for (va, m) in self.model.spaces[from].clone() {
                if self.is_limited() && made == expected {
                    break;
                }
                if m.is_managed() && self.model.at(to, VirtAddr(va)).is_none() {
                    self.model.insert(to, VirtAddr(va), Mapping::new(m.page, m.prot));
                    expected += 1;
                }
            }
        }
        assert_eq!(made, expected);
    }

    /// Looks at mappings from the head of the list on, until five were accessed, and moves those looked at to
    /// the end.
    fn age(&mut self, page: usize) {
        let found = self.system.ts_referenced(self.record(page)) as usize;
        let list = self.model.pages[page].list.clone();
        let accessed = |entry: &(usize, u64)| self.model.spaces[entry.0][&entry.1].accessed;
        let known = list.iter().filter(|entry| accessed(entry)).count();
        assert!(found <= list.len().min(5) && found >= known.min(5), "{known} known, {found} found");
        if list.len() > 5 && (!self.setting.tame || self.model.pages[page].shuffled) {
            // Which ones were looked at depends on what hardware did unasked, or on an order that is not known.
            self.model.pages[page].shuffled = true;
            self.model.pages[page].dirty = self.record(page).is_dirty();
            for (space, va) in list {
                let now = self.space(space).mincore(VirtAddr(va)).expect("mapped");
                self.model.spaces[space].get_mut(&va).expect("mapped").accessed &= now.referenced;
            }
            return;
        }
        if self.setting.tame {
            assert_eq!(found, known.min(5));
        }
        let mut looked_at = 0;
        let mut met = 0;
        for (space, va) in &list {
            let m = self.model.spaces[*space].get_mut(va).expect("mapped");
            self.model.pages[page].dirty |= m.dirty;
            met += usize::from(std::mem::take(&mut m.accessed));
            looked_at += 1;
            if met == 5 {
                break;
            }
        }
        self.model.pages[page].list.rotate_left(looked_at);
    }

    fn refuse_holds(&mut self, page: usize) {
        let record = self.record(page);
        let state = &mut self.model.pages[page];
        if self.refusals[page].take().is_some() {
            state.holds_refused = false;
            return;
        }
        match record.refuse_holds() {
            Ok(refused) => {
                assert_eq!(state.holds, 0);
                assert_eq!(record.refuse_holds().err(), Some(StillHeld), "one at a time");
                self.refusals[page] = Some(refused);
                state.holds_refused = true;
            }
            Err(StillHeld) => assert!(state.holds > 0),
        }
    }

    /// The middle of one pair of pages to that of another, in whole words so that the model is simple.
    fn copy_pages(&mut self, from: usize, to: usize, offset: u64) {
        let (source, target) = ([self.frames[from]; 1], [self.frames[to]; 1]);
        let size = (PAGE - offset).min(8 * PLACES.len() as u64);
        let result = self.system.copy_pages(&source, offset, &target, 0, size);
        result.expect("inside the pages");
        // What lies beyond the words of the model is zero, and stays so: only they are ever stored to.
        let old = self.model.pages[from].words;
        for (index, word) in self.model.pages[to].words.iter_mut().enumerate().take((size / 8) as usize) {
            *word = old.get(index + (offset / 8) as usize).copied().unwrap_or(0);
        }
    }

    pub(super) fn kernel_va(&self, at: usize) -> VirtAddr {
        self.system.machine().kernel_window().start().wrapping_add(at as u64 * PAGE)
    }

    fn kernel_enter(&mut self, at: usize, page: usize, several: bool) {
        let va = self.kernel_va(at);
        if several {
            let pages: Vec<usize> = (at..KERNEL_PAGES).map(|i| (page + i) % PAGES).collect();
            let frames: Vec<_> = pages.iter().map(|page| self.frames[*page]).collect();
            self.system.qenter(va, &frames).expect("in the window");
            pages.iter().zip(at..).for_each(|(page, at)| self.model.kernel[at] = Some(*page));
        } else {
            let rights = Protection::READ | Protection::WRITE;
            self.system.kenter(va, self.frames[page], rights).expect("in the window");
            self.system.invalidate_kernel(VirtRange::page_of(va));
            self.model.kernel[at] = Some(page);
        }
    }

    fn kernel_touch(&mut self, at: usize, access: Access) {
        let machine = self.system.machine();
        let va = self.kernel_va(at).wrapping_add(8 * at as u64);
        let Some(page) = self.model.kernel[at] else {
            assert!(machine.supervisor_read(va).is_err(), "nothing is mapped");
            return;
        };
        let word = &mut self.model.pages[page].words[at];
        if access == Access::Write {
            assert_eq!(machine.supervisor_write(va, self.step), Ok(()));
            *word = self.step;
        } else {
            assert_eq!(machine.supervisor_read(va), Ok(*word));
        }
    }

    pub(super) fn empty_the_kernel_window(&mut self) {
        self.system.qremove(self.kernel_va(0), KERNEL_PAGES).expect("in the window");
        self.model.kernel = [None; KERNEL_PAGES];
    }

    /// An address space ends and another begins; not if it is active anywhere.
    fn recreate(&mut self, space: usize) {
        let old = self.spaces[space].take().expect("always there");
        match old.destroy() {
            Ok(()) => {
                assert!(self.model.active(space).is_empty());
                self.model.remove(space, VirtRange::user(), |_| true);
                self.spaces[space] = Some(self.system.create().expect("memory"));
            }
            Err(refused) => {
                assert!(!self.model.active(space).is_empty());
                self.spaces[space] = Some(refused.pmap);
            }
        }
        assert!(self.spaces.len() == SPACES);
    }

    /// A user access through the TLB: it must fault exactly where the model says, and find what was stored.
    fn touch(&mut self, cpu: usize, place: Place, access: Access) {
        let machine = self.system.machine();
        let va = place.va().wrapping_add(8 * place.0 as u64);
        let result = match access {
            Access::Read => machine.read(va),
            Access::Write => machine.write(va, self.step).map(|()| self.step),
            Access::Execute => machine.fetch(va),
        };
        let current = self.model.cpus[cpu].current;
        let mapping = current.and_then(|space| self.model.spaces[space].get_mut(&place.va().0));
        let permitted = mapping.filter(|m| m.prot.contains(access.needs()));
        assert_eq!(
            result.is_ok(),
            permitted.is_some(),
            "{place:?} in space {current:?}, {access:?}: {result:?}"
        );
        if let Some(m) = permitted {
            // Every cached translation had its bit set, and whoever clears it flushes.
            m.accessed = true;
            let word = &mut self.model.pages[m.page].words[place.0];
            if access == Access::Write {
                m.dirty = true;
                *word = self.step;
            }
            assert_eq!(result, Ok(*word), "{place:?} in space {current:?}, {access:?}");
        }
    }
}
