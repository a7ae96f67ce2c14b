//! The interval timer and the interrupt controller of the first PC. The kernel uses neither for long: the one
//! to measure the local APIC's timer with, the other is kept quiet.

use core::hint::spin_loop;

use x86_64::instructions::port::Port;

/// Oscillations per second.
const FREQUENCY: u64 = 1_193_182;
const COUNTER_2: u16 = 0x42;
const MODE: u16 = 0x43;
/// Counter 2, two bytes, mode 0: the output rises when the count has run out.
const ONE_SHOT: u8 = 0b1011_0000;
const GATE: u16 = 0x61;
const GATE_ON: u8 = 1 << 0;
const SPEAKER_ON: u8 = 1 << 1;
const OUTPUT: u8 = 1 << 5;

/// Masks of the two interrupt controllers.
const MASKS: [u16; 2] = [0x21, 0xa1];

/// Masks all interrupts of the old controllers. Firmware leaves some on, at vectors that are exceptions now.
pub(crate) fn mask_interrupts() {
    for port in MASKS {
        // SAFETY: a PC has its interrupt controllers there, and nobody uses them.
        unsafe { Port::<u8>::new(port).write(0xff) };
    }
}

/// Runs `begin`, waits for `1 / divisor` of a second or, if the processor is held up, longer, and runs `end`. `divisor` is at least 19.
pub(crate) fn during<T, R>(divisor: u64, begin: impl FnOnce() -> T, end: impl FnOnce(T) -> R) -> R {
    let count = (FREQUENCY / divisor) as u16;
    let [low, high] = count.to_le_bytes();
    let (mut gate, mut mode, mut counter) = (Port::<u8>::new(GATE), Port::new(MODE), Port::new(COUNTER_2));
    // SAFETY: a PC has its timer there, and nobody else uses counter 2.
    let begun = unsafe {
        let quiet = gate.read() & !SPEAKER_ON;
        gate.write(quiet & !GATE_ON);
        mode.write(ONE_SHOT);
        counter.write(low);
        counter.write(high);
        // Before the gate, so that a delay in between makes what is measured longer, never shorter.
        let begun = begin();
        gate.write(quiet | GATE_ON);
        begun
    };
    // SAFETY: as above.
    while unsafe { gate.read() } & OUTPUT == 0 {
        spin_loop();
    }
    end(begun)
}
