//! Whether user mode is what it should be: what a program may do, and what it may not.

use crate::abi::{Backing, READ, WRITE};
use crate::access::{load, load_if_possible, store, store_if_possible};
use crate::call;
use crate::lane;
use crate::limits;
use crate::stamp::PAGE;

/// An address of the kernel's image, and one of its map of all memory.
const KERNEL: [u64; 2] = [0xffff_ffff_8020_0000, 0xffff_8000_0020_0000];
/// Nothing is mapped there.
const NOWHERE: u64 = 0x1000;

/// Looks at everything; the status is the number of checks that fail.
pub(crate) fn run(process: u64) -> ! {
    let code = run as *const () as u64;
    let new = lane::arena(0);
    let checks = [
        ("the program's code cannot be read", load_if_possible(code & !7).is_some()),
        ("the program's code can be written", !store_if_possible(code & !7, 0)),
        ("the kernel can be read", KERNEL.iter().all(|at| load_if_possible(*at).is_none())),
        ("the kernel can be written", KERNEL.iter().all(|at| !store_if_possible(*at, 0))),
        ("something is mapped where nothing should be", load_if_possible(NOWHERE).is_none()),
        ("the kernel reads for us what is not there", call::print_from(NOWHERE, PAGE).is_err()),
        ("the kernel reads its own memory for us", KERNEL.iter().all(|at| call::print_from(*at, 8).is_err())),
        (
            "memory can be mapped over the program",
            call::map(code & !(PAGE - 1), 1, READ, Backing::Anonymous, 0).is_err(),
        ),
        ("memory can be mapped in the kernel", call::map(KERNEL[0], 1, READ, Backing::Anonymous, 0).is_err()),
        ("new memory cannot be mapped", call::map(new, 2, READ | WRITE, Backing::Anonymous, 0).is_ok()),
        ("new memory is not zero", load(new) == 0 && load(new + PAGE) == 0),
        ("the kernel reads for us beyond the end", call::print_from(new + 2 * PAGE - 8, 16).is_err()),
        (
            "a thread can be more urgent than the kernel's",
            (128..=u8::MAX).all(|priority| call::spawn(end, new + PAGE, 0, priority).is_err()),
        ),
        ("a process can wait for its own end", call::wait(process).is_err()),
        ("a copy of the process is not one", copy_is_apart(new)),
        ("memory cannot be unmapped", call::unmap(new, 2).is_ok()),
        ("memory is there after it was unmapped", load_if_possible(new).is_none()),
    ];
    let mut failed = 0;
    for (text, passed) in checks.into_iter().chain(limits::checks()) {
        if !passed {
            call::print(text);
            call::print("\n");
            failed += 1;
        }
    }
    call::exit(failed)
}

/// A thread that does nothing.
extern "C" fn end(_: u64) -> ! {
    call::exit(0)
}

/// Whether a copy of the process sees what is there now, and neither sees what the other one stores later.
fn copy_is_apart(page: u64) -> bool {
    const BEFORE: u64 = 11;
    store(page, BEFORE);
    match call::fork() {
        Ok(0) => {
            let saw = load(page) == BEFORE;
            store(page, BEFORE + 1);
            call::exit(u64::from(saw && load(page) == BEFORE + 1))
        }
        Ok(child) => call::wait(child) == Ok(1) && load(page) == BEFORE,
        Err(_) => false,
    }
}
