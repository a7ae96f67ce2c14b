//! The value of an entry.

use core::fmt;
use core::marker::PhantomData;

use super::Bits;
use super::format::{EptEmulated, FRAME_MASK, Format, X86};
use crate::addr::{Frame, PAGE_SHIFT};
use crate::protection::{Access, Protection};

/// The value of a page-table entry of format `F`.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry<F: Format = X86> {
    word: u64,
    format: PhantomData<F>,
}

impl<F: Format> Entry<F> {
    /// The entry that this word is.
    #[must_use]
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self { word, format: PhantomData }
    }

    /// The word.
    #[must_use]
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.word
    }

    /// A reference to the table at `frame`, with every right: rights are decided in the leaf. Accessed
    /// is preset, since nobody asks about tables and the processor would only have to set it.
    #[must_use]
    pub fn table(frame: Frame) -> Self {
        let bits = Bits::PRESENT | Bits::WRITABLE | Bits::USER | Bits::ACCESSED | Bits::DIRTY;
        Self::from_word(frame.addr().0 & FRAME_MASK).without(Bits::NO_EXECUTE).with(bits)
    }

    /// A valid leaf with the rights `prot`, neither accessed nor dirty, without software bits, in ordinary memory.
    #[must_use]
    pub fn leaf(frame: Frame, prot: Protection) -> Self {
        let mut bits = Bits::PRESENT;
        bits.set(Bits::WRITABLE, prot.contains(Protection::WRITE));
        bits.set(Bits::NO_EXECUTE, !prot.contains(Protection::EXECUTE));
        let word = (frame.addr().0 & FRAME_MASK) | F::LAYOUT.leaf();
        Self::from_word(word).without(Bits::NO_EXECUTE).with(bits)
    }

    /// The entry with `bits` set. Bits that the format does not have stay away.
    #[must_use]
    #[inline(always)]
    pub const fn with(self, bits: Bits) -> Self {
        Self::from_word((self.word | F::LAYOUT.ones(bits)) & !F::LAYOUT.zeros(bits))
    }

    /// The entry with `bits` clear.
    #[must_use]
    #[inline(always)]
    pub const fn without(self, bits: Bits) -> Self {
        Self::from_word((self.word & !F::LAYOUT.ones(bits)) | F::LAYOUT.zeros(bits))
    }

    /// The entry with `bits` as they are in `other`.
    #[must_use]
    #[inline(always)]
    pub const fn with_from(self, other: Self, bits: Bits) -> Self {
        let mask = Self::mask(bits);
        Self::from_word((self.word & !mask) | (other.word & mask))
    }

    /// Frame and memory type, and of the rest only `bits`.
    #[must_use]
    pub const fn only(self, bits: Bits) -> Self {
        let kept = FRAME_MASK | F::LAYOUT.cache(false) | Self::mask(bits);
        Self::from_word(self.word & kept)
    }

    /// Whether all of `bits` hold.
    #[must_use]
    #[inline(always)]
    pub const fn has(self, bits: Bits) -> bool {
        let (ones, zeros) = (F::LAYOUT.ones(bits), F::LAYOUT.zeros(bits));
        self.word & ones == ones && self.word & zeros == 0 && !F::LAYOUT.never().intersects(bits)
    }

    /// Whether the entries differ in anything but `bits`.
    #[must_use]
    pub const fn differs_beyond(self, other: Self, bits: Bits) -> bool {
        (self.word ^ other.word) & !Self::mask(bits) != 0
    }

    /// The bits of the word that stand for `bits`.
    #[must_use]
    #[inline(always)]
    pub const fn mask(bits: Bits) -> u64 {
        F::LAYOUT.ones(bits) | F::LAYOUT.zeros(bits)
    }

    /// The bits of a leaf's word that select its memory type; they are not the same in a `large` one.
    #[must_use]
    pub const fn cache_mask(large: bool) -> u64 {
        F::LAYOUT.cache(large)
    }

    /// The bits of a leaf's word that hold its protection key; none if the format has no keys.
    #[must_use]
    pub const fn key_mask() -> u64 {
        F::LAYOUT.key()
    }

    /// The bits in which 512 small leaves must agree to become a large one: all but frame, accessed and promoted.
    #[must_use]
    pub const fn equality_mask() -> u64 {
        let bits = Bits::PRESENT
            .union(Bits::WRITABLE)
            .union(Bits::USER)
            .union(Bits::DIRTY)
            .union(Bits::GLOBAL)
            .union(Bits::MANAGED)
            .union(Bits::WIRED)
            .union(Bits::NO_EXECUTE);
        Self::mask(bits) | Self::cache_mask(false) | Self::key_mask()
    }

    /// Whether the entry is valid.
    #[must_use]
    #[inline(always)]
    pub const fn is_present(self) -> bool {
        self.has(Bits::PRESENT)
    }

    /// The frame or table that the entry refers to.
    #[must_use]
    #[inline(always)]
    pub const fn frame(self) -> Frame {
        Frame((self.word & FRAME_MASK) >> PAGE_SHIFT)
    }

    /// Whether the page behind the entry has been stored to through it. A dirty bit without the right to
    /// write is left over from a mapping that was writable and has been accounted for already.
    #[must_use]
    #[inline(always)]
    pub const fn is_modified(self) -> bool {
        self.has(Bits::PRESENT.union(Bits::DIRTY).union(Bits::WRITABLE))
    }

    /// The rights of a leaf.
    #[must_use]
    pub fn protection(self) -> Protection {
        let mut prot = Protection::empty();
        if self.is_present() {
            prot |= Protection::READ;
            prot.set(Protection::WRITE, self.has(Bits::WRITABLE));
            prot.set(Protection::EXECUTE, !self.has(Bits::NO_EXECUTE));
        }
        prot
    }
}

impl Entry<EptEmulated> {
    /// Whether the accessed bit may be cleared: what is left must not be a misconfiguration (Intel SDM vol. 3, 29.3.3.1).
    /// An entry that can be written must be readable; one that can be executed must be too, unless the processor knows
    /// pages that can only be executed (H-9).
    #[must_use]
    pub const fn may_clear_accessed(self, execute_only: bool) -> bool {
        const READ: u64 = 1;
        const WRITE: u64 = 1 << 1;
        const EXECUTE: u64 = 1 << 2;
        // The entry as hardware sees it: accessed is readable, dirty is writable.
        let left = self.word & (READ | WRITE | EXECUTE) & !READ;
        left & WRITE == 0 && (left & EXECUTE == 0 || execute_only)
    }

    /// The entry after an access that ended in a violation because a bit was not set, with that bit set; `None` if the
    /// access is not permitted and the violation is real. Accessed and dirty come in one value, since an entry that can
    /// be written and not read is a misconfiguration.
    #[must_use]
    pub fn after_access(self, access: Access) -> Option<Self> {
        if !self.protection().contains(access.needs() | Protection::READ) {
            return None;
        }
        let bits = if access == Access::Write { Bits::ACCESSED | Bits::DIRTY } else { Bits::ACCESSED };
        Some(self.with(bits))
    }
}

impl<F: Format> fmt::Debug for Entry<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.word == 0 {
            return f.write_str("Entry(none)");
        }
        write!(f, "Entry({:?}", self.frame())?;
        Bits::all()
            .iter_names()
            .filter(|(_, bit)| self.has(*bit))
            .try_for_each(|(name, _)| write!(f, " {name}"))?;
        f.write_str(")")
    }
}
