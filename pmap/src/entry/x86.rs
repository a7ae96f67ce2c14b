//! The x86 entry format (Intel SDM vol. 3, tables 4-15 to 4-20) and the software bits.

use core::fmt;

use crate::addr::Frame;
use crate::protection::Protection;

/// P: the entry is valid.
pub const PRESENT: u64 = 1;
/// R/W: stores are permitted.
pub const WRITABLE: u64 = 1 << 1;
/// U/S: user mode may use the mapping.
pub const USER: u64 = 1 << 2;
/// A: set by the processor before it caches a translation made from the entry.
pub const ACCESSED: u64 = 1 << 5;
/// D: set by the processor before the first store through the entry.
pub const DIRTY: u64 = 1 << 6;
/// PS in a level 2 or 3 entry: a leaf. In a level 1 entry the same bit is PAT; never decide by value alone.
pub const LARGE: u64 = 1 << 7;
/// G: the translation survives a reload of CR3.
pub const GLOBAL: u64 = 1 << 8;
/// Software: the page has a PV entry for this mapping.
pub const MANAGED: u64 = 1 << 10;
/// Software: the mapping is wired.
pub const WIRED: u64 = 1 << 11;
/// XD: instruction fetches are refused.
pub const NO_EXECUTE: u64 = 1 << 63;
/// Physical address of the frame or table, bits 12 to 51.
pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// The value of a page-table entry.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry(pub u64);

impl Entry {
    /// A reference to the table at `frame`, with every right: rights are decided in the leaf. Accessed
    /// is preset, since nobody asks about tables and the processor would only have to set it.
    #[must_use]
    pub const fn table(frame: Frame) -> Self {
        Self((frame.addr().0 & FRAME_MASK) | PRESENT | WRITABLE | USER | ACCESSED | DIRTY)
    }

    /// A valid leaf with the rights `prot`, neither accessed nor dirty, without software bits.
    #[must_use]
    pub const fn leaf(frame: Frame, prot: Protection) -> Self {
        let mut word = (frame.addr().0 & FRAME_MASK) | PRESENT;
        if prot.contains(Protection::WRITE) {
            word |= WRITABLE;
        }
        if !prot.contains(Protection::EXECUTE) {
            word |= NO_EXECUTE;
        }
        Self(word)
    }

    /// The entry with `bits` set.
    #[must_use]
    pub const fn with(self, bits: u64) -> Self {
        Self(self.0 | bits)
    }

    /// The entry with `bits` clear.
    #[must_use]
    pub const fn without(self, bits: u64) -> Self {
        Self(self.0 & !bits)
    }

    /// Whether all of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u64) -> bool {
        self.0 & bits == bits
    }

    /// Whether the entry is valid.
    #[must_use]
    pub const fn is_present(self) -> bool {
        self.has(PRESENT)
    }

    /// The frame or table that the entry refers to.
    #[must_use]
    pub const fn frame(self) -> Frame {
        Frame((self.0 & FRAME_MASK) >> crate::addr::PAGE_SHIFT)
    }

    /// Whether the page behind the entry has been stored to through it. A dirty bit without the right to
    /// write is left over from a mapping that was writable and has been accounted for already.
    #[must_use]
    pub const fn is_modified(self) -> bool {
        self.has(PRESENT | DIRTY | WRITABLE)
    }

    /// The rights of a leaf.
    #[must_use]
    pub fn protection(self) -> Protection {
        let mut prot = Protection::empty();
        if self.is_present() {
            prot |= Protection::READ;
            prot.set(Protection::WRITE, self.has(WRITABLE));
            prot.set(Protection::EXECUTE, !self.has(NO_EXECUTE));
        }
        prot
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("Entry(none)");
        }
        write!(f, "Entry({:?}", self.frame())?;
        let names = [
            (PRESENT, " P"),
            (WRITABLE, " RW"),
            (USER, " U"),
            (ACCESSED, " A"),
            (DIRTY, " D"),
            (LARGE, " PS/PAT"),
            (GLOBAL, " G"),
            (MANAGED, " managed"),
            (WIRED, " wired"),
            (NO_EXECUTE, " NX"),
        ];
        for (bit, name) in names {
            if self.has(bit) {
                f.write_str(name)?;
            }
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_encode_rights_as_the_manual_says() {
        let frame = Frame(0x12345);
        let all = Entry::leaf(frame, Protection::all());
        assert_eq!(all.0, 0x1234_5003);
        let read = Entry::leaf(frame, Protection::READ);
        assert_eq!(read.0, 0x8000_0000_1234_5001);
        for bits in 1..8 {
            let prot = Protection::from_bits_truncate(bits) | Protection::READ;
            assert_eq!(Entry::leaf(frame, prot).protection(), prot);
            assert_eq!(Entry::leaf(frame, prot).frame(), frame);
        }
    }

    #[test]
    fn a_dirty_bit_counts_only_with_the_right_to_write() {
        let entry = Entry::leaf(Frame(1), Protection::READ).with(DIRTY);
        assert!(!entry.is_modified());
        assert!(entry.with(WRITABLE).is_modified());
    }
}
