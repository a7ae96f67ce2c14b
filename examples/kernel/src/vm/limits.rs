//! How much of the kernel's heap the records of an address space may take: each mapped range and each page has one.

/// What a space may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Mapped ranges.
    pub(crate) ranges: usize,
    /// Mapped pages, used or not.
    pub(crate) pages: u64,
}

impl Limits {
    /// No limits: for callers who know what they map.
    pub(crate) const NONE: Self = Self { ranges: usize::MAX, pages: u64::MAX };
}

/// A space would have more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LimitReached;

/// Why nothing was mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertError {
    /// Something is mapped in the range already.
    Occupied,
    /// There would be too much.
    LimitReached,
}
