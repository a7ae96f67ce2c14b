//! The instructions, one function each. What they drop is said in [`crate::Machine`]'s documentation of the function of the
//! same purpose, and on the current CPU only, but for INVLPGB.
//!
//! All need ring 0 and fault elsewhere. `asm!` without `nomem` orders them against the page-table stores before and the accesses
//! after them as far as the compiler goes; the processor orders them itself (Intel SDM vol. 3, 8.3: serializing, or a fence for loads),
//! but for INVLPGB: what it has to do is done when a TLBSYNC after it is.

use core::arch::asm;

use x86_64::instructions::interrupts::without_interrupts;
use x86_64::registers::control::{Cr4, Cr4Flags};

use crate::addr::VirtAddr;
use crate::translation::{Cr3, Invlpgb, Invpcid, Stride};

/// CR3.
#[must_use]
pub fn read_cr3() -> Cr3 {
    let bits: u64;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, cr3", out(reg) bits, options(nostack, preserves_flags)) };
    Cr3::from_bits(bits)
}

/// MOV to CR3.
///
/// # Safety
///
/// The root is valid and maps whatever the CPU executes and touches. PCID and no-flush bit are used only with CR4.PCIDE set,
/// and the no-flush bit only if what is cached under the PCID is still true.
#[inline]
pub unsafe fn load_cr3(cr3: Cr3) {
    // SAFETY: the caller's promise.
    unsafe { asm!("mov cr3, {}", in(reg) cr3.bits(), options(nostack, preserves_flags)) };
}

/// INVLPG. An address that is not canonical does nothing.
#[inline]
pub fn invlpg(va: VirtAddr) {
    // SAFETY: drops what is cached; nothing relies on a translation being cached. The operand is not accessed.
    unsafe { asm!("invlpg [{}]", in(reg) va.0, options(nostack, preserves_flags)) };
}

/// The operand of INVPCID.
#[repr(C, align(16))]
struct InvpcidDescriptor {
    pcid: u64,
    address: u64,
}

/// INVPCID.
///
/// # Safety
///
/// The processor has it. A PCID other than 0 is named only with CR4.PCIDE set, and an address is canonical.
#[inline]
pub unsafe fn invpcid(what: Invpcid) {
    let (kind, pcid, address) = match what {
        Invpcid::Address { pcid, va } => (0_u64, pcid.get(), va.0),
        Invpcid::Context { pcid } => (1, pcid.get(), 0),
        Invpcid::AllWithGlobals => (2, 0, 0),
        Invpcid::AllButGlobals => (3, 0, 0),
    };
    let descriptor = InvpcidDescriptor { pcid: pcid.into(), address };
    // SAFETY: the descriptor is 16 bytes whose reserved bits are clear; the rest is the caller's promise.
    unsafe {
        asm!("invpcid {}, [{}]", in(reg) kind, in(reg) &raw const descriptor, options(nostack, preserves_flags))
    };
}

/// RAX, ECX and EDX of an INVLPGB (AMD APM vol. 3). No address-space number is named, so that guests' translations of the same
/// kind go, too.
pub(super) fn invlpgb_operands(what: Invlpgb) -> (u64, u32, u32) {
    const VA_VALID: u64 = 1;
    const PCID_VALID: u64 = 1 << 1;
    const GLOBALS: u64 = 1 << 3;
    let mut rax = what.va.map_or(0, |va| va.page().0 | VA_VALID);
    rax |= what.pcid.map_or(0, |_| PCID_VALID);
    if what.globals {
        rax |= GLOBALS;
    }
    let stride = u32::from(what.stride == Stride::LargePage) << 31;
    (rax, u32::from(what.more) | stride, what.pcid.map_or(0, |pcid| u32::from(pcid.get()) << 16))
}

/// INVLPGB.
///
/// # Safety
///
/// The processor has it, and can name so many pages. A PCID is named only with CR4.PCIDE set.
#[inline]
pub unsafe fn invlpgb(what: Invlpgb) {
    let (rax, ecx, edx) = invlpgb_operands(what);
    // SAFETY: the caller's promise.
    unsafe {
        asm!("invlpgb", in("rax") rax, in("ecx") ecx, in("edx") edx, options(nostack, preserves_flags))
    };
}

/// TLBSYNC.
///
/// # Safety
///
/// The processor has it.
#[inline]
pub unsafe fn tlbsync() {
    // SAFETY: the caller's promise; it waits and changes nothing.
    unsafe { asm!("tlbsync", options(nostack, preserves_flags)) };
}

/// Changes CR4.PGE and changes it back, with interrupts off: what an interrupt handler did to CR4 in between would be lost. Either
/// change drops everything, under every PCID, with global translations (Intel SDM vol. 3, 4.10.4.1).
///
/// # Safety
///
/// The processor has global translations.
pub unsafe fn toggle_global_pages() {
    without_interrupts(|| {
        let before = Cr4::read_raw();
        // SAFETY: the bit exists, by the caller's promise. Whether translations are global changes nothing that they say.
        unsafe {
            Cr4::write_raw(before ^ Cr4Flags::PAGE_GLOBAL.bits());
            Cr4::write_raw(before);
        }
    });
}

/// Loads CR3 with what is in it. Drops everything only where there are neither global translations nor PCIDs.
pub fn reload_cr3() {
    // SAFETY: the tables in use are valid; the no-flush bit reads as 0.
    without_interrupts(|| unsafe { load_cr3(read_cr3()) });
}
