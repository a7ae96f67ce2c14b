//! The living address spaces of the replay, by their numbers in the trace.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::shadow::Shadow;
use crate::sched::Mutex;
use crate::vm::Space;

/// An address space, and what it must show. A thread that works in it has a reference.
pub(super) struct Living {
    pub(super) number: u32,
    pub(super) space: Arc<Space>,
    pub(super) shadow: Mutex<Shadow>,
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
