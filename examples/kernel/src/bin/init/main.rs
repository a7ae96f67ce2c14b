//! The program that processes run: it does in ring 3 what programs do to memory, and looks whether the memory is what it should be.
//!
//! It trusts nothing: each page that it owns is *stamped*, filled with words made from the owner's number, the page's address and a
//! version, and compared with that before and after everything that is done to it.
#![no_std]
#![no_main]

#[path = "../../abi.rs"]
mod abi;
mod access;
mod call;
mod check;
mod dice;
mod figures;
mod lane;
mod limits;
mod notes;
mod panic;
mod rest;
mod stamp;
mod torture;
mod unmapper;

use core::arch::global_asm;

use abi::Role;

global_asm!(include_str!("../../arch/memory.s"), options(att_syntax));

// The kernel puts arguments into registers and the stack's end, which is aligned, into RSP. A function expects its caller's
// return address there.
global_asm!(".globl start", "start:", "pushq $0", "jmp {main}", main = sym main, options(att_syntax));

/// The first thread: its process's role and number, and what the role wants to know: a seed or a number of pages, how many threads,
/// the tick at which to end, and how many pages at once.
extern "C" fn main(role: u64, process: u64, seed: u64, threads: u64, until: u64, batch: u64) -> ! {
    access::set_up();
    match Role::from_number(role) {
        Some(Role::Check) => check::run(process),
        Some(Role::Torture) => torture::run(process, seed, threads, until),
        Some(Role::Unmapper) => unmapper::run(process, seed, threads, until, batch),
        Some(Role::Figures) => figures::run(),
        Some(Role::Rest) => rest::run(process),
        None => call::exit(1),
    }
}
