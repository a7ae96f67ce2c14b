//! `sharded`: each participant publishes its section on a cache line of its own, and those who wait look at all of them.
//!
//! # Protocol
//!
//! Begin is one exchange on the participant's line and finish another one; neither writes a line that anybody else
//! writes, so their cost depends neither on the number of threads nor on that of CPUs. The generations come from a clock
//! that only waiters move: sections that begin between two waits share a generation. A waiter raises the clock
//! past its target, scans the participants, and raises the watermark as far as the scan allows. `protocol`
//! has the memory order and the argument.
//!
//! A finish that sees waiters scans too, and wakes those whose generation it finds reached (INV-DI-8).
//!
//! A section that was stopped between reading the clock and publishing holds up waiters that have begun before it was
//! published. Each participant can do that once to a waiter: its next reading is later.

pub(crate) mod protocol;

#[cfg(not(gencount_loom))]
mod operations;
#[cfg(not(gencount_loom))]
pub(crate) use operations::{State, begin, complete, each_open, finish, may_be_issued, reached, watermark};
