//! A CPU that waits for another one, as the initiator of a shootdown does for its targets.
//!
//! It spins for a moment, for others mostly answer at once, and then halts until it is woken or an interrupt comes. Where CPUs are
//! emulated and share a real one, a CPU that spins keeps from running the very one that it waits for.

use core::sync::atomic::{AtomicU8, Ordering};

use pmap::{CpuId, MAX_CPUS};
use x86_64::instructions::interrupts;

use crate::arch::{apic, percpu};
use crate::sched;

/// It runs.
const RUNS: u8 = 0;
/// It halts, or is about to, and is to be interrupted when it is woken.
const HALTS: u8 = 1;
/// It was woken, and has not seen it yet.
const WOKEN: u8 = 2;

/// How often it looks before it halts.
const SPINS: u32 = 100;

static CPUS: [AtomicU8; MAX_CPUS] = [const { AtomicU8::new(RUNS) }; MAX_CPUS];

/// Lets a moment pass, until the CPU is woken or interrupted at the latest. The caller, who has just seen that what it waits for is not true yet, looks
/// again after it; whoever makes it true wakes the CPU afterwards.
pub(super) fn relax() {
    if !interrupts::are_enabled() || !sched::is_pinned() {
        // With interrupts off the caller serves requests itself; a thread that may move has no CPU to halt.
        return core::hint::spin_loop();
    }
    let state = &CPUS[percpu::current_cpu().index()];
    for _ in 0..SPINS {
        // ORD: Acquire pairs with the AcqRel in `wake`: the caller sees what was done before.
        if state.load(Ordering::Acquire) == WOKEN {
            break;
        }
        core::hint::spin_loop();
    }
    interrupts::disable();
    // ORD: AcqRel and Acquire pair with the AcqRel in `wake`, whichever comes first: it is noticed here, or sees that it must interrupt.
    if state.compare_exchange(RUNS, HALTS, Ordering::AcqRel, Ordering::Acquire).is_ok() {
        // The interrupt that comes in between is taken after the halt has begun.
        interrupts::enable_and_hlt();
    } else {
        interrupts::enable();
    }
    // ORD: Acquire, as above. A wake-up that is overwritten here has served: the caller looks again.
    state.swap(RUNS, Ordering::Acquire);
}

/// Has a CPU that waits look again.
pub(super) fn wake(cpu: CpuId) {
    // ORD: AcqRel pairs with the accesses in `relax`.
    if CPUS[cpu.index()].swap(WOKEN, Ordering::AcqRel) == HALTS {
        apic::send_reschedule(cpu);
    }
}
