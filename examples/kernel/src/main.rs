//! A small SMP kernel on the pmap.
//!
//! It boots under QEMU (PVH) and runs one of its [`programs`], which the command line names; then it
//! prints one line of JSON and ends the emulator.
#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod boot;
mod events;
mod memory;
mod panic;
mod programs;

use arch::apic::{self, Interface, timer};
use arch::exit::exit;
use arch::serial::{self, println};
use arch::{acpi, descriptors, interrupts, percpu, pit, smp};
use memory::layout;

/// The kernel's beginning in Rust: called by `entry.s` on the boot CPU, in the kernel's half, on temporary
/// page tables, with interrupts disabled.
#[unsafe(no_mangle)]
extern "C" fn kmain(info: u32, protocol: u32) -> ! {
    serial::init();
    pit::mask_interrupts();
    // SAFETY: once, with the arguments that we got.
    let info = unsafe { boot::info(protocol, info) };
    println!("booted by {}: {}", info.protocol, info.command_line);
    // SAFETY: once, on the boot CPU and the temporary tables.
    unsafe {
        memory::init_heap(info);
        descriptors::init_gates();
    }
    // SAFETY: the firmware's, on the temporary tables.
    let madt = info.rsdp.and_then(|rsdp| unsafe { acpi::read(&rsdp) });
    let madt = madt.expect("an ACPI table of the CPUs (MADT)");
    let registers = (apic::choose() == Interface::Xapic).then_some(madt.local_apic);
    // SAFETY: once, on the boot CPU and the temporary tables, from which nothing is used any more.
    unsafe { memory::init(info, registers) };
    start_cpus(&madt.apic_ids);
    exit(programs::run(info))
}

/// Sets up this CPU, then all others.
fn start_cpus(apic_ids: &[u32]) {
    // Before the CPU has data of its own, which its identifier is a part of.
    apic::init_cpu();
    let this = percpu::add(apic::id(), layout::boot_stack_top()).expect("there is room for one CPU");
    smp::init_cpu(this);
    timer::calibrate();
    timer::start();
    smp::start(apic_ids);
    interrupts::enable();
}

/// What a CPU does when there is nothing to do, for ever.
fn run_cpu() -> ! {
    loop {
        x86_64::instructions::interrupts::enable_and_hlt();
    }
}
