//! One recorded event.

use std::fmt;

use pmap::{Access, Protection, VirtAddr, VirtRange};

/// A line of a trace. File order is the order to replay in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Microseconds since the start of the recording; never decreases.
    pub time: u32,
    /// Thread that did it.
    pub tid: u32,
    /// Address space that it was done to; 0 is "outside the trace".
    pub space: u32,
    /// CPU that the thread ran on.
    pub cpu: u16,
    /// What was done.
    pub op: Op,
}

/// What an event does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    /// A new mapping, in a range that is empty at this point.
    Map(MapArgs),
    /// Removal of whatever is mapped in the range; holes are allowed.
    Unmap(VirtRange),
    /// New rights for a range.
    Protect(VirtRange, Protection),
    /// A page fault at an exact address.
    Fault(VirtAddr, FaultCode),
    /// Advice for a range.
    Advise(VirtRange, Advice),
    /// `mremap`: the mapping at the first range moves to, or is resized to, the second.
    Remap(VirtRange, VirtRange),
    /// The space is copied into a new one with this number.
    Fork(u32),
    /// The thread leaves the space and enters a new, empty one with this number.
    Exec(u32),
    /// The space is torn down.
    Exit,
}

impl Op {
    /// The kind, for counting.
    #[must_use]
    pub const fn kind(&self) -> OpKind {
        match self {
            Self::Map(_) => OpKind::Map,
            Self::Unmap(_) => OpKind::Unmap,
            Self::Protect(..) => OpKind::Protect,
            Self::Fault(..) => OpKind::Fault,
            Self::Advise(..) => OpKind::Advise,
            Self::Remap(..) => OpKind::Remap,
            Self::Fork(_) => OpKind::Fork,
            Self::Exec(_) => OpKind::Exec,
            Self::Exit => OpKind::Exit,
        }
    }
}

/// Arguments of [`Op::Map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapArgs {
    /// Where.
    pub range: VirtRange,
    /// Rights.
    pub protection: Protection,
    /// Stores are seen by others (`MAP_SHARED`).
    pub shared: bool,
    /// Object mapped; 0 is private anonymous memory.
    pub object: u32,
    /// Page of the object at the start of the range.
    pub first_page: u64,
}

/// The hardware's page-fault error code (Intel SDM vol. 3, 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultCode(pub u8);

impl FaultCode {
    /// The access that faulted.
    #[must_use]
    pub const fn access(self) -> Access {
        if self.0 & 2 != 0 {
            Access::Write
        } else if self.0 & 16 != 0 {
            Access::Execute
        } else {
            Access::Read
        }
    }
}

/// What `madvise` was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Advice {
    /// Throw the pages away now.
    DontNeed,
    /// The pages may be thrown away instead of being written to swap.
    Free,
    /// Anything else: no effect on page tables.
    Other,
}

/// Kinds of events, in the order of the header's `totals` line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are those of the trace format, described at `Op`")]
pub enum OpKind {
    Map,
    Unmap,
    Protect,
    Fault,
    Advise,
    Remap,
    Fork,
    Exec,
    Exit,
}

impl OpKind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Map,
        Self::Unmap,
        Self::Protect,
        Self::Fault,
        Self::Advise,
        Self::Remap,
        Self::Fork,
        Self::Exec,
        Self::Exit,
    ];

    /// The word that the trace format uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Unmap => "unmap",
            Self::Protect => "protect",
            Self::Fault => "fault",
            Self::Advise => "madv",
            Self::Remap => "remap",
            Self::Fork => "fork",
            Self::Exec => "exec",
            Self::Exit => "exit",
        }
    }
}

impl fmt::Display for OpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
