//! Making, removing and restricting mappings, alone and with other CPUs to be told.

use alloc::format;
use alloc::string::String;

use pmap::Protection;

use super::Choices;
use super::meter::Meter;
use super::stage::{MOST_PAGES, Others, READ_WRITE, Stage};
use crate::arch::percpu;
use crate::machine::System;
use crate::programs::report::Report;

/// Pages of one call.
const SIZES: [u64; 3] = [1, 16, MOST_PAGES];
/// Other CPUs that have the address space loaded.
const TARGETS: [usize; 4] = [0, 1, 3, 7];

/// Measures all of it.
///
/// # Errors
///
/// What is missing, in a sentence.
pub(super) fn measure(
    meter: &mut Meter,
    report: &mut Report,
    system: &'static System,
    choices: Choices,
) -> Result<(), String> {
    let stage = Stage::new(system, MOST_PAGES)?;
    stage.load();
    making(meter, report, &stage);
    stage.end();
    for targets in TARGETS.into_iter().filter(|targets| *targets < percpu::cpu_count()) {
        for others in [Others::Halt, Others::Spin] {
            // Nobody is there to halt or to spin.
            if targets == 0 && others == Others::Spin {
                continue;
            }
            let mut stage = Stage::new(system, MOST_PAGES)?;
            stage.load();
            stage.load_elsewhere(targets, others);
            for pages in SIZES {
                taking(meter, report, &stage, others, pages, choices);
            }
            stage.end();
        }
    }
    Ok(())
}

/// `enter`, `enter_quick` and `enter_object`, the tables being there.
fn making(meter: &mut Meter, report: &mut Report, stage: &Stage) {
    let space = stage.space();
    for pages in SIZES {
        let range = stage.range(pages);
        let remove = || space.remove(range);
        meter.measure("enter", (pages, 0), || {}, || stage.enter(range), remove);
        let (mut singly, mut together) = (0, 0);
        let enter_quick = || {
            let entered = range.iter().filter(|va| space.enter_quick(*va, stage.frame(*va), READ_WRITE));
            singly += entered.count() as u64;
        };
        meter.measure("enter_quick", (pages, 0), || {}, enter_quick, remove);
        let enter_object = || {
            together += space.enter_object(range, READ_WRITE, |va| Some(stage.frame(va)));
        };
        meter.measure("enter_object", (pages, 0), || {}, enter_object, remove);
        report.check(&format!("{pages} pages are entered"), singly == together && singly > 0, || {
            format!("{singly} one by one, {together} together")
        });
    }
}

/// `remove` and `protect` of pages that were used.
fn taking(
    meter: &mut Meter,
    report: &mut Report,
    stage: &Stage,
    others: Others,
    pages: u64,
    choices: Choices,
) {
    let (space, range, targets) = (stage.space(), stage.range(pages), stage.targets());
    let enter = || stage.enter(range);
    let remove = || space.remove(range);
    let protect = || space.protect(range, Protection::READ);
    let [removing, protecting] = match others {
        Others::Halt => ["remove", "protect"],
        Others::Spin => ["remove (targets spin)", "protect (targets spin)"],
    };
    let removed = meter.measure(removing, (pages, targets), enter, remove, || {});
    let protected = meter.measure(protecting, (pages, targets), enter, protect, remove);
    let each = if choices.lazy_targets { targets } else { percpu::cpu_count() as u64 - 1 };
    let expected = each * if choices.batching { 1 } else { pages };
    for (name, (ipis, rounds)) in [(removing, removed), (protecting, protected)] {
        report.check(
            &format!("{name} of {pages} with {targets} targets sends {expected} interrupts"),
            ipis == expected * rounds,
            || format!("{ipis} in {rounds} rounds"),
        );
    }
}
