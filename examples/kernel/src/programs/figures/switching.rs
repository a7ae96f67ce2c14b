//! Switching between threads, and between address spaces.

use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering};

use turnstile::Priority;

use super::meter::Meter;
use super::stage::{self, Stage};
use crate::machine::System;
use crate::sched::{self, BOOT_CPU, spawn_on, yield_now};

/// Switches in each direction.
const SWITCHES: u64 = 100;

/// Measures all of it.
///
/// # Errors
///
/// What is missing, in a sentence.
pub(super) fn measure(meter: &mut Meter, system: &'static System) -> Result<(), String> {
    let (mine, other) = (Stage::new(system, 0)?, Stage::new(system, 0)?);
    activations(meter, &mine, &other);
    threads(meter, "switch of kernel threads", None, None);
    threads(meter, "switch within an address space", Some(&mine), Some(&mine));
    threads(meter, "switch of address spaces", Some(&mine), Some(&other));
    other.end();
    mine.end();
    Ok(())
}

/// `activate` alone.
fn activations(meter: &mut Meter, one: &Stage, other: &Stage) {
    let activate = || {
        sched::without_preemption(|| {
            for _ in 0..SWITCHES {
                one.space().activate();
                other.space().activate();
            }
        });
    };
    meter.measure("activate", (2 * SWITCHES, 0), || {}, activate, || one.system.activate_kernel());
}

/// Two threads that yield to one another; the calling one is the first.
fn threads(meter: &mut Meter, what: &'static str, mine: Option<&Stage>, others: Option<&Stage>) {
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, space) = (stop.clone(), others.map(Stage::handle));
    let partner = spawn_on(BOOT_CPU, "partner", Priority::NORMAL, move || {
        if let Some(space) = space {
            space.load();
        }
        // ORD: Relaxed: looked at again and again.
        while !stopped.load(Ordering::Relaxed) {
            yield_now();
        }
    });
    let partner = partner.expect("memory for a thread");
    if let Some(stage) = mine {
        stage.load();
    }
    let switch = || (0..SWITCHES).for_each(|_| yield_now());
    meter.measure(what, (2 * SWITCHES, 0), || {}, switch, || {});
    stop.store(true, Ordering::Relaxed); // ORD: Relaxed: as above
    partner.join();
    stage::leave();
}
