//! The living address spaces of the replay, by their numbers in the trace.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering};

use super::shadow::Shadow;
use crate::sched::Mutex;
use crate::vm::Space;

/// An address space, and what it must show. A thread that works in it has a reference.
pub(super) struct Living {
    pub(super) number: u32,
    pub(super) space: Arc<Space>,
    pub(super) shadow: Mutex<Shadow>,
    is_ending: AtomicBool,
}

impl Living {
    pub(super) fn new(number: u32, space: Space, shadow: Shadow) -> Self {
        let (space, shadow) = (Arc::new(space), Mutex::new(shadow));
        Self { number, space, shadow, is_ending: AtomicBool::new(false) }
    }

    /// Asks everybody to leave it. Those who are parked have to be woken.
    pub(super) fn ask_to_leave(&self) {
        // ORD: SeqCst: before the wake-ups; pairs with `is_ending`.
        self.is_ending.store(true, Ordering::SeqCst);
    }

    /// Whether everybody is to leave it.
    pub(super) fn is_ending(&self) -> bool {
        // ORD: SeqCst: see `ask_to_leave`.
        self.is_ending.load(Ordering::SeqCst)
    }
}

/// All of them. Numbers begin at 1.
pub(super) struct Spaces(Vec<Mutex<Option<Arc<Living>>>>);

impl Spaces {
    pub(super) fn new(largest: u32) -> Self {
        Self((0..=largest).map(|_| Mutex::new(None)).collect())
    }

    pub(super) fn get(&self, number: u32) -> Option<Arc<Living>> {
        self.0.get(number as usize)?.lock().clone()
    }

    /// Adds one; gives it back if the number is taken.
    pub(super) fn add(&self, living: Living) -> Result<(), Living> {
        let Some(place) = self.0.get(living.number as usize) else { return Err(living) };
        let mut place = place.lock();
        if place.is_some() {
            return Err(living);
        }
        *place = Some(Arc::new(living));
        Ok(())
    }

    pub(super) fn take(&self, number: u32) -> Option<Arc<Living>> {
        self.0.get(number as usize)?.lock().take()
    }

    /// Numbers of those that are left.
    pub(super) fn numbers(&self) -> Vec<u32> {
        (0_u32..).zip(&self.0).filter(|(_, place)| place.lock().is_some()).map(|(number, _)| number).collect()
    }
}
