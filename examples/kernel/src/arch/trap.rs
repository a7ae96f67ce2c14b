//! Exceptions, interrupts and system calls, from `trap.s` to whoever handles them.

use core::arch::global_asm;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use pmap::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::registers::rflags::RFlags;
use x86_64::structures::idt::PageFaultErrorCode;

use super::descriptors::{KERNEL_CODE, USER_CODE, USER_DATA};
use super::{apic, percpu, probe};
use crate::events;

global_asm!(include_str!("trap.s"), options(att_syntax));

/// Non-maskable interrupt.
pub(crate) const NON_MASKABLE: usize = 2;
/// Double fault.
pub(crate) const DOUBLE_FAULT: usize = 8;
/// Machine check.
pub(crate) const MACHINE_CHECK: usize = 18;
const GENERAL_PROTECTION: u64 = 13;
const PAGE_FAULT: u64 = 14;

/// The local APIC's timer.
pub(crate) const TIMER: u8 = 0x20;
/// Another CPU asks this one to look whether a thread should run.
pub(crate) const RESCHEDULE: u8 = 0x21;
/// Another CPU asks this one to drop translations.
pub(crate) const SHOOTDOWN: u8 = 0x22;
/// The local APIC reports that an interrupt has vanished.
pub(crate) const SPURIOUS: u8 = 0xff;
/// Not a vector: the frame is that of a system call.
const SYSTEM_CALL: u64 = 256;

/// What was interrupted, as `trap.s` stores it.
#[derive(Clone)]
#[repr(C, align(16))]
pub(crate) struct TrapFrame {
    fx: [u8; 512],
    pub(crate) r15: u64,
    pub(crate) r14: u64,
    pub(crate) r13: u64,
    pub(crate) r12: u64,
    pub(crate) rbp: u64,
    pub(crate) rbx: u64,
    pub(crate) r11: u64,
    pub(crate) r10: u64,
    pub(crate) r9: u64,
    pub(crate) r8: u64,
    pub(crate) rdi: u64,
    pub(crate) rsi: u64,
    pub(crate) rdx: u64,
    pub(crate) rcx: u64,
    pub(crate) rax: u64,
    /// Why the kernel was entered: a vector, or 256 for a system call.
    pub(crate) vector: u64,
    /// The processor's error code; 0 where it has none.
    pub(crate) error_code: u64,
    pub(crate) rip: u64,
    pub(crate) cs: u64,
    pub(crate) rflags: u64,
    pub(crate) rsp: u64,
    pub(crate) ss: u64,
}

const _: () = assert!(size_of::<TrapFrame>() == 512 + 22 * 8);

impl TrapFrame {
    /// The beginning of a user program at `entry` with `stack` as its stack pointer.
    pub(crate) fn user(entry: u64, stack: u64) -> Self {
        let mut fx = [0; 512];
        // Control word and MXCSR after reset: all exceptions masked.
        fx[0..2].copy_from_slice(&0x37f_u16.to_le_bytes());
        fx[24..28].copy_from_slice(&0x1f80_u32.to_le_bytes());
        let (vector, error_code, rflags) = (0, 0, RFlags::INTERRUPT_FLAG.bits() | 1 << 1);
        let (cs, ss) = (u64::from(USER_CODE), u64::from(USER_DATA));
        let [r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rdi, rsi, rdx, rcx, rax] = [0; 15];
        Self {
            fx,
            r15,
            r14,
            r13,
            r12,
            rbp,
            rbx,
            r11,
            r10,
            r9,
            r8,
            rdi,
            rsi,
            rdx,
            rcx,
            rax,
            vector,
            error_code,
            rip: entry,
            cs,
            rflags,
            rsp: stack,
            ss,
        }
    }

    /// Whether user mode was interrupted.
    pub(crate) fn is_user(&self) -> bool {
        self.cs != u64::from(KERNEL_CODE)
    }
}

unsafe extern "C" {
    static trap_stubs: u8;
    static syscall_entry: u8;
    static clear_ac: AtomicBool;
    /// Goes on with a frame.
    pub(super) fn trap_enter(frame: *const TrapFrame) -> !;
}

/// Address of the stub of a vector.
pub(super) fn stub_address(vector: usize) -> u64 {
    (&raw const trap_stubs) as u64 + 16 * vector as u64
}

/// Where SYSCALL goes.
pub(super) fn syscall_entry_address() -> u64 {
    (&raw const syscall_entry) as u64
}

/// Whether entries into the kernel clear the flag AC, as SMAP demands.
pub(super) fn clear_ac_on_entry(clear: bool) {
    // SAFETY: a byte of `trap.s` that is 0 or 1.
    // ORD: Relaxed; the same on every CPU, and set before the first entry that matters.
    unsafe { clear_ac.store(clear, Ordering::Relaxed) };
}

/// Called by `trap.s` with interrupts off; returns with interrupts off.
#[unsafe(no_mangle)]
extern "C" fn trap_dispatch(frame: &mut TrapFrame) {
    match frame.vector {
        PAGE_FAULT => {
            let address = Cr2::read_raw();
            if !probe::recover(frame) {
                events::page_fault(frame, address);
            }
        }
        SYSTEM_CALL if has_run_off(frame) => run_off(frame),
        SYSTEM_CALL => events::system_call(frame),
        vector if vector < 32 => {
            if !probe::recover(frame) {
                events::exception(frame);
            }
        }
        vector => {
            interrupt(vector as u8);
            if has_run_off(frame) {
                run_off(frame);
            }
        }
    }
    events::before_return(frame);
}

/// Whether the last user instruction was the last one of the user half. Going back to behind it is not possible: SYSRET and IRETQ would fault
/// in the kernel, and after SWAPGS.
fn has_run_off(frame: &TrapFrame) -> bool {
    frame.is_user() && !VirtAddr(frame.rip).is_user()
}

/// Ends a program for the exception that it would have met next.
fn run_off(frame: &mut TrapFrame) {
    frame.vector = GENERAL_PROTECTION;
    events::exception(frame);
}

/// An interrupt of the local APIC.
fn interrupt(vector: u8) {
    let here = percpu::cpu(percpu::current_cpu());
    let count = |counter: &AtomicU64| {
        // ORD: Relaxed; counts order nothing.
        counter.fetch_add(1, Ordering::Relaxed);
    };
    match vector {
        TIMER => {
            count(&here.timer_ticks);
            apic::end_of_interrupt();
            events::tick();
        }
        RESCHEDULE => {
            count(&here.reschedules);
            apic::end_of_interrupt();
        }
        SHOOTDOWN => {
            count(&here.shootdowns);
            apic::end_of_interrupt();
            events::shootdown();
        }
        SPURIOUS => {}
        other => panic!("an interrupt at vector {other:#x}, which nobody has asked for"),
    }
}

/// Called by `trap.s` for what nothing survives, on a stack of its own.
#[unsafe(no_mangle)]
extern "C" fn trap_fatal(frame: &TrapFrame) -> ! {
    let what = match frame.vector as usize {
        NON_MASKABLE => "non-maskable interrupt",
        DOUBLE_FAULT => "double fault",
        _ => "machine check",
    };
    panic!(
        "{what} at {:#x}, stack pointer {:#x}, last page fault at {:#x}",
        frame.rip,
        frame.rsp,
        Cr2::read_raw()
    );
}

/// The kernel's own mistake: nothing is left but to say so.
pub(crate) fn report(frame: &TrapFrame) -> ! {
    let mode = if frame.is_user() { "user mode" } else { "the kernel" };
    if frame.vector == PAGE_FAULT {
        let cause = PageFaultErrorCode::from_bits_truncate(frame.error_code);
        let address = Cr2::read_raw();
        panic!(
            "page fault in {mode} at {:#x} for address {address:#x}, {cause:?}, stack {:#x}",
            frame.rip, frame.rsp
        );
    }
    panic!("exception {} in {mode} at {:#x}, error code {:#x}", frame.vector, frame.rip, frame.error_code);
}
