//! The swap store: memory set aside for what pages held when the page daemon took their frames.
//!
//! Each slot keeps a check sum of what was written, compared when it is read: a store is the kernel's own memory, which a stray
//! store can reach, too.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use pmap::Frame;

use super::pool::{Words, words};
use super::{Shortage, Violations};
use crate::machine::System;
use crate::memory::frames;
use crate::sched::Mutex;

/// A slot in use. It comes from [`Swap::allocate`] and goes back by [`Swap::free`].
#[derive(Debug)]
pub(super) struct Slot {
    index: usize,
    sum: u64,
}

/// The store.
pub(super) struct Swap {
    frames: Vec<Frame>,
    free: Mutex<Vec<usize>>,
    system: &'static System,
}

impl Swap {
    pub(super) fn new(system: &'static System, slots: usize) -> Result<Self, Shortage> {
        let mut store = Vec::with_capacity(slots);
        for _ in 0..slots {
            let Some(frame) = frames::allocate() else {
                store.into_iter().for_each(frames::free);
                return Err(Shortage);
            };
            store.push(frame);
        }
        Ok(Self { frames: store, free: Mutex::new((0..slots).collect()), system })
    }

    /// A slot; `None` if the store is full.
    pub(super) fn allocate(&self) -> Option<Slot> {
        self.free.lock().pop().map(|index| Slot { index, sum: 0 })
    }

    pub(super) fn free(&self, slot: Slot) {
        self.free.lock().push(slot.index);
    }

    fn words(&self, slot: &Slot) -> &Words {
        words(self.system, self.frames[slot.index])
    }

    /// Saves what `frame` holds. Nobody can store to it.
    pub(super) fn write(&self, slot: &mut Slot, frame: Frame) {
        copy(words(self.system, frame), self.words(slot));
        slot.sum = sum(self.words(slot));
    }

    /// Puts what was saved into `frame`; false if it is not what was saved.
    #[must_use]
    pub(super) fn read(&self, slot: &Slot, frame: Frame) -> bool {
        copy(self.words(slot), words(self.system, frame));
        sum(words(self.system, frame)) == slot.sum
    }

    /// Whether `frame` still holds what was saved.
    #[must_use]
    pub(super) fn matches(&self, slot: &Slot, frame: Frame) -> bool {
        sum(words(self.system, frame)) == slot.sum
    }

    /// Checks that every slot is free, and returns the memory to the machine.
    pub(super) fn drain(&self, violations: &Violations) {
        let free = core::mem::take(&mut *self.free.lock());
        if free.len() != self.frames.len() {
            violations.note(format_args!(
                "{} of {} swap slots were given back",
                free.len(),
                self.frames.len()
            ));
        }
        self.frames.iter().copied().for_each(frames::free);
    }
}

fn copy(from: &Words, to: &Words) {
    for (from, to) in from.iter().zip(to) {
        // ORD: Relaxed, both; the page's lock orders who writes and who reads.
        to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

fn sum(words: &Words) -> u64 {
    let add = |sum: u64, word: &AtomicU64| {
        // ORD: Relaxed; as in `copy`.
        (sum ^ word.load(Ordering::Relaxed)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23)
    };
    words.iter().fold(0x51ab, add)
}
