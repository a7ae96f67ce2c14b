//! Locks for `lock_api` that lend: whoever waits lends its priority to the owner.

mod holds;
mod mutex;
mod rwlock;

pub use holds::ReadHolds;
pub use mutex::RawPiMutex;
pub use rwlock::{RawPiRwLock, ReaderScheduler, Share};

use crate::{Address, Deadlock, LendingScheduler, PiTurnstiles, ThreadId};

/// A scheduler whose locks can be made in constants: it has one table for all of them.
///
/// # Safety
///
/// 1. [`table`](Self::table) returns the same table on every call, and all values of this type are the same scheduler as the
///    table's.
/// 2. [`to_word`](Self::to_word) returns a multiple of 4 that is not 0, a different one for each thread that is alive, and
///    [`from_word`](Self::from_word) is its inverse.
pub unsafe trait LockScheduler: LendingScheduler + Sized + 'static {
    /// The table of all locks of this scheduler.
    fn table() -> &'static PiTurnstiles<Self>;

    /// A thread's id as it stands in a lock's word. The default takes ids below a quarter of `usize`'s range; schedulers whose
    /// ids are addresses of aligned records take the id itself.
    #[inline]
    fn to_word(thread: ThreadId) -> usize {
        thread.get().get() << 2
    }

    /// The id that stands in a lock's word; nothing for 0.
    #[inline]
    fn from_word(word: usize) -> Option<ThreadId> {
        core::num::NonZeroUsize::new(word >> 2).map(ThreadId::new)
    }
}

/// Ends a call that cannot return an error, on a cycle.
#[cold]
fn deadlocked(address: Address, deadlock: &Deadlock) -> ! {
    panic!("locking {address:?} would never end: {deadlock}")
}
