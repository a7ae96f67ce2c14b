//! What every CPU has enabled. Nothing that CPUID does not offer: [`pmap::bare`] says why.

use pmap::bare::{CpuFeatures, Cr4Flags, EferFlags, Features, write_cr4, write_efer};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{LStar, SFMask, Star};
use x86_64::registers::rflags::RFlags;

use super::descriptors::{KERNEL_CODE, USER_CODE};
use super::trap;

/// Lets page tables have the no-execute bit, if the processor knows it.
pub(crate) fn enable_no_execute() {
    let features = CpuFeatures::current();
    let wanted = EferFlags::NO_EXECUTE_ENABLE & features.efer();
    // SAFETY: in ring 0, of this CPU's features; it adds a meaning to a bit that no table in use has set.
    unsafe { write_efer(&features, wanted, EferFlags::empty()) }.expect("only what is offered is wanted");
}

/// Enables the rest on this CPU, which runs on the kernel's tables.
pub(crate) fn enable() {
    // FSGSBASE is left out: user programs could then set a GS base, which would have to be switched with them.
    let wanted = Cr4Flags::PAGE_GLOBAL
        | Cr4Flags::MACHINE_CHECK_EXCEPTION
        | Cr4Flags::SUPERVISOR_MODE_EXECUTION_PROTECTION
        | Cr4Flags::SUPERVISOR_MODE_ACCESS_PREVENTION
        | Cr4Flags::USER_MODE_INSTRUCTION_PREVENTION
        | Cr4Flags::PCID;
    let features = CpuFeatures::current();
    let no = EferFlags::empty();
    // SAFETY: in ring 0, of this CPU's features. CR3 holds no PCID yet, and no user page is mapped.
    unsafe { write_cr4(&features, wanted & features.cr4(), Cr4Flags::empty()) }
        .expect("only what is offered is wanted");
    // SAFETY: in ring 0, of this CPU's features; the registers for it are set below, before user mode is entered.
    unsafe { write_efer(&features, EferFlags::SYSTEM_CALL_EXTENSIONS & features.efer(), no) }
        .expect("only what is offered is wanted");
    trap::clear_ac_on_entry(features.has(Features::SMAP));
    // SYSRET takes its code segment 16 above this, its stack segment 8 above.
    // SAFETY: the descriptors are in the order that the instructions expect.
    unsafe { Star::write_raw(USER_CODE - 16, KERNEL_CODE) };
    LStar::write(VirtAddr::new(trap::syscall_entry_address()));
    // What user mode must not choose for the kernel: NT, too, with which IRETQ faults.
    SFMask::write(
        RFlags::INTERRUPT_FLAG
            | RFlags::DIRECTION_FLAG
            | RFlags::ALIGNMENT_CHECK
            | RFlags::TRAP_FLAG
            | RFlags::NESTED_TASK,
    );
}
