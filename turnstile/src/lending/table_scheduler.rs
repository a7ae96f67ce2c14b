//! Where a scheduler's threads wait and lend.

use crate::{LendingScheduler, LockScheduler, PiTurnstiles};

/// A scheduler with the one table that loans reach its threads through.
///
/// A thread's loan is the maximum over all who wait for it, and one table computes it: a second table over the same threads
/// would undo what the first has lent. Whatever blocks and lends by itself therefore asks its scheduler for the table.
///
/// A scheduler that is the same for a whole program implements [`LockScheduler`], which gives it this trait too. One of which
/// there are several (a simulated machine's) is put into a table: a [`PiTurnstiles`] is such a scheduler, with itself as
/// the table, and so is a reference to one, and with feature `std` an `Arc`.
///
/// ```
/// # #[cfg(feature = "std")] {
/// use turnstile::{Address, Hosted, PiTurnstiles, Queue, TableScheduler};
///
/// /// How many wait at an address, whoever schedules them.
/// fn waiting<S: TableScheduler>(scheduler: &S, address: Address) -> usize {
///     scheduler.table().waiting(address, Queue::Shared)
/// }
/// assert_eq!(waiting(&Hosted, Address::new(64)), 0);
/// let apart: std::sync::Arc<PiTurnstiles<Hosted>> = Default::default();
/// assert_eq!(waiting(&apart, Address::new(64)), 0);
/// # }
/// ```
///
/// # Safety
///
/// 1. [`table`](Self::table) returns the same table on every call, on clones of this value too.
/// 2. That table's scheduler is this one: a method of [`Threads`](Self::Threads) does what the method of this value does.
pub unsafe trait TableScheduler: LendingScheduler {
    /// The scheduler as the table has it.
    type Threads: LendingScheduler;

    /// The table in which this scheduler's threads wait for each other.
    fn table(&self) -> &PiTurnstiles<Self::Threads>;
}

// SAFETY: the first rule is one of `LockScheduler`'s; the second holds because all values of such a type are the same
// scheduler: `LockScheduler::table` is asked without one.
unsafe impl<S: LockScheduler> TableScheduler for S {
    type Threads = S;

    #[inline]
    fn table(&self) -> &PiTurnstiles<S> {
        S::table()
    }
}

macro_rules! table_itself {
    ($($on:ty),+) => {
        $(
            // SAFETY: the table itself; all calls go to its scheduler.
            unsafe impl<S: LendingScheduler> TableScheduler for $on {
                type Threads = S;

                #[inline]
                fn table(&self) -> &PiTurnstiles<S> {
                    self
                }
            }
        )+
    };
}

table_itself!(PiTurnstiles<S>, &PiTurnstiles<S>);
#[cfg(feature = "std")]
table_itself!(std::sync::Arc<PiTurnstiles<S>>);
