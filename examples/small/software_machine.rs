//! A page is unmapped on one CPU while another still has it in its TLB: the pmap takes it away there too, and the software machine
//! has looked. What it says when the pmap forgets: `cargo run --release --features mutations -- torture --mutation forget-shootdown`.
//!
//! `cargo run --release --example software_machine`

use std::error::Error;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

use pmap::sim::{Config, SimMachine};
use pmap::{Access, CpuId, EnterFlags, Protection, System, VirtAddr, VirtRange};

/// Maps a page on one CPU, reads it on another, unmaps it on the first.
fn main() -> Result<(), Box<dyn Error>> {
    let system = System::new(SimMachine::new(Config { cpus: 2, ..Config::default() })?)?;
    let machine = system.machine();
    let (here, there) = (CpuId::new(0).ok_or("no CPU 0")?, CpuId::new(1).ok_or("no CPU 1")?);
    let va = VirtAddr(0x40_0000);

    let (space, frame) = machine.run_cpu(here, || -> Result<_, Box<dyn Error>> {
        system.start_cpu();
        let space = system.create()?;
        space.activate();
        let frame = machine.allocate_data_frame(true).ok_or("no frame is left")?;
        let rights = Protection::READ | Protection::WRITE;
        space.enter(va, frame, rights, Access::Write, EnterFlags::empty())?;
        machine.write(va, 42).map_err(|_| "the new page faults")?;
        Ok((space, frame))
    })?;
    // The other CPU runs the same address space: from now on its TLB has the page, too.
    let (reading, removed) = (Barrier::new(2), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            machine.run_cpu(there, || {
                system.start_cpu();
                space.activate();
                println!("CPU 1 reads {:?}", machine.read(va).ok());
                reading.wait();
                // It goes on, as user code does; every access is a chance to take an interrupt.
                // ORD: Acquire pairs with the Release store below.
                while !removed.load(Ordering::Acquire) {
                    let _ = machine.read(VirtAddr(0x80_0000));
                    pmap::Machine::relax(machine);
                }
                println!("CPU 1 reads {:?}", machine.read(va).ok());
                system.activate_kernel();
                system.stop_cpu();
            });
        });
        machine.run_cpu(here, || {
            reading.wait();
            space.remove(VirtRange::page_of(va));
            println!("CPU 0 has unmapped the page");
            // ORD: Release pairs with the Acquire load above.
            removed.store(true, Ordering::Release);
        });
    });
    machine.run_cpu(here, || {
        machine.free_data_frame(frame);
        system.activate_kernel();
        space.destroy().map_err(|error| error.to_string())?;
        system.stop_cpu();
        Ok::<_, String>(())
    })?;
    let report = machine.report();
    println!(
        "stale translations seen before the guarantee: {}; after it, where none may be: {}",
        report.stale_before_guarantee, report.forbidden_entries
    );
    assert!(report.is_clean());
    Ok(())
}
