//! CPUs, the interrupts between them, their timers, and switching.

use alloc::format;
use alloc::vec::Vec;
use core::cell::UnsafeCell;
use core::hint::spin_loop;
use core::sync::atomic::{AtomicU64, Ordering};

use pmap::CpuId;

use crate::arch::apic::{self, timer};
use crate::arch::percpu::{self, PerCpu};
use crate::arch::{context, interrupts, smp, undisturbed};
use crate::programs::report::Report;
use crate::sched;

/// Ticks within which an emulated CPU surely does something.
const SOON: u64 = 200;
/// Interrupts to each CPU.
const ROUNDS: u64 = 100;

/// Waits until it is so; gives up in time.
fn until(condition: impl Fn() -> bool) -> bool {
    let end = timer::time_stamp() + SOON * timer::time_stamps_per_tick();
    while !condition() && timer::time_stamp() < end {
        spin_loop();
    }
    condition()
}

fn count(counter: &AtomicU64) -> u64 {
    // ORD: Relaxed; counts order nothing.
    counter.load(Ordering::Relaxed)
}

/// Every CPU runs Rust.
pub(super) fn arrived(report: &mut Report) {
    let (arrived, known) = (smp::arrived(), percpu::cpu_count());
    report.check("every CPU has arrived", arrived == known, || format!("{arrived} of {known}"));
    let numbered = percpu::cpus().enumerate().all(|(index, cpu)| cpu.id().index() == index);
    report.check("CPUs are numbered", numbered, || "one has another number".into());
    report.figure("x2apic", apic::interface() == apic::Interface::X2apic);
}

/// Interrupts to each other CPU come, one for one.
pub(super) fn interrupts(report: &mut Report) {
    let here = percpu::current_cpu();
    for cpu in percpu::cpus().filter(|cpu| cpu.id() != here) {
        let number = cpu.id().index();
        round_trips(
            report,
            &format!("CPU {number} gets shootdowns"),
            cpu,
            apic::send_shootdown,
            &cpu.shootdowns,
        );
        round_trips(
            report,
            &format!("CPU {number} gets rescheduled"),
            cpu,
            apic::send_reschedule,
            &cpu.reschedules,
        );
    }
}

fn round_trips(report: &mut Report, name: &str, cpu: &PerCpu, send: fn(CpuId), counter: &AtomicU64) {
    let before = count(counter);
    let answered = (1..=ROUNDS).take_while(|round| {
        send(cpu.id());
        until(|| count(counter) >= before + round)
    });
    let answered = answered.count() as u64;
    report.check(name, answered == ROUNDS, || format!("{answered} of {ROUNDS}"));
}

/// Interrupts leave red zone and registers as they were; a gate that does not is noticed.
pub(super) fn undisturbed(report: &mut Report) {
    let (taken, changed) = sched::without_preemption(|| {
        let here = percpu::cpu(percpu::current_cpu());
        let before = count(&here.reschedules);
        let changed: u32 = (0..ROUNDS)
            .map(|_| {
                interrupts::without(|| {
                    apic::send_reschedule(here.id());
                    undisturbed::take_interrupts()
                })
            })
            .sum();
        (count(&here.reschedules) - before, changed)
    });
    report.check("interrupts came where they show", taken >= ROUNDS, || format!("{taken} of {ROUNDS}"));
    report.check("they leave red zone and registers", changed == 0, || format!("{changed} words changed"));
    let noticed = undisturbed::enter_bare_gate();
    report.check("a gate that does not is noticed", noticed > 1, || format!("{noticed} words changed"));
}

/// Every CPU's timer ticks, about as often as the boot CPU's, which is the clock. An emulator that waits for a real CPU
/// loses ticks, so the best of several tries counts.
pub(super) fn ticks(report: &mut Report) {
    const TICKS: u64 = 20;
    const TRIES: usize = 5;
    let mut most = alloc::vec![0; percpu::cpu_count()];
    for _ in 0..TRIES {
        let begin: Vec<u64> = percpu::cpus().map(|cpu| count(&cpu.timer_ticks)).collect();
        sched::sleep(TICKS);
        for ((cpu, begin), most) in percpu::cpus().zip(begin).zip(&mut most) {
            *most = (count(&cpu.timer_ticks) - begin).max(*most);
        }
        if most.iter().all(|ticks| *ticks >= TICKS / 2) {
            break;
        }
    }
    for (index, ticks) in most.into_iter().enumerate() {
        let is_right = (TICKS / 2..=TICKS * 2).contains(&ticks);
        report
            .check(&format!("CPU {index}'s timer ticks"), is_right, || format!("{ticks} ticks for {TICKS}"));
    }
}

/// The timer counts as fast as was measured at boot, against the time-stamp counter. Whoever is held up between two readings
/// is so for once, hence the best of several tries.
pub(super) fn rate(report: &mut Report) {
    const TRIES: usize = 1000;
    let expected = u64::from(timer::counts_per_tick());
    let mut best = u64::MAX;
    for _ in 0..TRIES {
        let counted = sched::without_preemption(|| timer::counts_during(timer::time_stamps_per_tick() / 50));
        // A reading in which the timer began anew is none.
        let error = counted.map_or(u64::MAX, |counts| (u64::from(counts) * 50).abs_diff(expected));
        best = best.min(error);
        if best <= expected / 20 {
            break;
        }
    }
    report.check("the timer's rate", best <= expected / 20, || format!("off by {best} of {expected}"));
    report.figure("timer_counts_per_tick", expected);
    report.figure("time_stamps_per_tick", timer::time_stamps_per_tick());
}

/// Where two contexts leave their stack pointers, and what they did.
struct Pair {
    here: UnsafeCell<usize>,
    there: UnsafeCell<usize>,
    steps: AtomicU64,
}

// SAFETY: used by one CPU, with interrupts off.
unsafe impl Sync for Pair {}

static PAIR: Pair = Pair { here: UnsafeCell::new(0), there: UnsafeCell::new(0), steps: AtomicU64::new(0) };

extern "C" fn other() -> ! {
    loop {
        PAIR.steps.fetch_add(1, Ordering::Relaxed); // ORD: one CPU
        // SAFETY: interrupts are off, and `contexts` has stored where it is.
        unsafe { context::switch(PAIR.there.get(), *PAIR.here.get()) };
    }
}

/// Going to another stack and back, again and again.
pub(super) fn contexts(report: &mut Report) {
    const SWITCHES: u64 = 1000;
    let stack = alloc::boxed::Box::leak(alloc::boxed::Box::<[u128; 1024]>::new_uninit());
    let top = stack.as_ptr() as usize + size_of_val(stack);
    interrupts::without(|| {
        // SAFETY: the stack is new, and interrupts are off.
        unsafe { *PAIR.there.get() = context::prepare(top, other) };
        for _ in 0..SWITCHES {
            // SAFETY: the other context has stored where it is, or is prepared.
            unsafe { context::switch(PAIR.here.get(), *PAIR.there.get()) };
        }
    });
    let steps = count(&PAIR.steps);
    report.check("contexts switch", steps == SWITCHES, || format!("{steps} of {SWITCHES} times"));
}
