//! Priority inheritance on the simulated machine: deterministic, in virtual time.
//!
//! Each scenario is run twice: on a machine that honours loans, and, as the counter-proof, on one that ignores them.

mod machine;
mod scenarios;
