//! What an entry says, whatever the bits are that say it.

use bitflags::bitflags;

bitflags! {
    /// Logical bits of an entry. Which bits of the word they are is a matter of the [`Format`](super::Format).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Bits: u16 {
        /// The entry is valid.
        const PRESENT = 1;
        /// Stores are permitted.
        const WRITABLE = 1 << 1;
        /// User mode may use the mapping.
        const USER = 1 << 2;
        /// Set before a translation made from the entry is cached: by the processor, or by software that emulates
        /// the bit.
        const ACCESSED = 1 << 3;
        /// Set before the first store through the entry.
        const DIRTY = 1 << 4;
        /// In an entry of level 2 or 3: a leaf. The same bit of an x86 leaf of level 1 selects the memory type, so
        /// never decide by the value alone (H-2).
        const LARGE = 1 << 5;
        /// The translation survives a reload of the root.
        const GLOBAL = 1 << 6;
        /// Software: the page has a PV entry for this mapping.
        const MANAGED = 1 << 7;
        /// Software: the mapping is wired.
        const WIRED = 1 << 8;
        /// Instruction fetches are refused.
        const NO_EXECUTE = 1 << 9;
        /// Software, in an entry of level 2: translations of the small mappings from which this large one was made
        /// may still be cached.
        const PROMOTED = 1 << 10;
    }
}

/// [`Bits::PRESENT`].
pub const PRESENT: Bits = Bits::PRESENT;
/// [`Bits::WRITABLE`].
pub const WRITABLE: Bits = Bits::WRITABLE;
/// [`Bits::USER`].
pub const USER: Bits = Bits::USER;
/// [`Bits::ACCESSED`].
pub const ACCESSED: Bits = Bits::ACCESSED;
/// [`Bits::DIRTY`].
pub const DIRTY: Bits = Bits::DIRTY;
/// [`Bits::LARGE`].
pub const LARGE: Bits = Bits::LARGE;
/// [`Bits::GLOBAL`].
pub const GLOBAL: Bits = Bits::GLOBAL;
/// [`Bits::MANAGED`].
pub const MANAGED: Bits = Bits::MANAGED;
/// [`Bits::WIRED`].
pub const WIRED: Bits = Bits::WIRED;
/// [`Bits::NO_EXECUTE`].
pub const NO_EXECUTE: Bits = Bits::NO_EXECUTE;
/// [`Bits::PROMOTED`].
pub const PROMOTED: Bits = Bits::PROMOTED;
