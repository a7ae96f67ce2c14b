//! Priority inheritance on a simulated uniprocessor that always runs the most urgent thread: deterministic, in virtual time.
//! Runs with default features off.
//!
//! Each scenario is run twice: on a scheduler that honours loans, and, as the counter-proof, on one that ignores them.

mod machine;
mod scenarios;
