//! Entry formats: which bit of the word is which.
//!
//! | | [`X86`] | [`Rvi`] | [`Ept`] | [`EptEmulated`] |
//! |---|---|---|---|---|
//! | present | 0 | 0 | 0 (read) | 52 |
//! | writable | 1 | 1 | 1 (write) | 53 |
//! | user | 2 | 2 | – | – |
//! | executable | 63 clear | 63 clear | 2 set | 2 set |
//! | accessed | 5 | 5 | 8 | 0 (read) |
//! | dirty | 6 | 6 | 9 | 1 (write) |
//! | large | 7 | 7 | 7 | 7 |
//! | global | 8 | – | – | – |
//! | managed, wired, promoted | 10, 11, 54 | 10, 11, 54 | 10, 11, 54 | 10, 11, 54 |
//!
//! Intel SDM vol. 3, tables 4-15 to 4-20 and 29-1 to 29-7; AMD APM vol. 2, 15.25.5. FreeBSD takes the user bit for the
//! extended tables' execute bit, so that everything mapped in a guest can be executed (H-55); here "executable" is a
//! bit like others, which happens to be the other way round in different formats.

use super::Bits;

mod sealed {
    pub trait Sealed {}
}

/// The word's bits for each logical bit; 0 where the format has none.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    present: u64,
    writable: u64,
    user: u64,
    accessed: u64,
    dirty: u64,
    global: u64,
    /// Set if instruction fetches are refused.
    no_execute: u64,
    /// Set if instruction fetches are permitted.
    execute: u64,
    /// What every leaf has besides: the memory type, where the entry itself names it.
    leaf: u64,
    /// Memory type and what belongs to it, in a leaf of level 1 and in a large one.
    cache: [u64; 2],
    /// Protection key.
    key: u64,
}

const LARGE: u64 = 1 << 7;
const MANAGED: u64 = 1 << 10;
const WIRED: u64 = 1 << 11;
const PROMOTED: u64 = 1 << 54;

/// Physical address of the frame or table, bits 12 to 51, in all formats.
pub const FRAME_MASK: u64 = 0x000f_ffff_ffff_f000;

/// PWT and PCD, and PAT where it is at level 1 and where it is in a large leaf.
const X86_CACHE: [u64; 2] = [0x98, 0x1018];

const X86_LAYOUT: Layout = Layout {
    present: 1,
    writable: 1 << 1,
    user: 1 << 2,
    accessed: 1 << 5,
    dirty: 1 << 6,
    global: 1 << 8,
    no_execute: 1 << 63,
    execute: 0,
    leaf: 0,
    cache: X86_CACHE,
    key: 0xf << 59,
};

const EPT_LAYOUT: Layout = Layout {
    present: 1,
    writable: 1 << 1,
    user: 0,
    accessed: 1 << 8,
    dirty: 1 << 9,
    global: 0,
    no_execute: 0,
    execute: 1 << 2,
    // "Ignore PAT" and write-back: the guest's own attributes do not reach memory types of the host.
    leaf: 0x40 | 6 << 3,
    cache: [0x78, 0x78],
    key: 0,
};

impl Layout {
    /// Bits of the word that are set if all of `bits` hold.
    #[inline(always)]
    pub(super) const fn ones(&self, bits: Bits) -> u64 {
        let mut word = 0;
        let pairs = [
            (Bits::PRESENT, self.present),
            (Bits::WRITABLE, self.writable),
            (Bits::USER, self.user),
            (Bits::ACCESSED, self.accessed),
            (Bits::DIRTY, self.dirty),
            (Bits::LARGE, LARGE),
            (Bits::GLOBAL, self.global),
            (Bits::MANAGED, MANAGED),
            (Bits::WIRED, WIRED),
            (Bits::NO_EXECUTE, self.no_execute),
            (Bits::PROMOTED, PROMOTED),
        ];
        let mut i = 0;
        while i < pairs.len() {
            if bits.contains(pairs[i].0) {
                word |= pairs[i].1;
            }
            i += 1;
        }
        word
    }

    /// Bits of the word that are clear if all of `bits` hold.
    #[inline(always)]
    pub(super) const fn zeros(&self, bits: Bits) -> u64 {
        if bits.contains(Bits::NO_EXECUTE) { self.execute } else { 0 }
    }

    /// What no entry of the format says.
    #[inline(always)]
    pub(super) const fn never(&self) -> Bits {
        if self.global == 0 { Bits::GLOBAL } else { Bits::empty() }
    }

    pub(super) const fn leaf(&self) -> u64 {
        self.leaf
    }

    pub(super) const fn cache(&self, large: bool) -> u64 {
        self.cache[large as usize]
    }

    pub(super) const fn key(&self) -> u64 {
        self.key
    }
}

/// A format of page-table entries. The types that implement it are all there are.
pub trait Format: sealed::Sealed + Copy + Eq + Default + core::fmt::Debug + Send + Sync + 'static {
    /// Name for people.
    const NAME: &'static str;
    /// Which bit is which.
    const LAYOUT: Layout;
    /// Whether software sets the accessed and dirty bits, in a fault, because hardware does not.
    const EMULATED: bool;
}

macro_rules! formats {
    ($($(#[$doc:meta])* $name:ident { $text:literal, $layout:expr, emulated: $emulated:literal })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        pub struct $name;

        impl sealed::Sealed for $name {}

        impl Format for $name {
            const NAME: &'static str = $text;
            const LAYOUT: Layout = $layout;
            const EMULATED: bool = $emulated;
        }
    )*};
}

formats! {
    /// A process's own tables.
    X86 { "x86", X86_LAYOUT, emulated: false }
    /// AMD's nested tables: an x86 entry, but without global translations and protection keys.
    Rvi { "RVI", Layout { global: 0, key: 0, ..X86_LAYOUT }, emulated: false }
    /// Intel's extended tables on a processor that sets accessed and dirty bits in them.
    Ept { "EPT", EPT_LAYOUT, emulated: false }
    /// Intel's extended tables on a processor that does not. An entry that was not accessed cannot be read, and one that is
    /// not dirty cannot be written, so that the access ends in a violation and software sets the bits.
    EptEmulated {
        "EPT with emulated accessed and dirty bits",
        Layout {
            present: 1 << 52,
            writable: 1 << 53,
            accessed: 1,
            dirty: 1 << 1,
            ..EPT_LAYOUT
        },
        emulated: true
    }
}
