//! Virtual and physical addresses, frames and ranges.
//!
//! The crate has its own small types because the usual ones do not fit: a physical frame here is a
//! number, so that "address of a frame" cannot be misaligned, and a virtual address is not checked
//! against one paging mode at the type level (48 or 57 bits are a property of the machine).

use core::fmt;

/// Bytes in a base page and in a frame.
pub const PAGE_SIZE: u64 = 4096;
/// log2 of [`PAGE_SIZE`].
pub const PAGE_SHIFT: u32 = 12;
/// Bytes that one level 2 entry covers: a 2 MiB page, or a table of base pages.
pub const SUPERPAGE_SIZE: u64 = 2 << 20;
/// First address above the user half with 48-bit paging (Intel SDM vol. 3, 4.5: canonical form).
pub const USER_END: VirtAddr = VirtAddr(0x0000_8000_0000_0000);

/// A virtual address. Any 64-bit value; functions that need a canonical or aligned one say so.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct VirtAddr(pub u64);

impl VirtAddr {
    /// The address rounded down to its page.
    #[must_use]
    pub const fn page(self) -> Self {
        Self(self.0 & !(PAGE_SIZE - 1))
    }

    /// Offset within the page, in bytes.
    #[must_use]
    pub const fn page_offset(self) -> u64 {
        self.0 & (PAGE_SIZE - 1)
    }

    /// Whether the address is a multiple of [`PAGE_SIZE`].
    #[must_use]
    pub const fn is_page_aligned(self) -> bool {
        self.page_offset() == 0
    }

    /// Whether the address lies in the user half of a 48-bit address space.
    #[must_use]
    pub const fn is_user(self) -> bool {
        self.0 < USER_END.0
    }

    /// Index into the table of `level` (1 = leaf page table … 4 = PML4), Intel SDM vol. 3, table 4-14 ff.
    #[inline]
    #[must_use]
    pub const fn index(self, level: u32) -> usize {
        ((self.0 >> (PAGE_SHIFT + 9 * (level - 1))) & 511) as usize
    }

    /// Where to map `size` bytes of an object, beginning at its byte `offset`, so that 2 MiB pages can be used: the
    /// first address from `self` on that lies in its 2 MiB run as the offset lies in the object's. `self`
    /// if the mapping would not cover a whole run, or there is no such address. For an object whose pages have a
    /// colour, that is, begin somewhere in a run of memory, `offset` counts from the beginning of that run.
    ///
    /// ```
    /// use pmap::VirtAddr;
    ///
    /// let at = VirtAddr(0x40_3000).align_superpage(0x1000, 8 << 20);
    /// assert_eq!(at, VirtAddr(0x60_1000));
    /// assert_eq!(VirtAddr(0x40_3000).align_superpage(0x1000, 1 << 20), VirtAddr(0x40_3000));
    /// ```
    #[must_use]
    pub const fn align_superpage(self, offset: u64, size: u64) -> Self {
        let mask = SUPERPAGE_SIZE - 1;
        let wanted = offset & mask;
        // What lies before the object's first whole run.
        let head = (SUPERPAGE_SIZE - wanted) & mask;
        if size < head || size - head < SUPERPAGE_SIZE {
            return self;
        }
        let base = if self.0 & mask <= wanted { Some(self.0) } else { self.0.checked_add(mask) };
        match base {
            Some(base) => Self((base & !mask) + wanted),
            None => self,
        }
    }

    /// The address `bytes` further on, wrapping at 2^64.
    #[must_use]
    pub const fn wrapping_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Debug for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "va:{:#x}", self.0)
    }
}

impl fmt::Display for VirtAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A physical address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PhysAddr(pub u64);

impl PhysAddr {
    /// The frame that contains the address.
    #[must_use]
    pub const fn frame(self) -> Frame {
        Frame(self.0 >> PAGE_SHIFT)
    }
}

impl fmt::Debug for PhysAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pa:{:#x}", self.0)
    }
}

/// A physical page frame, by number: frame `n` starts at physical address `n * PAGE_SIZE`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Frame(pub u64);

impl Frame {
    /// Physical address of the frame's first byte.
    #[must_use]
    pub const fn addr(self) -> PhysAddr {
        PhysAddr(self.0 << PAGE_SHIFT)
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "frame:{:#x}", self.0)
    }
}

/// A half-open range of frames, the unit in which a machine describes its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameRange {
    /// First frame.
    pub start: Frame,
    /// Number of frames.
    pub count: u64,
}

/// Memory that Skylake-X processors of some steppings must not use while transactional memory is on: 4 MiB from
/// 1 GiB on (erratum SKZ63). To be handed to [`System::retire`](crate::System::retire), frame by frame.
pub const SKZ63: FrameRange = FrameRange { start: Frame(0x4_0000), count: 1024 };

/// A half-open, page-aligned range of virtual addresses.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VirtRange {
    start: VirtAddr,
    end: VirtAddr,
}

impl VirtRange {
    /// The range from `start` up to, not including, `end`; `None` unless both are page aligned and
    /// `start <= end`.
    #[inline]
    #[must_use]
    pub const fn new(start: VirtAddr, end: VirtAddr) -> Option<Self> {
        if start.is_page_aligned() && end.is_page_aligned() && start.0 <= end.0 {
            Some(Self { start, end })
        } else {
            None
        }
    }

    /// The single page that contains `va`. The last page of the address space is not representable
    /// as a half-open range and is cut to an empty one; nothing is ever mapped there.
    #[inline]
    #[must_use]
    pub const fn page_of(va: VirtAddr) -> Self {
        let start = va.page();
        match start.0.checked_add(PAGE_SIZE) {
            Some(end) => Self { start, end: VirtAddr(end) },
            None => Self { start, end: start },
        }
    }

    /// The user half of a 48-bit address space.
    #[must_use]
    pub const fn user() -> Self {
        Self { start: VirtAddr(0), end: USER_END }
    }

    /// First address.
    #[must_use]
    pub const fn start(self) -> VirtAddr {
        self.start
    }

    /// First address after the range.
    #[must_use]
    pub const fn end(self) -> VirtAddr {
        self.end
    }

    /// Number of pages.
    #[must_use]
    pub const fn pages(self) -> u64 {
        (self.end.0 - self.start.0) >> PAGE_SHIFT
    }

    /// Whether the range has no page.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.start.0 == self.end.0
    }

    /// Whether `va` lies in the range.
    #[must_use]
    pub const fn contains(self, va: VirtAddr) -> bool {
        self.start.0 <= va.0 && va.0 < self.end.0
    }

    /// Whether every page lies in the user half.
    #[must_use]
    pub const fn is_user(self) -> bool {
        self.end.0 <= USER_END.0
    }

    /// The pages' addresses, in order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = VirtAddr> {
        (0..self.pages()).map(move |i| VirtAddr(self.start.0 + (i << PAGE_SHIFT)))
    }
}

impl fmt::Debug for VirtRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}..{:#x}", self.start.0, self.end.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indices_follow_the_manual() {
        let va = VirtAddr((3 << 39) | (5 << 30) | (7 << 21) | (9 << 12) | 0x123);
        assert_eq!([4, 3, 2, 1].map(|l| va.index(l)), [3, 5, 7, 9]);
        assert_eq!(va.page_offset(), 0x123);
        assert_eq!(va.page().page_offset(), 0);
    }

    /// Against the definition: the first address from `va` on with the offset's place in a run.
    #[test]
    fn superpage_alignment_keeps_the_offset_and_never_goes_back() {
        let run = SUPERPAGE_SIZE;
        for start in [0, 0x1000, 0x1f_f000, 0x20_0000, 0x7fff_1234_5000] {
            for offset in [0, 0x1000, 0xff000, 0x1f_f000, 0x20_0000, 0x73_4000] {
                for size in [0, 0x1000, run - 0x1000, run, run + 0x1000, 2 * run - 0x1000, 2 * run, 9 * run] {
                    let at = VirtAddr(start).align_superpage(offset, size);
                    let covers_a_run = (offset.next_multiple_of(run) + run) <= offset + size;
                    let first = (start..).step_by(0x1000).find(|va| va % run == offset % run);
                    let expected = if covers_a_run { first } else { Some(start) };
                    assert_eq!(Some(at.0), expected, "{start:#x} {offset:#x} {size:#x}");
                }
            }
        }
        let top = VirtAddr(u64::MAX - 0xfff);
        assert_eq!(top.align_superpage(0, 8 * run), top, "there is no address above");
    }

    #[test]
    fn ranges_refuse_misalignment_and_reversal() {
        assert!(VirtRange::new(VirtAddr(0x1000), VirtAddr(0x3000)).is_some_and(|r| r.pages() == 2));
        assert!(VirtRange::new(VirtAddr(0x1001), VirtAddr(0x3000)).is_none());
        assert!(VirtRange::new(VirtAddr(0x3000), VirtAddr(0x1000)).is_none());
        assert!(VirtRange::page_of(VirtAddr(u64::MAX)).is_empty());
    }
}
