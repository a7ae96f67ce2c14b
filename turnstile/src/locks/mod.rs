//! Locks for `lock_api` that lend: whoever waits lends its priority to the owner.

mod mutex;

pub use mutex::RawPiMutex;

use crate::{Address, Deadlock, LendingScheduler, PiTurnstiles, ThreadId};

/// A scheduler whose locks can be made in constants: it has one table for all of them.
///
/// # Safety
///
/// 1. [`table`](Self::table) returns the same table on every call.
/// 2. [`to_word`](Self::to_word) returns an even number that is not 0, a different one for each thread that is alive, and
///    [`from_word`](Self::from_word) is its inverse.
pub unsafe trait LockScheduler: LendingScheduler + Sized + 'static {
    /// The table of all locks of this scheduler.
    fn table() -> &'static PiTurnstiles<Self>;

    /// A thread's id as it stands in a lock's word. The default takes ids below half of `usize`'s range; schedulers whose
    /// ids are even addresses take the id itself.
    #[inline]
    fn to_word(thread: ThreadId) -> usize {
        thread.get().get() << 1
    }

    /// The id that stands in a lock's word; nothing for 0.
    #[inline]
    fn from_word(word: usize) -> Option<ThreadId> {
        core::num::NonZeroUsize::new(word >> 1).map(ThreadId::new)
    }
}

/// Ends a call that cannot return an error, on a cycle.
#[cold]
fn deadlocked(address: Address, deadlock: &Deadlock) -> ! {
    panic!("locking {address:?} would never end: {deadlock}")
}
