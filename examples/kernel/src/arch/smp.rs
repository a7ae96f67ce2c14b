//! Other CPUs: from reset to Rust.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::apic::{self, timer};
use super::percpu::{self, PerCpu};
use super::{cpu, descriptors};
use crate::memory::{layout, tables};

/// Where they begin; `entry.s` knows it, too.
const TRAMPOLINE: u64 = 0x8000;
/// Bytes of the stack on which a CPU begins and is idle.
const STACK: usize = 64 * 1024;
/// How long a CPU may take, in ticks of the timer: emulated CPUs that share a real one are slow.
const PATIENCE: u64 = 500;

unsafe extern "C" {
    static ap_trampoline: u8;
    static ap_trampoline_end: u8;
    static ap_stack: AtomicU64;
    static ap_cpu: AtomicU64;
}

/// CPUs that have arrived in Rust.
static ARRIVED: AtomicUsize = AtomicUsize::new(1);

/// Starts the CPUs whose local APICs have these identifiers, and waits until each runs on the kernel's tables. This
/// CPU's own is left out.
///
/// # Panics
///
/// If one does not come.
pub(crate) fn start(apic_ids: &[u32]) {
    let here = apic::id();
    let (from, end) = (&raw const ap_trampoline, &raw const ap_trampoline_end);
    // SAFETY: `memory` keeps the page free for this; the trampoline is shorter than it.
    unsafe { layout::direct_map(TRAMPOLINE).copy_from_nonoverlapping(from, end.addr() - from.addr()) };
    let mut others = Vec::new();
    for &apic_id in apic_ids.iter().filter(|id| **id != here) {
        let stack = Box::leak(Box::<[u128; STACK / 16]>::new_uninit()).as_ptr() as usize + STACK;
        let Some(cpu) = percpu::add(apic_id, stack) else { break };
        apic::send_init(apic_id);
        others.push((cpu, stack));
    }
    // 10 ms, as the manual asks for.
    let end = timer::time_stamp() + timer::time_stamps_per_tick();
    while timer::time_stamp() < end {}
    others.into_iter().for_each(|(cpu, stack)| start_one(cpu, stack));
}

fn start_one(cpu: &'static PerCpu, stack: usize) {
    // ORD: Relaxed; the CPU reads these after STARTUP, which it gets from us.
    let before = ARRIVED.load(Ordering::Relaxed);
    // SAFETY: words of `entry.s`.
    unsafe {
        ap_stack.store(stack as u64, Ordering::Relaxed); // ORD: as above
        ap_cpu.store(core::ptr::from_ref(cpu).expose_provenance() as u64, Ordering::Relaxed); // ORD: as above
    }
    for patience in [1, PATIENCE] {
        apic::send_startup(cpu.apic_id(), TRAMPOLINE);
        let end = timer::time_stamp() + patience * timer::time_stamps_per_tick();
        while timer::time_stamp() < end {
            // ORD: Acquire pairs with `ap_main`.
            if ARRIVED.load(Ordering::Acquire) > before {
                return;
            }
            spin_loop();
        }
    }
    panic!("the CPU with local APIC {} does not start", cpu.apic_id());
}

/// Another CPU's beginning in Rust: called by `entry.s` on the stack and with the data that [`start_one`] chose, on the temporary tables.
#[unsafe(no_mangle)]
extern "C" fn ap_main(this: &'static PerCpu) -> ! {
    // SAFETY: code, data and stack are in the image or in RAM.
    unsafe { tables::load() };
    init_cpu(this);
    timer::start();
    // ORD: Release pairs with `start_one`: this CPU uses its stack and the words of `entry.s` no more.
    ARRIVED.fetch_add(1, Ordering::Release);
    crate::run_cpu()
}

/// Sets up the CPU that executes this, on the kernel's tables.
pub(crate) fn init_cpu(this: &'static PerCpu) {
    descriptors::load();
    this.install();
    cpu::enable();
    apic::init_cpu();
}

/// How many CPUs have arrived in Rust, this one included.
pub(crate) fn arrived() -> usize {
    // ORD: Acquire pairs with `ap_main`.
    ARRIVED.load(Ordering::Acquire)
}
