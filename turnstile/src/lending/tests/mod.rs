//! The table's lending against a plain model of it: who owns what, who waits for what, and the priorities that follow,
//! computed from scratch after every step.
//!
//! One thread plays all parts, so this sees every state of the graph but no race. Races are excluded by the table's one lock;
//! `tests/hosted` runs real threads through it.

mod machine;
mod model;
