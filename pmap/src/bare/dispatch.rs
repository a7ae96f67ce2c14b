//! Which instructions a kernel uses: chosen once from what CPUID says, or as somebody wishes.
//!
//! A [`Dispatch`] is a few function pointers, filled when it is made, so nothing is decided when they are called. It belongs to
//! its machine like everything else: there is no static.

use core::fmt;
use core::ptr::NonNull;

use super::cache::{CacheMethod, Lines};
use super::features::{CpuFeatures, Features};
use super::instructions as execute;
use crate::translation::{Invlpgb, Invpcid};

/// A way to drop every translation that a CPU has cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FullFlush {
    /// INVPCID, type 2.
    Invpcid,
    /// CR4.PGE off and on.
    GlobalPages,
    /// A load of CR3: for processors that have neither global translations nor PCIDs.
    Cr3,
}

impl FullFlush {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Invpcid, Self::GlobalPages, Self::Cr3];

    /// The name used on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Invpcid => "invpcid",
            Self::GlobalPages => "pge",
            Self::Cr3 => "cr3",
        }
    }

    /// Whether it does what it is for on a processor with these features.
    #[must_use]
    pub const fn is_possible(self, features: &CpuFeatures) -> bool {
        match self {
            Self::Invpcid => features.has(Features::INVPCID),
            Self::GlobalPages => features.has(Features::PGE),
            Self::Cr3 => !features.features.intersects(Features::PGE.union(Features::PCID)),
        }
    }

    /// The best that a processor with these features can do.
    #[must_use]
    pub fn best(features: &CpuFeatures) -> Self {
        // PCIDs without global translations and without INVPCID: no such processor was made.
        Self::ALL.into_iter().find(|method| method.is_possible(features)).unwrap_or(Self::GlobalPages)
    }
}

impl fmt::Display for FullFlush {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What is to be used in place of the best; `None` for the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default, Hash)]
pub struct Overrides {
    /// The way to drop everything.
    pub full_flush: Option<FullFlush>,
    /// The way to write cache lines back.
    pub cache: Option<CacheMethod>,
}

/// The processors lack what a wanted method needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unavailable {
    /// The way to drop everything.
    FullFlush(FullFlush),
    /// The way to write cache lines back.
    Cache(CacheMethod),
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::FullFlush(method) => method.name(),
            Self::Cache(method) => method.name(),
        };
        write!(f, "the processors lack what the method {name} needs: choose another one, or none")
    }
}

impl core::error::Error for Unavailable {}

/// The table: the instructions that fit a machine's processors.
#[derive(Clone, Copy)]
pub struct Dispatch {
    features: CpuFeatures,
    full_flush: FullFlush,
    everything: fn(),
    cache: CacheMethod,
    lines: Lines,
}

impl Dispatch {
    /// The table for CPUs with `features`, which are what all CPUs that use it have in [common](CpuFeatures::common).
    ///
    /// # Errors
    ///
    /// [`Unavailable`] if something is wished for that the processors do not have.
    ///
    /// # Safety
    ///
    /// Every CPU on which a function of the table is called has `features`, and is in ring 0.
    pub unsafe fn new(features: CpuFeatures, wishes: Overrides) -> Result<Self, Unavailable> {
        let full_flush = wishes.full_flush.unwrap_or_else(|| FullFlush::best(&features));
        if !full_flush.is_possible(&features) {
            return Err(Unavailable::FullFlush(full_flush));
        }
        let cache = wishes.cache.unwrap_or_else(|| CacheMethod::best(&features));
        if !cache.is_possible(&features) {
            return Err(Unavailable::Cache(cache));
        }
        let everything = match full_flush {
            // SAFETY: the features have INVPCID, and the caller promises that CPUs have them.
            FullFlush::Invpcid => || unsafe { execute::invpcid(Invpcid::AllWithGlobals) },
            // SAFETY: as above, of global translations.
            FullFlush::GlobalPages => || unsafe { execute::toggle_global_pages() },
            FullFlush::Cr3 => execute::reload_cr3,
        };
        Ok(Self { features, full_flush, everything, cache, lines: Lines::of(cache, &features) })
    }

    /// What it was made for.
    #[must_use]
    pub const fn features(&self) -> &CpuFeatures {
        &self.features
    }

    /// The way to drop everything.
    #[must_use]
    pub const fn full_flush(&self) -> FullFlush {
        self.full_flush
    }

    /// The way to write cache lines back.
    #[must_use]
    pub const fn cache_method(&self) -> CacheMethod {
        self.cache
    }

    /// Drops every translation, under every PCID, and global ones, and everything in the paging-structure caches of this CPU.
    #[inline]
    pub fn invalidate_everything(&self) {
        (self.everything)();
    }

    /// INVPCID. What CR4.PCIDE does not permit faults.
    ///
    /// # Panics
    ///
    /// If the processors have none; nothing calls it then that goes by [`CpuFeatures::tlb_features`].
    #[inline]
    pub fn invpcid(&self, what: Invpcid) {
        assert!(self.features.has(Features::INVPCID), "invpcid: the processors have none");
        // SAFETY: the features have it, and `new`'s caller promises that CPUs have them.
        unsafe { execute::invpcid(what) };
    }

    /// INVLPGB. What CR4.PCIDE does not permit faults.
    ///
    /// # Panics
    ///
    /// If the processors have none, or cannot name so many pages.
    #[inline]
    pub fn invlpgb(&self, what: Invlpgb) {
        assert!(self.features.has(Features::INVLPGB), "invlpgb: the processors have none");
        assert!(what.more <= self.features.invlpgb_more, "invlpgb: too many pages for one ({})", what.more);
        // SAFETY: the features have it, with that limit, and `new`'s caller promises that CPUs have them.
        unsafe { execute::invlpgb(what) };
    }

    /// TLBSYNC; nothing if the processors have no INVLPGB, which it would wait for.
    #[inline]
    pub fn tlbsync(&self) {
        if self.features.has(Features::INVLPGB) {
            // SAFETY: it comes with INVLPGB.
            unsafe { execute::tlbsync() };
        }
    }

    /// Writes the cache lines of `bytes` bytes from `start` on back to memory and drops them, from all caches; with
    /// [`CacheMethod::Wbinvd`], everything, from the caches of this CPU only. Done on return.
    ///
    /// # Safety
    ///
    /// The memory is mapped and readable. It is not the page of the local APIC, whose registers some processors clear then.
    #[inline]
    pub unsafe fn flush_cache(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the features have the instruction, by `new`; the rest is the caller's promise.
        unsafe { self.lines.flush(start, bytes) };
    }

    /// As [`flush_cache`](Self::flush_cache), but lines may stay in the caches, clean, where the processors know how.
    ///
    /// # Safety
    ///
    /// As [`flush_cache`](Self::flush_cache).
    #[inline]
    pub unsafe fn write_back_cache(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: as above.
        unsafe { self.lines.write_back(start, bytes) };
    }

    /// Whether a page's lines must be flushed when its memory type changes: not on processors that snoop themselves.
    #[must_use]
    pub const fn memory_type_change_needs_flush(&self) -> bool {
        !self.features.has(Features::SELF_SNOOP)
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatch")
            .field("full_flush", &self.full_flush)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}
