//! A small SMP kernel on the pmap.
//!
//! It boots under QEMU (PVH) and runs one of its [`programs`], which the command line names; then it
//! prints one line of JSON and ends the emulator.
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod boot;
mod memory;
mod panic;
mod programs;

use arch::exit::exit;
use arch::serial::{self, println};
use memory::heap;

/// The kernel's beginning in Rust: called by `entry.s` on the boot CPU, in the kernel's half, on temporary
/// page tables, with interrupts disabled.
#[unsafe(no_mangle)]
extern "C" fn kmain(info: u32, protocol: u32) -> ! {
    serial::init();
    // SAFETY: once, with the arguments that we got.
    let info = unsafe { boot::info(protocol, info) };
    println!("booted by {}: {}", info.protocol, info.command_line);
    let heap = heap::place(info).expect("memory for the heap (32 MiB): give the machine more");
    // SAFETY: once, with memory that belongs to nobody.
    unsafe { heap::init(heap) };
    exit(programs::run(info))
}
