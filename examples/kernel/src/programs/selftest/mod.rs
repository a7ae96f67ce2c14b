//! Is the kernel what it should be on this machine?

mod boot;
mod kernel_tables;
mod memory;
mod processors;
mod translation;
mod user_mode;
mod user_pages;

use super::arguments::Arguments;
use super::report::Report;
use crate::boot::BootInfo;
use crate::sched;

/// Runs the self-test.
pub(crate) fn run(_arguments: &Arguments, info: &'static BootInfo) -> Report {
    let mut report = Report::new("selftest");
    boot::command_line(&mut report);
    boot::memory_map(&mut report, info);
    memory::heap(&mut report);
    memory::frames(&mut report);
    memory::rights(&mut report);
    kernel_tables::run(&mut report);
    user_pages::run(&mut report);
    processors::arrived(&mut report);
    processors::interrupts(&mut report);
    processors::undisturbed(&mut report);
    processors::ticks(&mut report);
    processors::rate(&mut report);
    processors::contexts(&mut report);
    sched::selftest::run(&mut report);
    user_mode::run(&mut report, info);
    translation::run(&mut report);
    report
}
