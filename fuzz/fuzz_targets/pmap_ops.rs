//! Bytes to operations of the pmap: three address spaces on three CPUs of a software machine. After each operation everything
//! that can be asked is compared with a model, and the structure is audited. Deterministic: a finding replays and shrinks.
//!
//! Run on stable with `cargo fuzz run -s none pmap_ops`, from the workspace's root.
#![no_main]

#[path = "../../pmap/tests/world/mod.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use world::{Op, Setting};

/// Longer programs find little that shorter ones do not.
const OPERATIONS: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    let Some((setting, program)) = bytes.split_first_chunk::<4>() else { return };
    let mut program = Op::program(program);
    program.truncate(OPERATIONS);
    world::run(&program, Setting::from_number(u32::from_le_bytes(*setting).into()));
});
