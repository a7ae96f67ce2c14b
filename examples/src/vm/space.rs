//! An address space: what is mapped, its private pages, and its pmap.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pmap::sim::{Mutex, RwLock};
use pmap::{PAGE_SHIFT, VirtAddr, VirtRange};

use super::SpacePmap;
use super::page::PageRef;
use super::vma::VmaMap;
use crate::hash::Map;

/// Page tables of private pages per space. Neighbouring pages share one, so that a prefault window of
/// [`WINDOW_PAGES`] needs one lock.
const SHARDS: usize = 32;
/// Pages of an aligned window that one shard covers.
pub(super) const WINDOW_PAGES: u64 = 16;

/// What is mapped in a space.
#[derive(Default)]
pub(super) struct Layout {
    pub(super) vmas: VmaMap,
    /// Ranges that stay mapped but whose pages are being thrown away at this moment.
    pub(super) busy: Vec<VirtRange>,
    /// Ranges whose rights are being taken away at this moment: page tables may still permit more than `vmas`.
    pub(super) unsettled: Vec<VirtRange>,
}

impl Layout {
    pub(super) fn is_busy(&self, va: VirtAddr) -> bool {
        self.busy.iter().any(|range| range.contains(va))
    }

    pub(super) fn is_settled(&self, va: VirtAddr) -> bool {
        !self.unsettled.iter().any(|range| range.contains(va))
    }
}

/// Some of the private pages of a space, by page number.
pub(super) type Shard = Map<u64, PageRef>;

/// An address space.
pub struct Space<'s> {
    number: u32,
    pub(super) pmap: SpacePmap<'s>,
    pub(super) layout: RwLock<Layout>,
    shards: [Mutex<Shard>; SHARDS],
    /// Raised before anything changes which page shows at which address.
    version: AtomicU64,
    /// Every CPU is to leave at its next opportunity.
    leaving: AtomicBool,
}

impl<'s> Space<'s> {
    pub(super) fn new(number: u32, pmap: SpacePmap<'s>) -> Self {
        Self {
            number,
            pmap,
            layout: RwLock::new(Layout::default()),
            shards: std::array::from_fn(|_| Mutex::new(Shard::default())),
            version: AtomicU64::new(0),
            leaving: AtomicBool::new(false),
        }
    }

    /// Its number in the trace.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Its pmap.
    #[must_use]
    pub fn pmap(&self) -> &SpacePmap<'s> {
        &self.pmap
    }

    /// The shard for the page at `va`.
    pub(super) fn shard(&self, va: VirtAddr) -> &Mutex<Shard> {
        &self.shards[((va.0 >> PAGE_SHIFT) / WINDOW_PAGES) as usize % SHARDS]
    }

    pub(super) fn shards(&self) -> &[Mutex<Shard>; SHARDS] {
        &self.shards
    }

    /// Takes the private pages of `range` out of the tables, in ascending order. The layout is locked
    /// exclusively.
    pub(super) fn take_private(&self, range: VirtRange) -> Vec<(u64, PageRef)> {
        self.bump();
        let (start, end) = (range.start().0 >> PAGE_SHIFT, range.end().0 >> PAGE_SHIFT);
        let mut taken = Vec::new();
        if range.pages() <= 4096 {
            let mut at = start;
            while at < end {
                let window_end = ((at / WINDOW_PAGES + 1) * WINDOW_PAGES).min(end);
                let mut shard = self.shard(VirtAddr(at << PAGE_SHIFT)).lock();
                taken.extend((at..window_end).filter_map(|page| shard.remove(&page).map(|p| (page, p))));
                at = window_end;
            }
        } else {
            for shard in &self.shards {
                taken.extend(shard.lock().extract_if(|page, _| (start..end).contains(page)));
            }
            taken.sort_unstable_by_key(|(page, _)| *page);
        }
        taken
    }

    /// The private pages of `range`, in ascending order. The layout is locked.
    pub(super) fn private_in(&self, range: VirtRange) -> Vec<(u64, PageRef)> {
        let (start, end) = (range.start().0 >> PAGE_SHIFT, range.end().0 >> PAGE_SHIFT);
        let mut found: Vec<(u64, PageRef)> = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock();
            if range.pages() < shard.len() as u64 {
                found.extend((start..end).filter_map(|page| shard.get(&page).map(|p| (page, p.clone()))));
            } else {
                let inside = shard.iter().filter(|(page, _)| (start..end).contains(*page));
                found.extend(inside.map(|(page, p)| (*page, p.clone())));
            }
        }
        found.sort_unstable_by_key(|(page, _)| *page);
        found
    }

    /// To be called before anything changes which page shows at which address.
    pub(super) fn bump(&self) {
        // ORD: SeqCst pairs with `version`: a reader that sees the old value on both sides of an
        // access saw no page of the change in between.
        self.version.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn version(&self) -> u64 {
        // ORD: SeqCst pairs with `bump`.
        self.version.load(Ordering::SeqCst)
    }

    /// Whether every CPU is asked to leave.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        // ORD: SeqCst pairs with `ask_to_leave`; the CPU that is woken afterwards sees it.
        self.leaving.load(Ordering::SeqCst)
    }

    pub(super) fn ask_to_leave(&self) {
        // ORD: SeqCst; before the wake-up that makes the others look.
        self.leaving.store(true, Ordering::SeqCst);
    }
}
