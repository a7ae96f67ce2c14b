//! The first Dekker pair: a section publishes and reads the clock; a settler raises the clock and reads the slots.

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use super::fails;
use crate::sharded::protocol::{Clock, Published, Raised, oldest};

struct Domain {
    clock: Clock,
    slots: [Published; 2],
    /// What the section writes, and who has seen its generation complete reads.
    work: UnsafeCell<u32>,
}

impl Domain {
    fn new() -> Self {
        Self { clock: Clock::new(), slots: [Published::new(), Published::new()], work: UnsafeCell::new(0) }
    }

    fn settle(&self, target: u64) -> bool {
        assert_eq!(self.clock.raise(target), Raised::Past);
        self.clock.advance(oldest(self.clock.limit(), self.slots.iter().filter_map(Published::read)))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Reading {
    First,
    Second,
}

/// One thread opens a section and, inside, looks at the watermark; the other settles up to the first generation, and if that
/// is reached sees the work of all sections that had it.
fn open_against_settle(reading: Reading) {
    let domain = Arc::new(Domain::new());
    let section = {
        let domain = domain.clone();
        thread::spawn(move || {
            let slot = &domain.slots[0];
            let first = domain.clock.first_reading();
            domain.clock.publish(slot, first);
            let generation = if reading == Reading::Second { domain.clock.second_reading() } else { first };
            if generation != first {
                slot.raise(generation);
            }
            assert!(domain.clock.watermark() < generation, "the watermark passed an open section");
            if generation == 1 {
                // SAFETY: loom reports it if somebody else accesses the cell meanwhile.
                domain.work.with_mut(|work| unsafe { *work += 1 });
            }
            slot.close();
            generation
        })
    };
    domain.settle(1);
    if domain.clock.watermark() >= 1 {
        // SAFETY: as above.
        domain.work.with(|work| unsafe { *work });
    }
    let generation = section.join().expect("no panic");
    domain.settle(generation);
    assert!(domain.clock.watermark() >= generation);
}

#[test]
fn the_watermark_stays_below_an_open_section() {
    loom::model(|| open_against_settle(Reading::Second));
}

#[test]
fn without_the_second_reading_the_watermark_passes_an_open_section() {
    assert!(fails(|| open_against_settle(Reading::First)));
}

/// As the tests above, with both sides' accesses and without their fences: loom's SeqCst accesses are AcqRel.
#[test]
fn without_its_fence_the_watermark_passes_an_open_section() {
    assert!(fails(|| {
        let domain = Arc::new(Domain::new());
        let section = {
            let domain = domain.clone();
            thread::spawn(move || {
                let slot = &domain.slots[0];
                slot.publish_unfenced(domain.clock.first_reading());
                let generation = domain.clock.second_reading();
                assert!(domain.clock.watermark() < generation, "the watermark passed an open section");
            })
        };
        domain.settle(1);
        section.join().expect("no panic");
    }));
}

/// Two settlers and a section: the second settler finds the clock raised by the first one.
#[test]
fn two_settlers_agree() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let domain = Arc::new(Domain::new());
        let settlers: [_; 2] = [1, 1].map(|target| {
            let domain = domain.clone();
            thread::spawn(move || {
                domain.settle(target);
            })
        });
        let slot = &domain.slots[1];
        domain.clock.publish(slot, domain.clock.first_reading());
        let generation = domain.clock.second_reading();
        assert!(domain.clock.watermark() < generation, "the watermark passed an open section");
        slot.close();
        for settler in settlers {
            settler.join().expect("no panic");
        }
    });
}
