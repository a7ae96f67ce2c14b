//! Two processes that do nothing, each in its way, until they are ended.

use crate::call;

/// A copy waits for this process, which sleeps for ever.
pub(crate) fn run(process: u64) -> ! {
    match call::fork() {
        Ok(0) => {
            let ended = call::wait(process);
            call::exit(ended.is_ok().into())
        }
        Ok(_) => call::sleep(u64::MAX),
        Err(_) => call::fail(),
    }
    call::exit(0)
}
