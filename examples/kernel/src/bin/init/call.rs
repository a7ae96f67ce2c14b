//! System calls.

use core::arch::asm;

use crate::abi::{Backing, Call, Figure, Finding, Hint, Tally};

/// What a call returns that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failed;

fn call(number: Call, arguments: [u64; 5]) -> Result<u64, Failed> {
    let result: i64;
    // SAFETY: the kernel changes only what the call is about; every call here is made by a function that answers for that.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as u64 => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") 0_u64,
            clobber_abi("sysv64"),
            options(nostack)
        );
    }
    u64::try_from(result).map_err(|_| Failed)
}

/// Ends the thread.
pub(crate) fn exit(status: u64) -> ! {
    loop {
        let _ = call(Call::Exit, [status, 0, 0, 0, 0]);
    }
}

/// Prints.
pub(crate) fn print(text: &str) {
    let _ = print_from(text.as_ptr().expose_provenance() as u64, text.len() as u64);
}

/// Prints what is at an address.
pub(crate) fn print_from(address: u64, bytes: u64) -> Result<u64, Failed> {
    call(Call::Write, [address, bytes, 0, 0, 0])
}

/// Begins a thread with a stack that ends at `stack`.
pub(crate) fn spawn(
    entry: extern "C" fn(u64) -> !,
    stack: u64,
    argument: u64,
    priority: u8,
) -> Result<(), Failed> {
    // The stack is new, so zero: no return address, and aligned as at a function's beginning.
    let stack = stack - size_of::<u64>() as u64;
    call(Call::Spawn, [entry as *const () as u64, stack, argument, priority.into(), 0]).map(|_| ())
}

/// Copies the process; 0 in the copy.
pub(crate) fn fork() -> Result<u64, Failed> {
    call(Call::Fork, [0; 5])
}

/// Waits for a child; its status.
pub(crate) fn wait(child: u64) -> Result<u64, Failed> {
    let mut status = 0_u64;
    call(Call::Wait, [child, (&raw mut status).expose_provenance() as u64, 0, 0, 0])?;
    // SAFETY: an initialised local, which the kernel has written.
    Ok(unsafe { (&raw const status).read_volatile() })
}

/// Maps pages from `first` of `backing` on.
pub(crate) fn map(address: u64, pages: u64, rights: u64, backing: Backing, first: u64) -> Result<(), Failed> {
    call(Call::Map, [address, pages, rights, backing as u64, first]).map(|_| ())
}

/// Unmaps pages.
pub(crate) fn unmap(address: u64, pages: u64) -> Result<(), Failed> {
    call(Call::Unmap, [address, pages, 0, 0, 0]).map(|_| ())
}

/// Changes rights.
pub(crate) fn protect(address: u64, pages: u64, rights: u64) -> Result<(), Failed> {
    call(Call::Protect, [address, pages, rights, 0, 0]).map(|_| ())
}

/// Gives a hint.
pub(crate) fn advise(address: u64, pages: u64, hint: Hint) -> Result<(), Failed> {
    call(Call::Advise, [address, pages, hint as u64, 0, 0]).map(|_| ())
}

/// Lets others run.
pub(crate) fn yield_now() {
    let _ = call(Call::Yield, [0; 5]);
}

/// Sleeps.
pub(crate) fn sleep(ticks: u64) {
    let _ = call(Call::Sleep, [ticks, 0, 0, 0, 0]);
}

/// Ticks since the kernel started.
pub(crate) fn ticks() -> u64 {
    call(Call::Ticks, [0; 5]).unwrap_or(u64::MAX)
}

/// Says where to go on after a fault between two instructions.
pub(crate) fn recover(first: u64, end: u64, resume: u64) {
    if call(Call::Recover, [first, end, resume, 0, 0]).is_err() {
        fail();
    }
}

/// Reports corruption.
pub(crate) fn report(what: Finding, address: u64, expected: u64, found: u64) {
    let _ = call(Call::Report, [what as u64, address, expected, found, 0]);
}

/// Reports that a call failed that should not.
pub(crate) fn fail() {
    report(Finding::CallFailed, 0, 0, 0);
}

/// Tells what something took.
pub(crate) fn figure(what: Figure, pages: u64, ticks: u64) {
    let _ = call(Call::Figure, [what as u64, pages, ticks, 0, 0]);
}

/// Counts.
pub(crate) fn tally(which: Tally, amount: u64) {
    let _ = call(Call::Tally, [which as u64, amount, 0, 0, 0]);
}
