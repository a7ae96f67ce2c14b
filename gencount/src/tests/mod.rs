//! Tests that need to see inside, and the faults that they inject.

mod schedules;
mod slots;
mod step;

pub(crate) use crate::fault::Fault;
