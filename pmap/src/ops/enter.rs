//! Making mappings: `enter`, and the speculative `enter_quick` and `enter_object`.

use crate::addr::{Frame, VirtAddr, VirtRange};
use crate::entry::{ACCESSED, DIRTY, Entry, FRAME_MASK, MANAGED, NO_EXECUTE, Slot, USER, WIRED, WRITABLE};
use crate::error::{EnterError, FrameError, Shortage};
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::{Core, Pmap, State};
use crate::protection::{Access, EnterFlags, Protection};
use crate::pv::{NoEntry, PvPtr, PvSlot};
use crate::record::PageRecord;
use crate::shootdown::Invalidation;
use crate::system::System;
use crate::table::LeafCursor;

impl<M: Machine> Pmap<'_, M> {
    /// Maps the page at `va` to `frame` with the rights `prot`, now: whatever was mapped there before is
    /// replaced. On processors without the no-execute bit ([`Machine::has_no_execute`]) every mapping can be executed.
    ///
    /// `access` is the access that is about to happen; the entry is born accessed, and dirty too for a
    /// [`Access::Write`], which spares the processor the trouble. The mapping is *managed*, known to the page
    /// functions of [`System`], if the frame has a page record that is not set unmanaged; the
    /// caller keeps such a page from being reclaimed during the call.
    ///
    /// A mapping that is replaced passes through "invalid" and a completed flush, so that no CPU uses the
    /// old frame once another one can see the new one (H-11). Its accessed and dirty bits move to its page.
    ///
    /// # Errors
    ///
    /// [`EnterError`]; nothing has changed then.
    pub fn enter(
        &self,
        va: VirtAddr,
        frame: Frame,
        prot: Protection,
        access: Access,
        flags: EnterFlags,
    ) -> Result<(), EnterError> {
        let va = va.page();
        if !va.is_user() {
            return Err(EnterError::NotUser(va));
        }
        let prot = prot & Protection::all();
        if !prot.contains(access.needs() | Protection::READ) {
            return Err(EnterError::AccessNotPermitted);
        }
        let system = self.system();
        let page = system.check_frame(frame)?.filter(|page| page.is_managed());
        let mut new = Entry::leaf(frame, system.granted(prot)).with(USER | ACCESSED);
        if access == Access::Write || (page.is_none() && prot.contains(Protection::WRITE)) {
            new = new.with(DIRTY);
        }
        if page.is_some() {
            new = new.with(MANAGED);
        }
        if flags.contains(EnterFlags::WIRED) {
            new = new.with(WIRED);
        }
        let core = self.core();
        system.with_entries(core, |state| system.enter_locked(core, state, va, new, page))??;
        system.count(|c| &c.enters, 1);
        Ok(())
    }

    /// Maps the page at `va` to `frame` speculatively: with the rights `prot` less the right to write,
    /// unwired and not accessed. Gives up, returning false, if something is mapped there already or memory
    /// is short.
    pub fn enter_quick(&self, va: VirtAddr, frame: Frame, prot: Protection) -> bool {
        let range = VirtRange::page_of(va);
        self.enter_object(range, prot, |_| Some(frame)) == 1
    }

    /// Maps those pages of `range` for which `frame_at` knows a frame as
    /// [`enter_quick`](Self::enter_quick) does, under one acquisition of the pmap lock. Stops early when memory is
    /// short. Returns the number of mappings made.
    ///
    /// `frame_at` is called with locks of the pmap held and must not call it.
    pub fn enter_object(
        &self,
        range: VirtRange,
        prot: Protection,
        mut frame_at: impl FnMut(VirtAddr) -> Option<Frame>,
    ) -> u64 {
        if !range.is_user() || !prot.contains(Protection::READ) {
            return 0;
        }
        let (system, core) = (self.system(), self.core());
        let mut state = core.lock();
        let mut pv = system.pv_locks().slot();
        let mut place = LeafCursor::default();
        let rights = system.granted(prot & !Protection::WRITE);
        let new = |frame| Entry::leaf(frame, rights).with(USER);
        let mut made = 0;
        for va in range.iter() {
            let Some(frame) = frame_at(va) else { continue };
            let Ok(page) = system.check_frame(frame) else { continue };
            match system.add_unaccessed(core, &mut state, &mut pv, &mut place, va, new(frame), page) {
                Ok(entered) => made += u64::from(entered),
                Err(Shortage) => break,
            }
        }
        drop(pv);
        system.count(|c| &c.enter_quicks, made);
        made
    }
}

impl<M: Machine> System<M> {
    /// Whether `frame` may be mapped: it fits an entry, is not one of those that the pmap itself lives in, and has
    /// not been retired. Returns its record, if it has one.
    pub(super) fn check_frame(&self, frame: Frame) -> Result<Option<&PageRecord>, FrameError> {
        if frame.addr().0 & !FRAME_MASK != 0 || frame.addr().frame() != frame {
            return Err(FrameError::TooLarge);
        }
        match self.page(frame) {
            Some(page) if page.is_internal() => Err(FrameError::PmapsOwn),
            Some(page) if page.is_retired() && !self.mutation().is(Mutation::UseRetired) => {
                Err(FrameError::Retired)
            }
            page => Ok(page),
        }
    }

    /// Whether the frame of `page` was taken out of use since [`check_frame`](Self::check_frame) looked. With the lock
    /// of the page's PV list held, so that `retire` comes later, and finds the PV entry, or came before (INV-R-1).
    fn has_gone_out_of_use(&self, page: &PageRecord) -> bool {
        let switched_off = [Mutation::UseRetired, Mutation::NoSecondLookAtRetired];
        page.is_retired() && !switched_off.into_iter().any(|m| self.mutation().is(m))
    }

    fn enter_locked<'s>(
        &'s self,
        core: &'s Core<M>,
        state: &mut State,
        va: VirtAddr,
        new: Entry,
        page: Option<&PageRecord>,
    ) -> Result<Result<(), FrameError>, NoEntry<'s, M>> {
        let slot = self.leaf_slot(core.root(), va);
        let old = slot.map_or(Entry::default(), Slot::load);
        if let Some(slot) = slot
            && old.is_present()
            && old.frame() == new.frame()
        {
            self.change_same_frame(core, state, va, slot, new, page);
            return Ok(Ok(()));
        }
        let mut pv = self.pv_locks().slot();
        // All that can fail comes first. A PV entry of a mapping that is replaced serves again.
        let (mut entry, mut in_use) = (None, None);
        match page {
            // Its page's lock must be let go for that of the page that was mapped, so the frame is kept in use another way.
            Some(page) if old.has(MANAGED) => {
                in_use = page.begin_entering();
                if in_use.is_none() && self.has_gone_out_of_use(page) {
                    return Ok(Err(FrameError::Retired));
                }
            }
            Some(page) => {
                let taken = self.take_pv(core, state, &mut pv)?;
                pv.change_to(page);
                if self.has_gone_out_of_use(page) {
                    self.free_pv(core, state, taken);
                    return Ok(Err(FrameError::Retired));
                }
                entry = Some(taken);
            }
            None => {}
        }
        let table = match self.ensure_leaf_table(core, va) {
            Ok(table) => table,
            Err(shortage) => {
                if let Some(entry) = entry {
                    self.free_pv(core, state, entry);
                }
                return Err(shortage.into());
            }
        };
        let slot = self.slot(table, va.index(1));
        if old.is_present() {
            if let Some(freed) = self.break_mapping(core, state, &mut pv, va, slot) {
                entry = Some(freed);
            }
        } else {
            self.add_table_entry(table);
            core.add_resident(1);
        }
        if new.has(WIRED) {
            state.wired += 1;
        }
        if page.is_none()
            && let Some(unused) = entry.take()
        {
            self.free_pv(core, state, unused);
        }
        self.make_mapping(&mut pv, va, slot, new, page, entry);
        // From now on the PV entry keeps it in use.
        drop(in_use);
        Ok(Ok(()))
    }

    /// Changes the rights of a mapping whose frame stays.
    fn change_same_frame(
        &self,
        core: &Core<M>,
        state: &mut State,
        va: VirtAddr,
        slot: Slot<'_, M>,
        new: Entry,
        page: Option<&PageRecord>,
    ) {
        let before = slot.load();
        // A mapping stays what it was made: whether it has a PV entry is not for now to say.
        let new = new.with_from(before, MANAGED);
        let page = page.filter(|_| new.has(MANAGED));
        if new.has(WRITABLE)
            && let Some(page) = page
        {
            page.set_writeable();
        }
        match (before.has(WIRED), new.has(WIRED)) {
            (false, true) => state.wired += 1,
            (true, false) => state.wired -= 1,
            _ => {}
        }
        if !before.differs_beyond(new, ACCESSED | DIRTY) {
            return;
        }
        let old = slot.exchange(new);
        // A right to write that goes with a clean entry needs no flush: before the first store the
        // processor must walk again to set the dirty bit, and meets the new entry (H-12).
        let loses_dirty = old.is_modified() && !new.is_modified();
        let loses_execute = new.has(NO_EXECUTE) && !old.has(NO_EXECUTE);
        if loses_dirty && let Some(page) = page {
            page.set_dirty();
        }
        let skips_flush = self.mutation().is(Mutation::NoFlushOfLostRights);
        let loses = (loses_dirty || loses_execute) && !skips_flush;
        if (loses || self.has_delayed(core)) && old.has(ACCESSED) {
            self.invalidate(core, Invalidation::of_page(va));
        }
        self.guarantee_restricted(core, VirtRange::page_of(va));
    }

    /// Destroys the mapping at `va` and flushes it before anybody can see its page without a PV entry,
    /// so that no delayed invalidation is left. Returns the PV entry, now unused.
    fn break_mapping(
        &self,
        core: &Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        va: VirtAddr,
        slot: Slot<'_, M>,
    ) -> Option<PvPtr> {
        let old = slot.take();
        if old.has(WIRED) {
            state.wired -= 1;
        }
        if old.has(ACCESSED) && !self.mutation().is(Mutation::NoBreak) {
            self.invalidate(core, Invalidation::of_page(va));
        }
        self.guarantee_unmapped(core, VirtRange::page_of(va));
        let page = self.transfer_bits(old)?;
        pv.change_to(page);
        let entry = pv.find(page, core.as_owner(), va);
        debug_assert!(entry.is_some(), "a managed mapping has a PV entry");
        if let Some(entry) = entry {
            pv.unlink(page, entry);
        }
        entry
    }

    /// Puts a new entry in, its PV entry and the page's writeable mark first.
    fn make_mapping(
        &self,
        pv: &mut PvSlot<'_, M>,
        va: VirtAddr,
        slot: Slot<'_, M>,
        new: Entry,
        page: Option<&PageRecord>,
        entry: Option<PvPtr>,
    ) {
        match (page, entry) {
            (Some(page), Some(entry)) => {
                pv.change_to(page);
                pv.append(page, entry, va);
                if new.has(WRITABLE) && !self.mutation().is(Mutation::NoWriteableMark) {
                    page.set_writeable();
                }
            }
            _ => debug_assert!(
                page.is_none() && entry.is_none(),
                "a managed mapping, and no other, has a PV entry"
            ),
        }
        slot.create(new);
    }

    /// Puts `new`, neither accessed nor dirty nor wired, where nothing is mapped; `Ok(false)` if something is. `page` is
    /// the record of its frame. `place` is carried from one mapping to the next, while the pmap lock is held and
    /// nothing is removed.
    #[expect(clippy::too_many_arguments, reason = "what a loop over pages has at hand")]
    pub(super) fn add_unaccessed(
        &self,
        core: &Core<M>,
        state: &mut State,
        pv: &mut PvSlot<'_, M>,
        place: &mut LeafCursor,
        va: VirtAddr,
        new: Entry,
        page: Option<&PageRecord>,
    ) -> Result<bool, Shortage> {
        let there = place.table(self, core, va);
        if there.is_some_and(|table| self.slot(table, va.index(1)).load().is_present()) {
            return Ok(false);
        }
        let page = page.filter(|page| page.is_managed());
        let (entry, new) = match page {
            Some(page) => {
                pv.change_to(page);
                if self.has_gone_out_of_use(page) {
                    return Ok(false);
                }
                (Some(self.take_pv_quick(core, state)?), new.with(MANAGED))
            }
            None => (None, new.without(MANAGED)),
        };
        let table = match there.map_or_else(|| self.ensure_leaf_table(core, va), Ok) {
            Ok(table) => table,
            Err(shortage) => {
                if let Some(entry) = entry {
                    self.free_pv(core, state, entry);
                }
                return Err(shortage);
            }
        };
        self.add_table_entry(table);
        core.add_resident(1);
        self.make_mapping(pv, va, self.slot(table, va.index(1)), new, page, entry);
        Ok(true)
    }
}
