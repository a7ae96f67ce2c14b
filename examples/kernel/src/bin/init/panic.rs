//! What a Rust program without a library needs.

use core::panic::PanicInfo;

use crate::call;

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    call::print("the user program panics\n");
    call::fail();
    call::exit(2)
}

/// Named by the libraries' tables; nothing unwinds.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}
