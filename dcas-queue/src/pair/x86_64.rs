//! The accesses to a pair on an x86-64 CPU with `CMPXCHG16B`, all of them inline assembly.
//!
//! Rust gives no meaning to 64-bit and 128-bit atomic accesses that race on one location. The processor does: aligned
//! 8-byte accesses inside an aligned 16-byte operand are single-copy atomic, and a locked instruction is atomic
//! with respect to all of them (Intel SDM Vol. 3A, 10.1.1 and 10.1.2; AMD APM Vol. 2, 7.3.2). Since *every* access
//! to a live pair is one of the blocks below, the abstract machine never sees two racing accesses of different size;
//! it sees opaque blocks, each of which could equally have been a 128-bit operation:
//!
//! | block | as a 128-bit operation |
//! |---|---|
//! | half load | load of 16 bytes, of which half is thrown away |
//! | half store | load and store of 16 bytes by the only thread that may write (the contract of the caller) |
//! | mark | fetch-or of 16 bytes (the old value is read late, which the freeze makes the same) |
//! | compare-exchange, load | itself |
//!
//! None of the blocks has `pure`, `nomem` or `readonly`. An asm block without them may read and write any memory, so
//! the compiler moves no access of the program across it; with `readonly` it would move plain loads above a
//! half load that is meant to acquire. On the processor side a load is an acquire, a store a release, and a locked
//! instruction a full barrier (Intel SDM Vol. 3A, 10.2.2).
//!
//! Registers are named where `RBX` is swapped: `CMPXCHG16B` takes its low new half in `RBX`, which LLVM reserves
//! and therefore cannot be an operand, but a class such as `reg` may still be given `RBX` for another operand.

use core::arch::asm;

/// Byte offset of the link inside the pair: the high half of a little-endian `u128`.
const LINK: usize = 8;

/// Loads the low half.
///
/// # Safety
/// `pair` is 16-byte aligned and valid for reads and writes, and all accesses that race are blocks of this module.
#[inline]
pub(super) unsafe fn load_payload(pair: *mut u128) -> u64 {
    let payload: u64;
    // SAFETY: the caller vouches for the pointer; the block only reads these 8 bytes and writes its operand.
    unsafe {
        asm!("mov {out}, qword ptr [{pair}]", pair = in(reg) pair, out = lateout(reg) payload,
             options(nostack, preserves_flags));
    }
    payload
}

/// Loads the high half.
///
/// # Safety
/// As for [`load_payload`].
#[inline]
pub(super) unsafe fn load_link(pair: *mut u128) -> usize {
    let link: usize;
    // SAFETY: the caller vouches for the pointer; the block only reads these 8 bytes and writes its operand.
    unsafe {
        asm!("mov {out}, qword ptr [{pair} + {LINK}]", pair = in(reg) pair, out = lateout(reg) link,
             LINK = const LINK, options(nostack, preserves_flags));
    }
    link
}

/// Stores the low half.
///
/// # Safety
/// As for [`load_payload`], and no other thread writes the pair meanwhile.
#[inline]
pub(super) unsafe fn store_payload(pair: *mut u128, payload: u64) {
    // SAFETY: the caller vouches for the pointer and for being the only writer.
    unsafe {
        asm!("mov qword ptr [{pair}], {payload}", pair = in(reg) pair, payload = in(reg) payload,
             options(nostack, preserves_flags));
    }
}

/// Stores the high half.
///
/// # Safety
/// As for [`store_payload`].
#[inline]
pub(super) unsafe fn store_link(pair: *mut u128, link: usize) {
    // SAFETY: the caller vouches for the pointer and for being the only writer.
    unsafe {
        asm!("mov qword ptr [{pair} + {LINK}], {link}", pair = in(reg) pair, link = in(reg) link,
             LINK = const LINK, options(nostack, preserves_flags));
    }
}

/// Sets the lowest bit of the high half (the mark) and returns the half as it was.
///
/// `LOCK BTS` sets the bit and tells what it was; the other bits are read after it. That is the value before the
/// mark because a marked pair is frozen (INV-P-3): one locked instruction, and no loop.
///
/// # Safety
/// As for [`load_payload`].
#[inline]
pub(super) unsafe fn mark(pair: *mut u128) -> usize {
    let after: usize;
    let was_marked: u8;
    // SAFETY: the caller vouches for the pointer. The block touches the 8 bytes of the link, its operands and flags.
    unsafe {
        asm!(
            "lock bts qword ptr [{pair} + {LINK}], 0",
            "setc {was_marked}",
            "mov {after}, qword ptr [{pair} + {LINK}]",
            pair = in(reg) pair, was_marked = out(reg_byte) was_marked, after = lateout(reg) after,
            LINK = const LINK, options(nostack),
        );
    }
    (after & !1) | usize::from(was_marked)
}

/// Loads both halves at once: a compare-exchange from zero to zero, which changes nothing.
///
/// # Safety
/// As for [`load_payload`], and the CPU has `CMPXCHG16B`.
#[inline]
pub(super) unsafe fn load(pair: *mut u128) -> (u64, usize) {
    let (payload, link);
    // SAFETY: the caller vouches for the pointer, its alignment and the instruction. RBX is restored before the block ends
    // (RSI holds it meanwhile), and no operand can live in it, since every register is named.
    unsafe {
        asm!(
            "xchg rsi, rbx",
            "lock cmpxchg16b xmmword ptr [rdi]",
            "mov rbx, rsi",
            in("rdi") pair,
            inout("rsi") 0_u64 => _,
            in("rcx") 0_u64,
            inout("rax") 0_u64 => payload,
            inout("rdx") 0_usize => link,
            options(nostack),
        );
    }
    (payload, link)
}

/// Replaces the pair if it equals `(old_payload, old_link)`; says whether it did.
///
/// # Safety
/// As for [`load_payload`], and the CPU has `CMPXCHG16B`.
#[inline]
pub(super) unsafe fn compare_exchange(
    pair: *mut u128,
    (old_payload, old_link): (u64, usize),
    (new_payload, new_link): (u64, usize),
) -> bool {
    let equal: u64;
    // SAFETY: the caller vouches for the pointer, its alignment and the instruction. RBX is restored before the
    // block ends (RSI holds it meanwhile), and no operand can live in it, since every register is named.
    unsafe {
        asm!(
            "xchg rsi, rbx",
            "lock cmpxchg16b xmmword ptr [rdi]",
            "mov rbx, rsi",
            "sete al",
            in("rdi") pair,
            inout("rsi") new_payload => _,
            in("rcx") new_link,
            inout("rax") old_payload => equal,
            inout("rdx") old_link => _,
            options(nostack),
        );
    }
    equal & 0xff != 0
}
