//! Tests that need to see inside, and the faults that they inject.

mod dropped_elsewhere;
#[path = "../../tests/histories/mod.rs"]
mod histories;
mod lending;
mod lifetimes;
mod schedules;
mod slots;
#[path = "../../tests/steps/mod.rs"]
mod steps;
use crate::world;

pub(crate) use crate::fault::Fault;
