//! Each format's table of bits, written down a second time from the manuals, and what follows from it.

use super::*;
use crate::addr::Frame;
use crate::protection::{Access, Protection};

/// Bit numbers of one format; `None` where there is no such bit.
struct Table {
    present: u32,
    writable: u32,
    user: Option<u32>,
    accessed: u32,
    dirty: u32,
    global: Option<u32>,
    /// The bit, and whether it forbids.
    execute: (u32, bool),
    key: u64,
    cache: [u64; 2],
}

const X86_TABLE: Table = Table {
    present: 0,
    writable: 1,
    user: Some(2),
    accessed: 5,
    dirty: 6,
    global: Some(8),
    execute: (63, true),
    key: 0x7800_0000_0000_0000,
    cache: [1 << 7 | 1 << 4 | 1 << 3, 1 << 12 | 1 << 4 | 1 << 3],
};
const RVI_TABLE: Table = Table { global: None, key: 0, ..X86_TABLE };
const EPT_TABLE: Table = Table {
    present: 0,
    writable: 1,
    user: None,
    accessed: 8,
    dirty: 9,
    global: None,
    execute: (2, false),
    key: 0,
    cache: [0b111_1000, 0b111_1000],
};
const EMULATED_TABLE: Table = Table { present: 52, writable: 53, accessed: 0, dirty: 1, ..EPT_TABLE };

fn follows<F: Format>(table: &Table) {
    let bit = |bits: Bits| Entry::<F>::mask(bits);
    let of = |number: Option<u32>| number.map_or(0, |n| 1u64 << n);
    assert_eq!(bit(PRESENT), 1 << table.present, "{}", F::NAME);
    assert_eq!(bit(WRITABLE), 1 << table.writable, "{}", F::NAME);
    assert_eq!(bit(USER), of(table.user), "{}", F::NAME);
    assert_eq!(bit(ACCESSED), 1 << table.accessed, "{}", F::NAME);
    assert_eq!(bit(DIRTY), 1 << table.dirty, "{}", F::NAME);
    assert_eq!(bit(GLOBAL), of(table.global), "{}", F::NAME);
    assert_eq!(bit(NO_EXECUTE), 1 << table.execute.0, "{}", F::NAME);
    let software = (bit(MANAGED), bit(WIRED), bit(LARGE), bit(PROMOTED));
    assert_eq!(software, (1 << 10, 1 << 11, 1 << 7, 1 << 54));
    assert_eq!(Entry::<F>::key_mask(), table.key);
    assert_eq!([false, true].map(Entry::<F>::cache_mask), table.cache);
    let refuses = Entry::<F>::from_word(if table.execute.1 { 1 << table.execute.0 } else { 0 });
    assert!(refuses.has(NO_EXECUTE), "{}", F::NAME);
    assert!(!refuses.without(NO_EXECUTE).has(NO_EXECUTE), "{}", F::NAME);
    assert_eq!(Entry::<F>::from_word(u64::MAX).with(GLOBAL).has(GLOBAL), table.global.is_some());
    let equality = [PRESENT, WRITABLE, USER, DIRTY, GLOBAL, MANAGED, WIRED, NO_EXECUTE].map(bit);
    let equality = equality.iter().fold(table.cache[0] | table.key, |all, bit| all | bit);
    assert_eq!(Entry::<F>::equality_mask(), equality, "{}", F::NAME);
    let apart = [PRESENT, WRITABLE, USER, ACCESSED, DIRTY, GLOBAL, MANAGED, WIRED, NO_EXECUTE, PROMOTED];
    let total: u32 = apart.iter().map(|b| bit(*b).count_ones()).sum();
    assert_eq!(total, bit(apart.into_iter().collect()).count_ones(), "no two share a bit in {}", F::NAME);
    assert_eq!(bit(Bits::all()) & FRAME_MASK & !table_bits_above(52), 0, "none lies in the frame's place");
}

fn table_bits_above(bit: u32) -> u64 {
    !((1u64 << bit) - 1)
}

#[test]
fn every_bit_is_where_the_manual_has_it() {
    follows::<X86>(&X86_TABLE);
    follows::<Rvi>(&RVI_TABLE);
    follows::<Ept>(&EPT_TABLE);
    follows::<EptEmulated>(&EMULATED_TABLE);
}

/// Every combination of logical bits survives being written down, and none disturbs frame, rights or another one.
fn holds_everything<F: Format>() {
    let frame = Frame(0xab_cdef_1234);
    let all = Bits::all().difference(F::LAYOUT.never());
    for number in 0..=Bits::all().bits() {
        let bits = Bits::from_bits_retain(number) & all;
        let entry = Entry::<F>::from_word(frame.addr().0).without(NO_EXECUTE).with(bits);
        assert_eq!(entry.frame(), frame);
        for bit in all.iter().filter(|bit| Entry::<F>::mask(*bit) != 0) {
            assert_eq!(entry.has(bit), bits.contains(bit), "{}: {bits:?}, {bit:?}", F::NAME);
            assert!(!entry.without(bit).has(bit) && entry.with(bit).has(bit));
            assert!(!entry.differs_beyond(entry.with(bit), bit));
            assert_eq!(entry.with_from(entry.with(bit), bit), entry.with(bit));
        }
        let expected = bits.contains(PRESENT | DIRTY | WRITABLE);
        assert_eq!(entry.is_modified(), expected);
    }
    for rights in 0..8 {
        let prot = Protection::from_bits_truncate(rights) | Protection::READ;
        let leaf = Entry::<F>::leaf(frame, prot);
        assert_eq!((leaf.protection(), leaf.frame()), (prot, frame), "{}", F::NAME);
        assert!(!leaf.has(ACCESSED) && !leaf.has(DIRTY) && !leaf.has(MANAGED) && !leaf.has(WIRED));
        let copy = leaf.with(WIRED | DIRTY | ACCESSED | MANAGED).only(PRESENT | WRITABLE | NO_EXECUTE);
        assert_eq!(copy, leaf, "{}", F::NAME);
    }
    let table = Entry::<F>::table(frame);
    assert!(table.has(PRESENT | WRITABLE | ACCESSED | DIRTY) && !table.has(NO_EXECUTE));
    assert_eq!((table.frame(), Entry::<F>::default().is_present()), (frame, false));
}

#[test]
fn formats_hold_everything_that_can_be_said() {
    holds_everything::<X86>();
    holds_everything::<Rvi>();
    holds_everything::<Ept>();
    holds_everything::<EptEmulated>();
}

#[test]
fn leaves_and_tables_are_the_words_of_the_manuals() {
    let frame = Frame(0x12345);
    let (all, read) = (Protection::all(), Protection::READ);
    assert_eq!(Entry::<X86>::leaf(frame, all).word(), 0x1234_5003);
    assert_eq!(Entry::<X86>::leaf(frame, read).word(), 0x8000_0000_1234_5001);
    assert_eq!(Entry::<X86>::table(frame).word(), 0x1234_5067);
    // Read, write, execute; write-back, whatever the guest says.
    assert_eq!(Entry::<Ept>::leaf(frame, all).word(), 0x1234_5077);
    assert_eq!(Entry::<Ept>::leaf(frame, read).word(), 0x1234_5071);
    assert_eq!(Entry::<Ept>::table(frame).word(), 0x1234_5307);
    // Not accessed, so not readable for hardware.
    assert_eq!(Entry::<EptEmulated>::leaf(frame, read).word(), 0x0010_0000_1234_5070);
    assert_eq!(Entry::<EptEmulated>::table(frame).word(), 0x0030_0000_1234_5007);
}

#[test]
fn a_dirty_bit_counts_only_with_the_right_to_write() {
    let entry = Entry::<X86>::leaf(Frame(1), Protection::READ).with(DIRTY);
    assert!(!entry.is_modified());
    assert!(entry.with(WRITABLE).is_modified());
}

/// Intel SDM vol. 3, 29.3.3.1: bits 2:0 of an entry that is a misconfiguration.
fn is_misconfigured(word: u64, execute_only: bool) -> bool {
    match word & 0b111 {
        0b010 | 0b110 => true,
        0b100 => !execute_only,
        _ => false,
    }
}

/// H-9: all eight states of read, write and execute.
#[test]
fn accessed_is_cleared_only_where_a_legal_entry_is_left() {
    for execute_only in [false, true] {
        for state in (0..8).filter(|state| !is_misconfigured(*state, execute_only)) {
            let entry = Entry::<EptEmulated>::from_word(state).with(PRESENT);
            let left = entry.without(ACCESSED);
            assert_eq!(
                entry.may_clear_accessed(execute_only),
                !is_misconfigured(left.word(), execute_only),
                "{state:03b}, execute-only pages: {execute_only}"
            );
        }
    }
}

/// Every access to every legal entry: either it is not permitted, or it is permitted afterwards, and the entry is legal.
#[test]
fn emulated_bits_are_set_together_and_leave_a_legal_entry() {
    for state in 0..8u64 {
        for writable in [false, true] {
            let entry = Entry::<EptEmulated>::from_word(state).with(PRESENT);
            let entry = if writable { entry.with(WRITABLE) } else { entry.without(WRITABLE) };
            for access in [Access::Read, Access::Write, Access::Execute] {
                let executable = state & 0b100 != 0;
                let permitted = match access {
                    Access::Read => true,
                    Access::Write => writable,
                    Access::Execute => executable,
                };
                let after = entry.after_access(access);
                assert_eq!(after.is_some(), permitted, "{state:03b}, {access:?}");
                let Some(after) = after else { continue };
                let hardware = after.word() & 0b111;
                assert!(!is_misconfigured(hardware, false), "{state:03b}, {access:?}");
                let needed = match access {
                    Access::Read => 0b001,
                    Access::Write => 0b011,
                    Access::Execute => 0b100,
                };
                assert_eq!(hardware & needed, needed, "the access goes through now");
                assert!(
                    after.has(ACCESSED) && after.has(DIRTY) == (access == Access::Write || entry.has(DIRTY))
                );
                assert!(!entry.differs_beyond(after, ACCESSED | DIRTY));
            }
        }
        assert!(Entry::<EptEmulated>::from_word(state).after_access(Access::Read).is_none(), "not valid");
    }
}
