//! Instructions by the time-stamp counter, where that counts them.
//!
//! Under QEMU's `-icount` and under Bochs the counter advances with executed instructions, those of all CPUs together, so what a measurement gives
//! is a count, and the same in every run. How many counts an instruction has is measured by a loop whose length is known.

use alloc::vec::Vec;
use core::arch::asm;

use serde::Serialize;

use crate::arch::apic::timer::time_stamp;
use crate::arch::serial::println;
use crate::machine::System;

/// Rounds of the loop that is counted; two instructions each.
const LOOP: u64 = 1_000_000;
/// How often something is measured, after a first time that does not count.
const ROUNDS: u64 = 8;

/// What something took, on average.
#[derive(Clone, Serialize)]
pub(super) struct Row {
    pub(super) what: &'static str,
    /// Pages that it was done to, or times that it was done.
    pub(super) pages: u64,
    /// Other CPUs that had the address space loaded.
    pub(super) targets: u64,
    /// Counts of the time-stamp counter.
    pub(super) ticks: u64,
    /// Instructions, of all CPUs.
    pub(super) instructions: u64,
    /// Interrupts sent for shootdowns.
    pub(super) ipis: u64,
}

/// Measures, and keeps what was measured.
pub(super) struct Meter {
    system: &'static System,
    /// Counts per thousand instructions.
    pub(super) per_thousand: u64,
    /// Whether two measurements of the same loop gave the same.
    pub(super) counts_instructions: bool,
    /// Counts of a measurement of nothing.
    overhead: u64,
    pub(super) rows: Vec<Row>,
}

impl Meter {
    /// Finds out what the counter counts.
    pub(super) fn calibrate(system: &'static System) -> Self {
        let nothing = || between(|| {});
        let overhead = nothing().min(nothing());
        let counted = || between(count_down).saturating_sub(overhead);
        let (first, second) = (counted(), counted());
        let per_thousand = first.min(second) * 1000 / (2 * LOOP);
        println!("  {per_thousand} ticks are 1000 instructions");
        println!(
            "  {:<32} {:>5} {:>7} {:>10} {:>12} {:>9} {:>5}",
            "what", "pages", "targets", "ticks", "instructions", "per page", "IPIs"
        );
        Self { system, per_thousand, counts_instructions: first == second, overhead, rows: Vec::new() }
    }

    /// Instructions in which the counter advances so far.
    fn instructions(&self, ticks: u64) -> u64 {
        (ticks * 1000).checked_div(self.per_thousand).unwrap_or(0)
    }

    /// Does something several times and notes what it took, without what comes before and after each time. Returns the interrupts of all
    /// those times, and how many times.
    pub(super) fn measure(
        &mut self,
        what: &'static str,
        (pages, targets): (u64, u64),
        mut prepare: impl FnMut(),
        mut measured: impl FnMut(),
        mut undo: impl FnMut(),
    ) -> (u64, u64) {
        let (mut ticks, mut ipis) = (0, 0);
        for round in 0..=ROUNDS {
            prepare();
            let before = self.system.statistics().shootdown_ipis;
            let took = between(&mut measured).saturating_sub(self.overhead);
            let sent = self.system.statistics().shootdown_ipis - before;
            undo();
            // The first time makes tables and chunks that stay.
            if round > 0 {
                ticks += took;
                ipis += sent;
            }
        }
        self.note(what, (pages, targets), ticks.div_ceil(ROUNDS), ipis.div_ceil(ROUNDS));
        (ipis, ROUNDS)
    }

    /// Notes something that was measured elsewhere.
    pub(super) fn note(&mut self, what: &'static str, (pages, targets): (u64, u64), ticks: u64, ipis: u64) {
        let instructions = self.instructions(ticks);
        let each = instructions.checked_div(pages).unwrap_or(0);
        println!("  {what:<32} {pages:>5} {targets:>7} {ticks:>10} {instructions:>12} {each:>9} {ipis:>5}");
        self.rows.push(Row { what, pages, targets, ticks, instructions, ipis });
    }
}

/// Counts from before to after.
fn between(f: impl FnOnce()) -> u64 {
    let begin = time_stamp();
    f();
    time_stamp() - begin
}

/// Exactly `2 * LOOP` instructions, and a few around them.
fn count_down() {
    // SAFETY: counts a register down.
    unsafe {
        asm!("2: dec {0}", "jnz 2b", inout(reg) LOOP => _, options(nomem, nostack));
    }
}
