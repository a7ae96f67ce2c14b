//! A small SMP kernel on the pmap.
//!
//! It boots under QEMU (PVH) or from GRUB (Multiboot2) and runs one of its [`programs`], which the command line names; then it
//! prints one line of JSON and ends the emulator.
#![no_std]
#![no_main]

extern crate alloc;

mod abi;
mod arch;
mod boot;
mod events;
mod machine;
mod memory;
mod panic;
mod process;
mod programs;
mod sched;
mod trace;
mod vm;

use arch::apic::{self, Interface, timer};
use arch::exit::{ExitCode, exit};
use arch::serial::{self, println};
use arch::{acpi, descriptors, interrupts, percpu, pit, smp};
use memory::layout;

use alloc::string::ToString as _;
use pmap::Options;
use turnstile::Priority;

/// The kernel's beginning in Rust: called by `entry.s` on the boot CPU, in the kernel's half, on temporary
/// page tables, with interrupts disabled.
#[unsafe(no_mangle)]
extern "C" fn kmain(info: u32, protocol: u32) -> ! {
    serial::init();
    pit::mask_interrupts();
    // SAFETY: once, with the arguments that we got.
    let info = unsafe { boot::info(protocol, info) };
    println!("booted by {}: {}", info.protocol, info.command_line);
    // SAFETY: once, on the boot CPU.
    unsafe { descriptors::init_gates() };
    // SAFETY: once, on the boot CPU and the temporary tables.
    if !unsafe { memory::init_heap(info) } {
        // Without a heap, hence without more words.
        println!("{}", programs::report::refused("the machine has too little memory: give it 64 MiB"));
        exit(ExitCode::Usage)
    }
    // SAFETY: the firmware's, on the temporary tables.
    let madt = info.acpi.and_then(|root| unsafe { acpi::read(root) });
    let madt = madt.expect("an ACPI table of the CPUs (MADT)");
    let registers = (apic::choose() == Interface::Xapic).then_some(madt.local_apic);
    // SAFETY: once, on the boot CPU and the temporary tables, from which nothing is used any more.
    unsafe { memory::init(info, registers) };
    let job = programs::choose(info).unwrap_or_else(|code| exit(code));
    sched::configure(job.arguments.di, job.arguments.lending, job.arguments.keep);
    start_cpus(&madt.apic_ids);
    sched::start_cpu(sched::BOOT_CPU);
    let options = Options {
        tlb: job.arguments.tlb,
        batching: job.arguments.batching,
        lazy_targets: job.arguments.lazy,
        ..Options::default()
    };
    let system = machine::start(options).unwrap_or_else(|error| exit(programs::usage(&error.to_string())));
    machine::start_cpu(system);
    while !machine::has_all_cpus() {
        core::hint::spin_loop();
    }
    let main = move || exit(programs::run(&job, info));
    sched::spawn("main", Priority::NORMAL, main).expect("memory for the first thread").detach();
    sched::run_cpu()
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
}

/// What another CPU does, for ever. Its interrupts are off until it runs threads.
fn run_cpu() -> ! {
    // The pmap counts the CPUs when it is set up, so that comes after all are known. The timer wakes us to look again:
    // emulated CPUs that spin take the time of the one that is waited for.
    let system = loop {
        if let Some(system) = machine::system() {
            break system;
        }
        interrupts::enable_and_hlt();
        interrupts::disable();
    };
    sched::start_cpu(percpu::current_cpu());
    machine::start_cpu(system);
    sched::run_cpu()
}
