//! Operations, made from bytes: eight for each, so that any sequence of bytes is a program, and a shorter or smaller
//! one is a simpler program.

use pmap::{Access, Advice, Protection, VirtAddr, VirtRange};

/// CPUs of the machine.
pub(crate) const CPUS: usize = 3;
/// Address spaces.
pub(crate) const SPACES: usize = 3;
/// Pages. The last one is not managed.
pub(crate) const PAGES: usize = 6;
pub(crate) const UNMANAGED: usize = PAGES - 1;
/// Pages of the kernel's window that are used.
pub(crate) const KERNEL_PAGES: usize = 3;

/// Addresses that share tables at every level: neighbours, other leaf tables, other upper tables.
pub(crate) const PLACES: [u64; 9] = [
    0x1000,
    0x2000,
    0x1f_f000,
    0x20_0000,
    0x3fff_f000,
    0x4000_0000,
    0x7f_ffff_f000,
    0x80_0000_0000,
    0x7fff_ffff_e000,
];

/// Where [`Kind::Fill`] maps.
pub(crate) const FILL: VirtAddr = VirtAddr(0x5000_0000);

/// Index into [`PLACES`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place(pub(crate) usize);

impl Place {
    pub(crate) fn va(self) -> VirtAddr {
        VirtAddr(PLACES[self.0])
    }
}

/// The range between two places, both included.
pub(crate) fn range(from: Place, to: Place) -> VirtRange {
    let (low, high) = (from.va().min(to.va()), from.va().max(to.va()));
    VirtRange::new(low, high.wrapping_add(0x1000)).expect("page aligned and in order")
}

/// One operation, on one CPU.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Op {
    pub(crate) cpu: usize,
    pub(crate) kind: Kind,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Touch {
        place: Place,
        access: Access,
    },
    Activate {
        space: usize,
    },
    Enter {
        space: usize,
        place: Place,
        page: usize,
        prot: Protection,
        access: Access,
        wired: bool,
    },
    EnterQuick {
        space: usize,
        place: Place,
        page: usize,
        prot: Protection,
    },
    /// Many mappings of one page, so that a space has several PV chunks.
    Fill {
        space: usize,
        page: usize,
        count: u64,
    },
    Remove {
        space: usize,
        from: Place,
        to: Place,
        delete: bool,
    },
    Protect {
        space: usize,
        from: Place,
        to: Place,
        prot: Protection,
    },
    Unwire {
        space: usize,
        place: Place,
    },
    Advise {
        space: usize,
        from: Place,
        to: Place,
        advice: Advice,
    },
    RemovePages {
        space: usize,
    },
    Copy {
        to: usize,
        from: usize,
    },
    RemoveAll {
        page: usize,
    },
    RemoveWrite {
        page: usize,
    },
    ClearModify {
        page: usize,
    },
    Age {
        page: usize,
    },
    Hold {
        space: usize,
        place: Place,
        prot: Protection,
    },
    Unhold {
        page: usize,
    },
    RefuseHolds {
        page: usize,
    },
    CopyPage {
        from: usize,
        to: usize,
    },
    CopyPages {
        from: usize,
        to: usize,
        offset: u64,
    },
    ZeroArea {
        page: usize,
        offset: u64,
        size: u64,
    },
    KernelEnter {
        at: usize,
        page: usize,
        several: bool,
    },
    KernelRemove {
        at: usize,
    },
    KernelTouch {
        at: usize,
        access: Access,
    },
    Recreate {
        space: usize,
    },
    Reserve {
        space: usize,
        mappings: usize,
    },
    StopCpu,
}

/// How often a kind of operation is chosen, and how it is made.
type Weighted = (u8, fn(Choice) -> Kind);

const WEIGHTS: [Weighted; 27] = [
    (24, |c| Kind::Touch { place: c.place(0), access: c.access() }),
    (5, |c| Kind::Activate { space: c.space() }),
    (14, |c| Kind::Enter {
        space: c.space(),
        place: c.place(0),
        page: c.page(0),
        prot: c.permitting(),
        access: c.access(),
        wired: c.flag(5) && c.flag(6),
    }),
    (3, |c| Kind::EnterQuick { space: c.space(), place: c.place(0), page: c.page(0), prot: c.rights() }),
    (1, |c| Kind::Fill { space: c.space(), page: c.page(0), count: 1 + u64::from(c.0[4]) }),
    (2, |c| Kind::Remove { space: c.space(), from: c.place(0), to: c.end(), delete: c.flag(6) }),
    (3, |c| Kind::Protect { space: c.space(), from: c.place(0), to: c.end(), prot: c.rights() }),
    (2, |c| Kind::Unwire { space: c.space(), place: c.place(0) }),
    (3, |c| Kind::Advise {
        space: c.space(),
        from: c.place(0),
        to: c.end(),
        advice: if c.flag(6) { Advice::Free } else { Advice::DontNeed },
    }),
    (1, |c| Kind::RemovePages { space: c.space() }),
    (2, |c| Kind::Copy { to: c.space(), from: usize::from(c.0[4]) % SPACES }),
    (2, |c| Kind::RemoveAll { page: c.page(0) }),
    (2, |c| Kind::RemoveWrite { page: c.page(0) }),
    (3, |c| Kind::ClearModify { page: c.page(0) }),
    (4, |c| Kind::Age { page: c.page(0) }),
    (3, |c| Kind::Hold { space: c.space(), place: c.place(0), prot: c.rights() }),
    (2, |c| Kind::Unhold { page: c.page(0) }),
    (2, |c| Kind::RefuseHolds { page: c.page(0) }),
    (1, |c| Kind::CopyPage { from: c.page(0), to: c.page(1) }),
    (1, |c| Kind::CopyPages { from: c.page(0), to: c.page(1), offset: u64::from(c.0[6]) * 16 }),
    (1, |c| Kind::ZeroArea { page: c.page(0), offset: u64::from(c.0[6]), size: u64::from(c.0[7]) }),
    (4, |c| Kind::KernelEnter { at: c.kernel(), page: c.page(0), several: c.flag(6) }),
    (2, |c| Kind::KernelRemove { at: c.kernel() }),
    (6, |c| Kind::KernelTouch { at: c.kernel(), access: c.access() }),
    (1, |c| Kind::Recreate { space: c.space() }),
    (1, |_| Kind::StopCpu),
    (1, |c| Kind::Reserve { space: c.space(), mappings: 2 * usize::from(c.0[4]) }),
];

/// One of `all` things, in half of the cases one of the first `usual`: so that operations meet.
fn few(byte: u8, usual: usize, all: usize) -> usize {
    usize::from(byte) % if byte < 128 { usual } else { all }
}

/// The bytes from which the details of an operation come.
#[derive(Clone, Copy)]
struct Choice([u8; 8]);

impl Choice {
    fn space(self) -> usize {
        few(self.0[2], 1, SPACES)
    }

    fn place(self, which: usize) -> Place {
        Place(few(self.0[3 + 3 * which], 2, PLACES.len()))
    }

    /// Where a range ends that begins at the place: in half of the cases, there.
    fn end(self) -> Place {
        if self.0[6] < 128 { self.place(0) } else { self.place(1) }
    }

    fn page(self, which: usize) -> usize {
        few(self.0[4 + which], 2, PAGES)
    }

    fn kernel(self) -> usize {
        few(self.0[3], 1, KERNEL_PAGES)
    }

    fn prot(self) -> Protection {
        Protection::from_bits_truncate(self.0[5])
    }

    /// With [`Protection::READ`], but rarely.
    fn rights(self) -> Protection {
        if self.0[5] < 250 { self.prot() | Protection::READ } else { self.prot() }
    }

    /// What the access needs, but for one in four.
    fn permitting(self) -> Protection {
        if self.0[5] < 192 { self.rights() | self.access().needs() } else { self.rights() }
    }

    fn access(self) -> Access {
        [Access::Read, Access::Write, Access::Write, Access::Execute][usize::from(self.0[7] % 4)]
    }

    fn flag(self, byte: usize) -> bool {
        self.0[byte] & 0x40 != 0
    }
}

impl Op {
    /// Any eight bytes are an operation.
    pub(crate) fn decode(bytes: [u8; 8]) -> Self {
        let total: u32 = WEIGHTS.iter().map(|(weight, _)| u32::from(*weight)).sum();
        // Small bytes choose the first kinds, so that shrinking leads to simple programs.
        let mut left = u32::from(bytes[0]) * total / 256;
        let mut make = WEIGHTS[0].1;
        for (weight, kind) in WEIGHTS {
            make = kind;
            if left < u32::from(weight) {
                break;
            }
            left -= u32::from(weight);
        }
        Self { cpu: few(bytes[1], 1, CPUS), kind: make(Choice(bytes)) }
    }

    /// A program of `length` operations by chance.
    pub(crate) fn by_chance(seed: u64, length: usize) -> Vec<Self> {
        let mut dice = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let mut byte = || {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice >> 32) as u8
        };
        (0..length).map(|_| Self::decode(std::array::from_fn(|_| byte()))).collect()
    }

    /// Any bytes are a program; an incomplete operation at the end is left out.
    pub(crate) fn program(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks::<8>().0.iter().map(|op| Self::decode(*op)).collect()
    }
}
