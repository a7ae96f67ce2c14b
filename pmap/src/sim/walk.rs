//! The hardware page walk, from the manual alone.
//!
//! Nothing here uses the pmap's notion of a table: bits and formats are those of the Intel SDM vol. 3,
//! sections 4.5 (4-level paging), 4.6 (rights), 4.7 (faults) and 4.8 (accessed and dirty flags), so that
//! a mistake in the pmap cannot cancel against the same mistake here.

use std::format;
use std::sync::atomic::Ordering;

use super::memory::{Memory, Owner, Stamp};
use super::report::Ledger;
use super::structure_cache::{Found, StructureCache};
use super::tlb::Rights;
use crate::{Access, Frame, PAGE_SHIFT, Pcid, VirtAddr};

pub(super) const PRESENT: u64 = 1 << 0;
pub(super) const WRITABLE: u64 = 1 << 1;
pub(super) const USER: u64 = 1 << 2;
pub(super) const ACCESSED: u64 = 1 << 5;
pub(super) const DIRTY: u64 = 1 << 6;
pub(super) const LARGE: u64 = 1 << 7;
pub(super) const GLOBAL: u64 = 1 << 8;
pub(super) const NO_EXECUTE: u64 = 1 << 63;
/// Bits 51:12, the physical address.
pub(super) const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
/// Physical-address bits that this machine does not have (MAXPHYADDR is 46): reserved, must be zero.
pub(super) const BEYOND_PHYSICAL: u64 = 0x000f_c000_0000_0000;
/// Software bit 10: the pmap's own mark of a managed mapping. The checker is told of it, the walk is not.
pub(super) const MANAGED: u64 = 1 << 10;

/// A finished walk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Leaf {
    /// Frame of the 4 KiB page asked for, also within a large page.
    pub(super) frame: Frame,
    pub(super) rights: Rights,
    pub(super) dirty: bool,
    pub(super) global: bool,
    pub(super) level: u8,
    pub(super) raw: u64,
    pub(super) table: Frame,
    pub(super) table_stamp: Stamp,
    pub(super) index: u16,
}

/// Why a walk gave no translation; the difference is a bit of the page-fault error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Some entry was not present.
    NotPresent,
    /// Everything is present, and the access is not permitted.
    Denied,
    /// A reserved bit is set, or an entry leads where it must not; already in the ledger.
    Broken,
}

/// What the walk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// An access, in user mode or with supervisor rights.
    Demand {
        access: Access,
        user: bool,
    },
    Speculation,
}

fn permits(rights: Rights, access: Access, user: bool) -> bool {
    // CR0.WP is set: a supervisor store respects the write bit too.
    (rights.user || !user)
        && match access {
            Access::Read => true,
            Access::Write => rights.write,
            Access::Execute => rights.execute,
        }
}

/// Whether a cached translation permits the access without looking at the tables.
pub(super) fn cached_permits(rights: Rights, access: Access, user: bool) -> bool {
    permits(rights, access, user)
}

fn narrowed(rights: Rights, entry: u64) -> Rights {
    Rights {
        user: rights.user && entry & USER != 0,
        write: rights.write && entry & WRITABLE != 0,
        execute: rights.execute && entry & NO_EXECUTE == 0,
    }
}

fn is_leaf(entry: u64, level: u32) -> bool {
    level == 1 || (level <= 3 && entry & LARGE != 0)
}

/// Reserved bits that are set in a present entry (Intel SDM vol. 3, tables 4-15 to 4-20), of which `always` are reserved at
/// all levels.
fn reserved(entry: u64, level: u32, always: u64) -> u64 {
    let shape = match (level, entry & LARGE != 0) {
        (4, _) => LARGE,
        (3, true) => 0x3fff_e000,
        (2, true) => 0x001f_e000,
        _ => 0,
    };
    entry & (always | shape)
}

/// Frame of `va`'s page, by its leaf entry.
fn target(entry: u64, level: u32, va: VirtAddr) -> Frame {
    let within = (1_u64 << (9 * (level - 1))) - 1;
    let base = (entry & ADDRESS) >> PAGE_SHIFT;
    Frame((base & !within) | ((va.0 >> PAGE_SHIFT) & within))
}

/// One walk's surroundings.
pub(super) struct Walker<'a> {
    pub(super) memory: &'a Memory,
    pub(super) ledger: &'a Ledger,
    pub(super) root: Frame,
    pub(super) pcid: Pcid,
    pub(super) cpu: usize,
    /// Bits that are reserved at all levels.
    pub(super) reserved: u64,
}

impl Walker<'_> {
    /// Translates `va`, beginning as deep as the paging-structure caches permit and filling them on the
    /// way. Sets accessed flags in every entry it uses, and the dirty flag of the leaf for a store. Both are
    /// locked compare-exchanges on the entry as it was checked, so a flag never appears in an entry that
    /// has just been cleared or write-protected (INV-M-3). `point` is called before every read of a table.
    pub(super) fn walk(
        &self,
        caches: &mut StructureCache,
        va: VirtAddr,
        purpose: Purpose,
        point: &mut impl FnMut(),
    ) -> Result<Leaf, Stop> {
        let (mut level, mut table, mut stamp, mut rights) = self.begin(caches, va)?;
        loop {
            let index = va.index(level);
            let word = &self.memory.words(table)[index];
            point();
            // ORD: SeqCst; a CPU that has made a root current and walks it, and one that clears an
            // entry and looks who runs that root, must not miss each other both. Acquire too, for what
            // the entry leads to.
            let entry = word.load(Ordering::SeqCst);
            if entry & PRESENT == 0 {
                return Err(Stop::NotPresent);
            }
            if reserved(entry, level, self.reserved) != 0 {
                self.ledger.forbidden(|| {
                    format!("cpu {}: reserved bits in {entry:#x}, level {level}, for {va}", self.cpu)
                });
                return Err(Stop::Broken);
            }
            let below = narrowed(rights, entry);
            let mut flags = ACCESSED;
            if is_leaf(entry, level) {
                match purpose {
                    Purpose::Demand { access, user } => {
                        if !permits(below, access, user) {
                            return Err(Stop::Denied);
                        }
                        if access == Access::Write {
                            flags |= DIRTY;
                        }
                    }
                    Purpose::Speculation if !below.user => return Err(Stop::Denied),
                    Purpose::Speculation => {}
                }
            }
            if entry & flags != flags {
                // ORD: SeqCst, as the load. On failure somebody changed the entry: look at it again.
                let set = word.compare_exchange(entry, entry | flags, Ordering::SeqCst, Ordering::SeqCst);
                if set.is_err() {
                    continue;
                }
            }
            let entry = entry | flags;
            if is_leaf(entry, level) {
                let frame = target(entry, level, va);
                if !self.memory.contains(frame) {
                    self.ledger.forbidden(|| {
                        format!("cpu {}: {va} maps to {frame:?}, which is no memory", self.cpu)
                    });
                    return Err(Stop::Broken);
                }
                return Ok(Leaf {
                    frame,
                    rights: below,
                    dirty: entry & DIRTY != 0,
                    global: entry & GLOBAL != 0,
                    level: level as u8,
                    raw: entry,
                    table,
                    table_stamp: stamp,
                    index: index as u16,
                });
            }
            level -= 1;
            table = target(entry, 1, va);
            stamp = self.table_stamp(table, level, va)?;
            rights = below;
            let Self { pcid, root, .. } = *self;
            caches.insert(va, level, Found { pcid, root, table, stamp, rights });
        }
    }

    /// Where the walk begins: the deepest table that the caches know, or the root.
    fn begin(&self, caches: &mut StructureCache, va: VirtAddr) -> Result<(u32, Frame, Stamp, Rights), Stop> {
        for level in 1..=3 {
            let Some(cached) = caches.lookup(va, level, self.pcid) else { continue };
            if self.memory.stamp(cached.table) == cached.stamp {
                return Ok((level, cached.table, cached.stamp, cached.rights));
            }
            // A real CPU would walk through whatever the frame holds now. That is counted, not done: it
            // could lead anywhere, and the error is proved already.
            self.ledger.stale_access(|| {
                format!(
                    "cpu {}: walk of {va} through a cached reference to {:?}, which was freed (now {:?})",
                    self.cpu,
                    cached.table,
                    self.memory.stamp(cached.table).owner(),
                )
            });
            caches.forget(va, level, self.pcid);
        }
        let stamp = self.table_stamp(self.root, 4, va)?;
        Ok((4, self.root, stamp, Rights::ALL))
    }

    fn table_stamp(&self, table: Frame, level: u32, va: VirtAddr) -> Result<Stamp, Stop> {
        if self.memory.contains(table) {
            let stamp = self.memory.stamp(table);
            if stamp.owner() == Owner::PageTable {
                return Ok(stamp);
            }
        }
        self.ledger.forbidden(|| {
            let owner = self.memory.contains(table).then(|| self.memory.stamp(table).owner());
            format!(
                "cpu {}: the level-{level} table for {va} is {table:?}, which is no page table ({owner:?})",
                self.cpu
            )
        });
        Err(Stop::Broken)
    }
}

/// What the tables say now, changing nothing: for the checker.
pub(super) fn probe(memory: &Memory, root: Frame, va: VirtAddr) -> Option<Leaf> {
    let (mut table, mut rights) = (root, Rights::ALL);
    for level in (1..=4).rev() {
        let stamp = memory.contains(table).then(|| memory.stamp(table))?;
        let index = va.index(level);
        // ORD: Acquire; pairs with the pmap's Release stores of entries that lead to new tables.
        let entry = memory.words(table)[index].load(Ordering::Acquire);
        if entry & PRESENT == 0 || stamp.owner() != Owner::PageTable {
            return None;
        }
        rights = narrowed(rights, entry);
        if is_leaf(entry, level) {
            return Some(Leaf {
                frame: target(entry, level, va),
                rights,
                dirty: entry & DIRTY != 0,
                global: entry & GLOBAL != 0,
                level: level as u8,
                raw: entry,
                table,
                table_stamp: stamp,
                index: index as u16,
            });
        }
        table = target(entry, 1, va);
    }
    None
}
