//! The timer of each local APIC: the kernel's clock.

use core::arch::x86_64::_rdtsc;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::registers::{self, Register};
use crate::arch::{pit, trap};

/// Ticks per second.
pub(crate) const FREQUENCY: u64 = 100;

/// Count down at a sixteenth of the bus clock.
const DIVIDE_BY_16: u32 = 0b0011;
const PERIODIC: u32 = 1 << 17;
const MASKED: u32 = 1 << 16;
/// How often the rate is measured. An emulator may be held up between two readings, so the least counts.
const MEASUREMENTS: usize = 5;

/// Counts per tick.
static PERIOD: AtomicU32 = AtomicU32::new(0);
/// Time-stamp counts per tick.
static TSC_PERIOD: AtomicU64 = AtomicU64::new(0);

/// Measures the timer, and the time-stamp counter, against the PC's interval timer. On the boot CPU, before [`start`] on any.
pub(crate) fn calibrate() {
    let measured = (0..MEASUREMENTS).map(|_| measure(FREQUENCY));
    let (period, tsc) = measured.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))).expect("there are measurements");
    // ORD: Relaxed; before there is another CPU.
    PERIOD.store(period.max(1), Ordering::Relaxed);
    TSC_PERIOD.store(tsc, Ordering::Relaxed); // ORD: as above
}

/// Counts of the timer and of the time-stamp counter in `1 / divisor` of a second. Stops the timer.
pub(crate) fn measure(divisor: u64) -> (u32, u64) {
    registers::write(Register::TimerDivide, DIVIDE_BY_16);
    registers::write(Register::TimerVector, MASKED);
    let begin = || {
        registers::write(Register::TimerInitial, u32::MAX);
        time_stamp()
    };
    let measured = pit::during(divisor, begin, |begun| {
        (u32::MAX - registers::read(Register::TimerCurrent), time_stamp() - begun)
    });
    registers::write(Register::TimerInitial, 0);
    measured
}

/// Starts this CPU's timer, which interrupts [`FREQUENCY`] times a second from now on.
pub(crate) fn start() {
    registers::write(Register::TimerDivide, DIVIDE_BY_16);
    registers::write(Register::TimerVector, PERIODIC | u32::from(trap::TIMER));
    registers::write(Register::TimerInitial, counts_per_tick());
}

/// Counts of the timer per tick.
pub(crate) fn counts_per_tick() -> u32 {
    // ORD: Relaxed; see `calibrate`.
    PERIOD.load(Ordering::Relaxed)
}

/// Counts of this CPU's running timer during so many time stamps. `None` if it began anew meanwhile.
pub(crate) fn counts_during(time_stamps: u64) -> Option<u32> {
    let end = time_stamp() + time_stamps;
    let before = registers::read(Register::TimerCurrent);
    while time_stamp() < end {}
    before.checked_sub(registers::read(Register::TimerCurrent))
}

/// Stops this CPU's timer.
pub(crate) fn stop() {
    registers::write(Register::TimerInitial, 0);
}

/// Time-stamp counts per tick.
pub(crate) fn time_stamps_per_tick() -> u64 {
    // ORD: Relaxed; see `calibrate`.
    TSC_PERIOD.load(Ordering::Relaxed)
}

/// The time-stamp counter.
pub(crate) fn time_stamp() -> u64 {
    // SAFETY: every processor with long mode has it.
    unsafe { _rdtsc() }
}
