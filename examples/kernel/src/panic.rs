//! The end after a broken promise: the message, the line of JSON, the exit.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use crate::arch::exit::{ExitCode, exit};
use crate::arch::interrupts;
use crate::arch::serial::{self, println};
use crate::programs;

static PANICKED: AtomicBool = AtomicBool::new(false);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    interrupts::disable();
    // ORD: only the first CPU reports; it publishes nothing to the others.
    if PANICKED.swap(true, Ordering::Relaxed) {
        // Another CPU's panic, or one while this one reports.
        interrupts::stop();
    }
    // SAFETY: nobody prints after this: other CPUs that panic stop, and the emulator ends.
    unsafe { serial::seize() };
    println!("{info}");
    println!("{}", programs::report::panicked(info));
    exit(ExitCode::Panic)
}

/// The prebuilt core names it, and never calls it where a panic aborts.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// The prebuilt alloc calls it from landing pads, which nothing enters where a panic aborts.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    unreachable!("unwinding in a kernel that aborts on panic")
}
