//! Page tables: finding entries, making tables, taking empty ones away.
//!
//! A table's record counts its valid entries. INV-P-3: a table in use has at least one valid entry
//! whenever the pmap lock is free; the kernel's tables and the roots are outside of this rule. A table whose
//! last entry goes is unlinked at once and travels in the operation's [`Gather`] until the flush.

mod adopted;
mod fresh;
mod saved;
mod span;

use core::sync::atomic::AtomicU64;

use fresh::FreshTables;
pub use saved::Contents;
pub(crate) use saved::SavedTables;
pub(crate) use span::{LeafCursor, LeafTables, user_part};

use crate::addr::{Frame, VirtAddr};
use crate::entry::{Entry, Format, Slot, X86};
use crate::error::Shortage;
use crate::flush::Gather;
use crate::machine::Machine;
use crate::mutation::Mutation;
use crate::pmap::{Core, State};
use crate::system::System;

/// Level of the root table.
pub(crate) const ROOT_LEVEL: u32 = 4;

/// Level of page directories, whose entries name leaf tables or are large leaves.
pub(crate) const DIRECTORY_LEVEL: u32 = 2;

impl<M: Machine> System<M> {
    /// The entry at `index` of `table`.
    pub(crate) fn slot(&self, table: Frame, index: usize) -> Slot<'_, M> {
        self.slot_of::<X86>(table, index)
    }

    /// The entry at `index` of `table`, whose entries have the format `F`.
    pub(crate) fn slot_of<F: Format>(&self, table: Frame, index: usize) -> Slot<'_, M, F> {
        debug_assert!(index < 512);
        let words = self.machine().direct_map(table).cast::<AtomicU64>();
        // SAFETY: the direct map is valid for the frame's 4096 bytes and page aligned; the index is below
        // 512. Everybody, hardware included, accesses the words of a table atomically.
        Slot::new(self.machine(), table, unsafe { words.add(index & 511).as_ref() })
    }

    /// The leaf table that covers `va`, if there is one.
    pub(crate) fn leaf_table(&self, root: Frame, va: VirtAddr) -> Option<Frame> {
        let mut table = root;
        for level in (2..=ROOT_LEVEL).rev() {
            let entry = self.slot(table, va.index(level)).load();
            if !entry.is_present() {
                return None;
            }
            table = entry.frame();
        }
        Some(table)
    }

    /// The level 1 entry for `va`, if there is a table for it.
    pub(crate) fn leaf_slot(&self, root: Frame, va: VirtAddr) -> Option<Slot<'_, M>> {
        self.leaf_table(root, va).map(|table| self.slot(table, va.index(1)))
    }

    /// The leaf table that covers `va`, made if there was none, together with the tables above it.
    ///
    /// All frames are there before the first is linked, so a shortage leaves nothing to undo, and a new
    /// table becomes visible by a single store with everything below it in place. The caller holds the
    /// pmap lock and puts an entry into the leaf table before releasing it (INV-P-3).
    pub(crate) fn ensure_leaf_table(&self, core: &Core<M>, va: VirtAddr) -> Result<Frame, Shortage> {
        let (leaf, made) = self.link_tables(core, va)?;
        if made != 0 {
            self.count(|c| &c.pt_pages_allocated, made);
        }
        Ok(leaf)
    }

    /// [`ensure_leaf_table`](Self::ensure_leaf_table) without its entry in the statistics, which needs a current
    /// CPU; returns the number of tables made, too.
    pub(crate) fn link_tables(&self, core: &Core<M>, va: VirtAddr) -> Result<(Frame, u64), Shortage> {
        let mut table = core.root();
        let mut level = ROOT_LEVEL;
        while level > 1 {
            let entry = self.slot(table, va.index(level)).load();
            if !entry.is_present() {
                break;
            }
            table = entry.frame();
            level -= 1;
        }
        let missing = level as usize - 1;
        if missing == 0 {
            return Ok((table, 0));
        }
        // From the leaf up: each holds the one before it.
        let mut below: Option<Frame> = None;
        let mut leaf = table;
        for (frame, child_level) in FreshTables::allocate(self, missing)?.take_all().zip(1u32..) {
            let entries = match below {
                Some(child) => {
                    self.slot(frame, va.index(child_level)).create(Entry::table(child));
                    1
                }
                None => {
                    leaf = frame;
                    0
                }
            };
            if let Some(record) = self.page(frame) {
                record.set_table_entries(entries);
                record.set_chain(None);
            }
            below = Some(frame);
        }
        if let Some(top) = below {
            self.slot(table, va.index(level)).create(Entry::table(top));
            if level != ROOT_LEVEL {
                self.add_table_entry(table);
            }
        }
        core.add_resident(missing as i64);
        Ok((leaf, missing as u64))
    }

    /// Counts a new valid entry of `table`. The pmap lock is held.
    pub(crate) fn add_table_entry(&self, table: Frame) {
        if let Some(record) = self.page(table) {
            record.set_table_entries(record.table_entries() + 1);
        }
    }

    /// Counts a valid entry less in the leaf table of `slot`, the entry for `va`. Tables that become empty are unlinked
    /// and put into `gather`. Returns whether the leaf table was. Only for user addresses.
    pub(crate) fn drop_table_entry(
        &self,
        core: &Core<M>,
        state: &mut State,
        va: VirtAddr,
        slot: Slot<'_, M>,
        gather: &mut Gather<'_, M>,
    ) -> bool {
        if self.page(slot.table()).is_none_or(|record| record.drop_table_entry() != 0) {
            return false;
        }
        self.unlink_empty_tables(core, state, va, gather);
        true
    }

    /// Unlinks the leaf table that covers `va`, whose last entry is gone, and those above it that are left empty. A
    /// directory takes along what is saved in it (INV-P-7).
    #[cold]
    fn unlink_empty_tables(
        &self,
        core: &Core<M>,
        state: &mut State,
        va: VirtAddr,
        gather: &mut Gather<'_, M>,
    ) {
        // The path down to the leaf: path[level - 1] is the table of that level.
        let mut path = [core.root(); ROOT_LEVEL as usize];
        for level in (2..=ROOT_LEVEL as usize).rev() {
            path[level - 2] = self.slot(path[level - 1], va.index(level as u32)).load().frame();
        }
        for level in 1..ROOT_LEVEL as usize {
            let table = path[level - 1];
            if level > 1 && self.page(table).is_none_or(|record| record.drop_table_entry() != 0) {
                break;
            }
            // Nobody asks about bits of an entry that names a table.
            let _ = self.slot(path[level], va.index(level as u32 + 1)).take();
            if level == DIRECTORY_LEVEL as usize && !self.mutation().is(Mutation::LoseSaved) {
                SavedTables::<M>::new(self, table).give_up(core, state, va, gather);
            }
            core.add_resident(-1);
            gather.add_table(table, va);
        }
    }
}
