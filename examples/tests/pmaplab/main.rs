//! Tests of the built program, through its command line.

mod bench;
mod common;
mod cpu;
mod kernel;
mod refusals;
mod replay;
mod torture;
