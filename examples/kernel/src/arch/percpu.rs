//! What each CPU has for itself, found through its GS base while it is in the kernel.

use alloc::boxed::Box;
use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};

use pmap::{CpuId, MAX_CPUS};
use x86_64::VirtAddr;
use x86_64::registers::model_specific::{GsBase, KernelGsBase};

use crate::sched::Thread;

/// One CPU's data. `trap.s` knows the first three fields by their offsets.
#[repr(C)]
pub(crate) struct PerCpu {
    /// Where kernel code for the running thread begins when user mode is left.
    stack_top: AtomicUsize,
    /// Scratch for the system-call entry: the user's stack pointer.
    user_stack: AtomicU64,
    thread: AtomicPtr<Thread>,
    id: u32,
    apic_id: u32,
    /// Interrupts of the timer.
    pub(crate) timer_ticks: AtomicU64,
    /// Interrupts that only asked the CPU to look at something.
    pub(crate) reschedules: AtomicU64,
    /// Interrupts that asked it to serve a shootdown.
    pub(crate) shootdowns: AtomicU64,
}

const _: () = assert!(offset_of!(PerCpu, stack_top) == 0 && offset_of!(PerCpu, user_stack) == 8);

static CPUS: [AtomicPtr<PerCpu>; MAX_CPUS] = [const { AtomicPtr::new(core::ptr::null_mut()) }; MAX_CPUS];
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Notes another CPU, whose local APIC has this identifier; `stack_top` is what it begins on. `None` if there are too many.
pub(crate) fn add(apic_id: u32, stack_top: usize) -> Option<&'static PerCpu> {
    // ORD: Relaxed; only the boot CPU adds, and what it adds is published below.
    let index = COUNT.load(Ordering::Relaxed);
    let id = CpuId::new(index)?;
    let cpu = Box::leak(Box::new(PerCpu {
        stack_top: AtomicUsize::new(stack_top),
        user_stack: AtomicU64::new(0),
        thread: AtomicPtr::default(),
        id: id.index() as u32,
        apic_id,
        timer_ticks: AtomicU64::new(0),
        reschedules: AtomicU64::new(0),
        shootdowns: AtomicU64::new(0),
    }));
    // ORD: Release pairs with `cpu`.
    CPUS[index].store(cpu, Ordering::Release);
    // ORD: Release pairs with `cpu_count`.
    COUNT.store(index + 1, Ordering::Release);
    Some(cpu)
}

impl PerCpu {
    /// Makes this the data of the CPU that executes this.
    pub(crate) fn install(&'static self) {
        GsBase::write(VirtAddr::from_ptr(self));
        KernelGsBase::write(VirtAddr::zero());
    }

    /// Its identifier.
    pub(crate) fn id(&self) -> CpuId {
        CpuId::new(self.id as usize).expect("it was one when the CPU was added")
    }

    /// The identifier of its local APIC.
    pub(crate) fn apic_id(&self) -> u32 {
        self.apic_id
    }
}

/// Number of CPUs that the kernel uses.
pub(crate) fn cpu_count() -> usize {
    // ORD: Acquire pairs with `add`.
    COUNT.load(Ordering::Acquire)
}

/// The data of a CPU.
///
/// # Panics
///
/// If there is no such CPU.
pub(crate) fn cpu(id: CpuId) -> &'static PerCpu {
    // ORD: Acquire pairs with `add`.
    let cpu = CPUS[id.index()].load(Ordering::Acquire);
    // SAFETY: null, or stored by `add`, which leaked it.
    unsafe { cpu.as_ref() }.expect("the CPU was added")
}

/// The data of all CPUs.
pub(crate) fn cpus() -> impl Iterator<Item = &'static PerCpu> {
    (0..cpu_count()).filter_map(CpuId::new).map(cpu)
}

/// The CPU that executes this. Stable only while the thread cannot move.
#[inline]
pub(crate) fn current_cpu() -> CpuId {
    let id: u32;
    // SAFETY: GS is this CPU's data from its first Rust code on. Not `pure`: a thread may move in between.
    unsafe {
        asm!("mov {:e}, gs:[{}]", out(reg) id, const offset_of!(PerCpu, id), options(nostack, preserves_flags, readonly));
    };
    CpuId::new(id as usize).expect("it was one when the CPU was added")
}

/// The thread that runs on this CPU: the caller itself, so it is stable.
#[inline]
pub(crate) fn current_thread() -> *const Thread {
    let thread: *const Thread;
    // SAFETY: as above.
    unsafe {
        asm!("mov {}, gs:[{}]", out(reg) thread, const offset_of!(PerCpu, thread), options(nostack, preserves_flags, readonly));
    };
    thread
}

/// Notes which thread is about to run on this CPU, and where its kernel stack begins, if it may leave user mode.
///
/// # Safety
///
/// With interrupts disabled, just before the stack is switched to the thread's; the stack is the thread's own.
pub(crate) unsafe fn set_current_thread(thread: &'static Thread, stack_top: Option<usize>) {
    let here = cpu(current_cpu());
    // ORD: Relaxed; a CPU's own words.
    here.thread.store(core::ptr::from_ref(thread).cast_mut(), Ordering::Relaxed);
    if let Some(top) = stack_top {
        here.stack_top.store(top, Ordering::Relaxed); // ORD: as above
    }
}
