//! The first program of a Linux that `.ci/linux-figures` boots: measures what the kernel's program `figures` measures in ring 3, the same
//! way, and prints counts of the time-stamp counter. Stands alone: `rustc -C target-feature=+crt-static`.

use std::arch::asm;
use std::arch::x86_64::_rdtsc;
use std::ffi::{CStr, c_char, c_int, c_long, c_void};

const PAGE: usize = 4096;
const SIZES: [usize; 3] = [1, 16, 512];
const FORKED: usize = 1000;
/// The first of these does not count.
const ROUNDS: usize = 9;
const READ: c_int = 1;
const READ_WRITE: c_int = 3;
const SHARED: c_int = 1;
const PRIVATE: c_int = 2;
const ANONYMOUS: c_int = 0x20;
const GET_PARENT: c_long = 110;
const POWER_OFF: c_int = 0x4321_fedc;

unsafe extern "C" {
    fn mmap(at: *mut c_void, bytes: usize, rights: c_int, flags: c_int, file: c_int, offset: i64) -> *mut u8;
    fn munmap(at: *mut u8, bytes: usize) -> c_int;
    fn mprotect(at: *mut u8, bytes: usize, rights: c_int) -> c_int;
    fn memfd_create(name: *const c_char, flags: u32) -> c_int;
    fn ftruncate(file: c_int, bytes: i64) -> c_int;
    fn fork() -> c_int;
    fn waitpid(child: c_int, status: *mut c_int, options: c_int) -> c_int;
    fn sched_yield() -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn reboot(what: c_int) -> c_int;
    fn _exit(status: c_int) -> !;
}

/// Counts that were measured.
struct Figure {
    what: &'static str,
    pages: usize,
    ticks: Vec<u64>,
}

impl Figure {
    fn new(what: &'static str, pages: usize) -> Self {
        Self { what, pages, ticks: Vec::new() }
    }

    fn measure<R>(&mut self, f: impl FnOnce() -> R) -> R {
        let begin = time_stamp();
        let result = f();
        let end = time_stamp();
        self.ticks.push(end - begin);
        result
    }

    fn print(self) {
        let counted = &self.ticks[1..];
        let ticks = counted.iter().sum::<u64>() / counted.len() as u64;
        println!("{:<32} {:>5} {:>10} {:>9}", self.what, self.pages, ticks, ticks / self.pages as u64);
    }
}

fn time_stamp() -> u64 {
    // SAFETY: Linux lets programs read it.
    unsafe { _rdtsc() }
}

fn map(pages: usize, rights: c_int, flags: c_int, file: c_int) -> *mut u8 {
    // SAFETY: new memory, where the system wants it.
    let at = unsafe { mmap(std::ptr::null_mut(), pages * PAGE, rights, flags, file, 0) };
    assert!(at.addr() != usize::MAX, "no memory");
    at
}

fn unmap(at: *mut u8, pages: usize) {
    // SAFETY: mapped by `map`, and not used any more.
    assert_eq!(unsafe { munmap(at, pages * PAGE) }, 0);
}

fn store_to_each(at: *mut u8, pages: usize) {
    // SAFETY: mapped by `map`.
    (0..pages).for_each(|page| unsafe { at.add(page * PAGE).write_volatile(1) });
}

fn load_from_each(at: *mut u8, pages: usize) {
    (0..pages).for_each(|page| {
        // SAFETY: mapped by `map`.
        unsafe { at.add(page * PAGE).read_volatile() };
    });
}

/// How many counts a thousand instructions are.
fn calibrate() {
    const LOOP: u64 = 1_000_000;
    let mut figure = Figure::new("1000 instructions", 1);
    // SAFETY: counts a register down.
    figure.measure(|| unsafe { asm!("2: dec {0}", "jnz 2b", inout(reg) LOOP => _, options(nomem, nostack)) });
    println!("{} ticks are 1000 instructions", figure.ticks[0] * 1000 / (2 * LOOP));
}

fn private(pages: usize) {
    let mut fault = Figure::new("fault, zeroed page", pages);
    let mut protect = Figure::new("protect", pages);
    let mut gone = Figure::new("unmap", pages);
    for _ in 0..ROUNDS {
        let at = map(pages, READ_WRITE, PRIVATE | ANONYMOUS, -1);
        fault.measure(|| store_to_each(at, pages));
        // SAFETY: mapped just now, and only read from here on.
        assert_eq!(protect.measure(|| unsafe { mprotect(at, pages * PAGE, READ) }), 0);
        gone.measure(|| unmap(at, pages));
    }
    [fault, protect, gone].into_iter().for_each(Figure::print);
}

fn resident(pages: usize) {
    let mut fault = Figure::new("fault, page in memory", pages);
    let name: &CStr = c"shared";
    // SAFETY: a new file in memory, of that size.
    let file = unsafe {
        let file = memfd_create(name.as_ptr(), 0);
        assert_eq!(ftruncate(file, (pages * PAGE) as i64), 0);
        file
    };
    let first = map(pages, READ_WRITE, SHARED, file);
    store_to_each(first, pages);
    for _ in 0..ROUNDS {
        let second = map(pages, READ, SHARED, file);
        fault.measure(|| load_from_each(second, pages));
        unmap(second, pages);
    }
    unmap(first, pages);
    fault.print();
}

fn forks() {
    let mut forked = Figure::new("fork", FORKED);
    let mut copied = Figure::new("fault, copied page", FORKED);
    let done = map(1, READ_WRITE, SHARED | ANONYMOUS, -1);
    for _ in 0..ROUNDS {
        let at = map(FORKED, READ_WRITE, PRIVATE | ANONYMOUS, -1);
        store_to_each(at, FORKED);
        // SAFETY: there is one thread; the child calls nothing that a fork forbids.
        unsafe {
            done.write_volatile(0);
            let child = forked.measure(|| fork());
            if child == 0 {
                while done.read_volatile() == 0 {
                    sched_yield();
                }
                _exit(0);
            }
            copied.measure(|| store_to_each(at, FORKED));
            done.write_volatile(1);
            assert_eq!(waitpid(child, std::ptr::null_mut(), 0), child);
        }
        unmap(at, FORKED);
    }
    [forked, copied].into_iter().for_each(Figure::print);
}

fn main() {
    println!("{:<32} {:>5} {:>10} {:>9}", "what", "pages", "ticks", "per page");
    calibrate();
    let mut call = Figure::new("system call", 1);
    for _ in 0..ROUNDS {
        // SAFETY: asks for a number.
        call.measure(|| unsafe { syscall(GET_PARENT) });
    }
    call.print();
    SIZES.into_iter().for_each(private);
    SIZES.into_iter().for_each(resident);
    forks();
    println!("end of figures");
    // SAFETY: this is the first program, and all is done.
    unsafe { reboot(POWER_OFF) };
}
