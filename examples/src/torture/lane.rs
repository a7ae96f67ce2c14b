//! What a tortured address space looks like: a lane per CPU, and in each lane one mapping of every kind.

use pmap::{PAGE_SHIFT, Protection, VirtAddr, VirtRange};

use crate::hash::Dice;
use crate::vm::{Backing, Vma};

/// A file that is mapped shared.
pub(super) const FILE: u32 = 1;
/// A file that is mapped private.
pub(super) const PRIVATE_FILE: u32 = 2;
/// Shared anonymous memory.
pub(super) const SHARED_MEMORY: u32 = 3;

/// Pages of each mapping.
pub(super) const PAGES: u64 = 24;
/// Mappings per lane.
const KINDS: u64 = 5;
/// Distance between mappings, in pages: not a multiple of a page table's reach, so that tables come and go.
const STRIDE: u64 = 200;
const BASE: u64 = 0x10_0000;

/// One mapping of a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Anonymous,
    File,
    PrivateFile,
    SharedMemory,
    /// Empty at first: where the anonymous mapping is moved to.
    Spare,
}

impl Kind {
    pub(super) const MAPPED: [Self; 4] = [Self::Anonymous, Self::File, Self::PrivateFile, Self::SharedMemory];

    fn backing(self) -> Backing {
        let (object, shared) = match self {
            Self::Anonymous | Self::Spare => (0, false),
            Self::File => (FILE, true),
            Self::PrivateFile => (PRIVATE_FILE, false),
            Self::SharedMemory => (SHARED_MEMORY, true),
        };
        Backing { object, first_page: 0, shared }
    }
}

/// Where a lane has a mapping.
pub(super) fn range(lane: usize, kind: Kind) -> VirtRange {
    part(lane, kind, 0, PAGES)
}

/// Some pages of it.
pub(super) fn part(lane: usize, kind: Kind, first: u64, pages: u64) -> VirtRange {
    let start = BASE + (lane as u64 * KINDS + kind as u64) * STRIDE + first;
    let at = |page: u64| VirtAddr(page << PAGE_SHIFT);
    // Page aligned by construction; an empty range would be refused nowhere either.
    VirtRange::new(at(start), at(start + pages)).unwrap_or(VirtRange::page_of(at(start)))
}

/// A random part of it.
pub(super) fn some_part(dice: &mut Dice, lane: usize, kind: Kind) -> (u64, VirtRange) {
    let first = dice.below(PAGES);
    let pages = 1 + dice.below(PAGES - first);
    (first, part(lane, kind, first, pages))
}

/// The mapping for such a part.
pub(super) fn vma(kind: Kind, first: u64, range: VirtRange) -> Vma {
    let backing = kind.backing();
    let backing = Backing { first_page: if backing.object == 0 { 0 } else { first }, ..backing };
    Vma { range, protection: Protection::all(), backing }
}
