//! What calls and page faults take, as a program sees it. Each thing is done several times; the kernel keeps what it took every time.

use core::arch::x86_64::_rdtsc;
use core::ptr::{with_exposed_provenance, with_exposed_provenance_mut};

use crate::abi::{Backing, Figure, READ, WRITE};
use crate::call::{self, Failed};

const PAGE: u64 = 4096;
/// Pages at once.
const SIZES: [u64; 3] = [1, 16, 512];
/// Pages of the process that is copied.
const FORKED: u64 = 1000;
/// Times; the first ones make tables and other things that stay.
const ROUNDS: u64 = 9;
/// Where it is done.
const AT: u64 = 0x1_0000_0000;
/// Where shared memory is mapped, twice.
const SHARED: [u64; 2] = [0x2_0000_0000, 0x3_0000_0000];

/// Measures everything, and ends the process with 0 if all went well.
pub(crate) fn run() -> ! {
    let all = calls()
        .and_then(|()| SIZES.into_iter().try_for_each(private))
        .and_then(|()| SIZES.into_iter().try_for_each(resident))
        .and_then(|()| (0..ROUNDS).try_for_each(|_| fork()));
    call::exit(all.is_err().into())
}

/// Does it, and tells what it took.
fn measure<R>(what: Figure, pages: u64, f: impl FnOnce() -> R) -> R {
    call::figure(Figure::Begin, 0, 0);
    let begin = time_stamp();
    let result = f();
    let end = time_stamp();
    call::figure(what, pages, end - begin);
    result
}

fn time_stamp() -> u64 {
    // SAFETY: every processor with 64-bit mode has the counter, and the kernel lets programs read it.
    unsafe { _rdtsc() }
}

fn store_to_each(at: u64, pages: u64) {
    for page in 0..pages {
        // SAFETY: memory that the caller has mapped, and that no object lies in.
        unsafe { with_exposed_provenance_mut::<u64>((at + page * PAGE) as usize).write_volatile(1) };
    }
}

fn load_from_each(at: u64, pages: u64) {
    for page in 0..pages {
        // SAFETY: as above.
        unsafe { with_exposed_provenance::<u64>((at + page * PAGE) as usize).read_volatile() };
    }
}

fn calls() -> Result<(), Failed> {
    for _ in 0..ROUNDS {
        measure(Figure::Call, 1, call::ticks);
    }
    Ok(())
}

/// Private memory: its first use, its protection, its end.
fn private(pages: u64) -> Result<(), Failed> {
    for _ in 0..ROUNDS {
        call::map(AT, pages, READ | WRITE, Backing::Anonymous, 0)?;
        measure(Figure::ZeroFault, pages, || store_to_each(AT, pages));
        measure(Figure::Protect, pages, || call::protect(AT, pages, READ))?;
        measure(Figure::Unmap, pages, || call::unmap(AT, pages))?;
    }
    Ok(())
}

/// Pages that are in memory already: what a fault takes without making contents.
fn resident(pages: u64) -> Result<(), Failed> {
    call::map(SHARED[0], pages, READ, Backing::Shared, 0)?;
    load_from_each(SHARED[0], pages);
    for _ in 0..ROUNDS {
        call::map(SHARED[1], pages, READ, Backing::Shared, 0)?;
        measure(Figure::ResidentFault, pages, || load_from_each(SHARED[1], pages));
        call::unmap(SHARED[1], pages)?;
    }
    call::unmap(SHARED[0], pages)
}

/// A copy of the process, which waits until the original has stored to every page.
fn fork() -> Result<(), Failed> {
    call::map(AT, FORKED, READ | WRITE, Backing::Anonymous, 0)?;
    call::map(SHARED[0], 1, READ | WRITE, Backing::Shared, 0)?;
    let done = SHARED[0];
    // SAFETY: mapped just now.
    unsafe { with_exposed_provenance_mut::<u64>(done as usize).write_volatile(0) };
    store_to_each(AT, FORKED);
    call::figure(Figure::Begin, 0, 0);
    let begin = time_stamp();
    let child = call::fork()?;
    let end = time_stamp();
    if child == 0 {
        // SAFETY: mapped before the fork, in both.
        while unsafe { with_exposed_provenance::<u64>(done as usize).read_volatile() } == 0 {
            call::yield_now();
        }
        call::exit(0)
    }
    call::figure(Figure::Fork, FORKED, end - begin);
    measure(Figure::CopyFault, FORKED, || store_to_each(AT, FORKED));
    // SAFETY: as above.
    unsafe { with_exposed_provenance_mut::<u64>(done as usize).write_volatile(1) };
    let status = call::wait(child)?;
    call::unmap(SHARED[0], 1)?;
    call::unmap(AT, FORKED)?;
    if status == 0 { Ok(()) } else { Err(Failed) }
}
