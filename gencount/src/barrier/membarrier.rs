//! The system call, and whether the process relies on it.

use core::sync::atomic::AtomicU8;

use crate::primitive::{AcqRel, Acquire, Relaxed};

const UNDECIDED: u8 = 0;
const FULL: u8 = 1;
const LIGHT: u8 = 2;

/// What the process uses. On a line that is only read once it is decided.
static FORM: AtomicU8 = AtomicU8::new(UNDECIDED);

/// Whether the system call did what it was asked to.
fn call(command: libc::c_int) -> bool {
    // SAFETY: takes numbers, and touches no memory of the process.
    unsafe { libc::syscall(libc::SYS_membarrier, command, 0, 0) == 0 }
}

/// Whether finishes leave the fence to waiters. False as long as that is not decided.
#[inline]
pub(crate) fn is_light() -> bool {
    // ORD: Relaxed: see the module's last paragraph; nothing else is read on the strength of it.
    FORM.load(Relaxed) == LIGHT
}

/// Decides, if nobody has yet, whether finishes leave the fence to waiters; returns what is decided.
pub(crate) fn decide() -> bool {
    // ORD: Acquire pairs with the exchange below: who reads LIGHT comes after the registration.
    match FORM.load(Acquire) {
        UNDECIDED => {
            let form = if call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) { LIGHT } else { FULL };
            // ORD: AcqRel pairs with the load above, Acquire on failure for the same reason.
            match FORM.compare_exchange(UNDECIDED, form, AcqRel, Acquire) {
                Ok(_) => form == LIGHT,
                Err(decided) => decided == LIGHT,
            }
        }
        decided => decided == LIGHT,
    }
}

/// Makes every processor that runs a thread of the process execute a full fence.
///
/// # Panics
///
/// If the system refuses what it granted when this was decided, to a process that others rely on.
pub(crate) fn barrier() {
    // A child of a fork may have to register for itself. The global form needs no registration, and takes milliseconds.
    let done = call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED)
        || (call(libc::MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED)
            && call(libc::MEMBARRIER_CMD_PRIVATE_EXPEDITED))
        || call(libc::MEMBARRIER_CMD_GLOBAL);
    assert!(
        done,
        "membarrier(2) worked before and is refused now: allow it, or forbid it from the start of the process"
    );
}
