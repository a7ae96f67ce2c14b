//! Waiters, and the ordered list of them that makes up one chain.
//!
//! A [`Waiter`] lies on the stack of the thread that waits. It is linked into its chain under the chain lock, and
//! leaves the list under the same lock: either a waker takes it off and sets its state to woken, or its own thread
//! takes it off. The thread does not leave [`Turnstiles::block`](crate::Turnstiles::block) before one of the two
//! has happened, so a linked waiter is alive (INV-T-1).

use core::cell::Cell;
use core::ptr::NonNull;

use crate::primitive::{Acquire, AtomicU8, Release};
use crate::{Address, Priority, Queue, ThreadId};

/// In the chain; `Waiter::state`.
const WAITING: u8 = 0;
/// Taken off the chain by a waker; `Waiter::state`.
const WOKEN: u8 = 1;

/// What a waiter waits for: fixed while it waits.
#[derive(Clone, Copy)]
pub(crate) struct Request {
    pub(crate) address: Address,
    pub(crate) queue: Queue,
    pub(crate) token: u64,
    pub(crate) thread: ThreadId,
    pub(crate) priority: Priority,
}

/// One thread's entry in a chain.
pub(crate) struct Waiter {
    pub(crate) request: Request,
    /// Arrival number within the chain; written and read under the chain lock.
    arrival: Cell<u64>,
    /// Towards the less urgent; written and read under the chain lock.
    next: Cell<Option<NonNull<Waiter>>>,
    /// Towards the more urgent; written and read under the chain lock.
    previous: Cell<Option<NonNull<Waiter>>>,
    /// Written under the chain lock, read by the owner without it.
    state: AtomicU8,
}

impl Waiter {
    pub(crate) fn new(request: Request) -> Self {
        Self {
            request,
            arrival: Cell::new(0),
            next: Cell::new(None),
            previous: Cell::new(None),
            state: AtomicU8::new(WAITING),
        }
    }

    /// Whether a waker has taken this waiter off its chain. Nobody else touches the waiter after that.
    #[inline]
    pub(crate) fn is_woken(&self) -> bool {
        // ORD: pairs with the Release store in `Chain::take`, so that what the waker did is visible (INV-T-3).
        self.state.load(Acquire) == WOKEN
    }
}

/// The waiters of one bucket, most urgent first, in order of arrival among equals (INV-T-2).
#[derive(Default)]
pub(crate) struct Chain {
    head: Option<NonNull<Waiter>>,
    tail: Option<NonNull<Waiter>>,
    /// How many waiters have ever arrived.
    arrivals: u64,
}

// SAFETY: a chain is reached only through its lock, and the waiters that it points to are alive while linked
// (INV-T-1); their cells are touched under that lock only, and `state` is atomic.
unsafe impl Send for Chain {}

impl Chain {
    pub(crate) const fn new() -> Self {
        Self { head: None, tail: None, arrivals: 0 }
    }

    /// How many waiters have ever arrived: a waiter whose number is not below it came later.
    pub(crate) fn arrivals(&self) -> u64 {
        self.arrivals
    }

    /// Links `waiter` behind all that are at least as urgent.
    ///
    /// # Safety
    ///
    /// `waiter` is not linked, and stays at its place, alive, until it has been taken off.
    pub(crate) unsafe fn insert(&mut self, waiter: &Waiter) {
        waiter.arrival.set(self.arrivals);
        self.arrivals += 1;
        let mut before = self.tail;
        while let Some(candidate) = before {
            // SAFETY: linked waiters are alive (INV-T-1), and the caller holds the chain through `&mut self`.
            let candidate = unsafe { candidate.as_ref() };
            if candidate.request.priority >= waiter.request.priority {
                break;
            }
            before = candidate.previous.get();
        }
        let this = Some(NonNull::from(waiter));
        let after = match before {
            // SAFETY: as above.
            Some(before) => unsafe { before.as_ref() }.next.replace(this),
            None => core::mem::replace(&mut self.head, this),
        };
        match after {
            // SAFETY: as above.
            Some(after) => unsafe { after.as_ref() }.previous.set(this),
            None => self.tail = this,
        }
        waiter.previous.set(before);
        waiter.next.set(after);
    }

    /// Unlinks `waiter`.
    ///
    /// # Safety
    ///
    /// `waiter` is linked in this chain.
    unsafe fn unlink(&mut self, waiter: &Waiter) {
        let (previous, next) = (waiter.previous.get(), waiter.next.get());
        match previous {
            // SAFETY: the neighbours of a linked waiter are linked, hence alive (INV-T-1).
            Some(previous) => unsafe { previous.as_ref() }.next.set(next),
            None => self.head = next,
        }
        match next {
            // SAFETY: as above.
            Some(next) => unsafe { next.as_ref() }.previous.set(previous),
            None => self.tail = previous,
        }
    }

    /// Takes `waiter` off if no waker has done so; says whether it was still linked.
    ///
    /// # Safety
    ///
    /// `waiter` was inserted in this chain.
    pub(crate) unsafe fn withdraw(&mut self, waiter: &Waiter) -> bool {
        if waiter.is_woken() {
            return false;
        }
        // SAFETY: it was inserted, and it leaves the list only in `take`, which marks it woken, or here.
        unsafe { self.unlink(waiter) };
        true
    }

    /// The most urgent waiter.
    pub(crate) fn first(&self) -> Option<NonNull<Waiter>> {
        self.head
    }

    /// The waiter behind `waiter`.
    ///
    /// # Safety
    ///
    /// `waiter` is linked in this chain.
    pub(crate) unsafe fn behind(&self, waiter: NonNull<Waiter>) -> Option<NonNull<Waiter>> {
        // SAFETY: linked waiters are alive (INV-T-1).
        unsafe { waiter.as_ref() }.next.get()
    }

    /// The first waiter, from `start` on, of `address` and `queue` whose arrival number is below `before` and which
    /// `accept` takes.
    ///
    /// # Safety
    ///
    /// `start` is linked in this chain.
    pub(crate) unsafe fn find(
        &self,
        start: Option<NonNull<Waiter>>,
        address: Address,
        queue: Queue,
        before: u64,
        accept: &mut dyn FnMut(u64) -> bool,
    ) -> Option<NonNull<Waiter>> {
        let mut at = start;
        while let Some(pointer) = at {
            // SAFETY: linked waiters are alive (INV-T-1), and the caller holds the chain through `&self`.
            let waiter = unsafe { pointer.as_ref() };
            let request = &waiter.request;
            if request.address == address
                && request.queue == queue
                && waiter.arrival.get() < before
                && accept(request.token)
            {
                return Some(pointer);
            }
            at = waiter.next.get();
        }
        None
    }

    /// Takes a waiter off and marks it woken; returns the thread to unpark.
    ///
    /// # Safety
    ///
    /// `waiter` is linked in this chain. It may be gone as soon as this returns.
    pub(crate) unsafe fn take(&mut self, waiter: NonNull<Waiter>) -> ThreadId {
        // SAFETY: linked waiters are alive (INV-T-1).
        let waiter = unsafe { waiter.as_ref() };
        // SAFETY: the caller says that it is linked here.
        unsafe { self.unlink(waiter) };
        let thread = waiter.request.thread;
        // ORD: pairs with `Waiter::is_woken`; nothing of the waiter is touched after this store (INV-T-1).
        waiter.state.store(WOKEN, Release);
        thread
    }

    /// How many wait for `address` on `queue`.
    pub(crate) fn count(&self, address: Address, queue: Queue) -> usize {
        let mut count = 0;
        // SAFETY: the head is linked.
        let _ = unsafe {
            self.find(self.head, address, queue, u64::MAX, &mut |_| {
                count += 1;
                false
            })
        };
        count
    }
}

#[cfg(all(test, not(any(turnstile_loom, turnstile_shuttle))))]
mod tests {
    use core::num::NonZeroUsize;
    use std::boxed::Box;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    /// What is done to the chain.
    #[derive(Clone, Debug)]
    enum Action {
        Insert {
            address: usize,
            shared: bool,
            priority: u8,
        },
        /// The n-th in the chain leaves by itself.
        Withdraw(usize),
        /// The first of an address and queue whose token is even, or any, is taken.
        Take {
            address: usize,
            shared: bool,
            even: bool,
        },
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            3 => (0..3_usize, any::<bool>(), 0..4_u8)
                .prop_map(|(address, shared, priority)| Action::Insert { address, shared, priority }),
            1 => (0..20_usize).prop_map(Action::Withdraw),
            2 => (0..3_usize, any::<bool>(), any::<bool>())
                .prop_map(|(address, shared, even)| Action::Take { address, shared, even }),
        ]
    }

    fn queue(shared: bool) -> Queue {
        if shared { Queue::Shared } else { Queue::Exclusive }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

        /// The chain against a vector that is sorted anew after every arrival (INV-T-2).
        #[test]
        fn chain_is_a_stably_sorted_list(actions in proptest::collection::vec(action(), 1..80)) {
            let mut chain = Chain::new();
            let mut model: Vec<Box<Waiter>> = Vec::new();
            let mut next = 1;
            for action in actions {
                match action {
                    Action::Insert { address, shared, priority } => {
                        let waiter = Box::new(Waiter::new(Request {
                            address: Address::new(address),
                            queue: queue(shared),
                            token: next,
                            thread: ThreadId::new(NonZeroUsize::new(next as usize).unwrap()),
                            priority: Priority::new(priority),
                        }));
                        next += 1;
                        // SAFETY: new, and boxed until after it has been taken off.
                        unsafe { chain.insert(&waiter) };
                        model.push(waiter);
                        model.sort_by_key(|waiter| core::cmp::Reverse(waiter.request.priority));
                    }
                    Action::Withdraw(nth) if nth < model.len() => {
                        let waiter = model.remove(nth);
                        // SAFETY: it is in the model, hence in the chain.
                        let withdrawn = unsafe { chain.withdraw(&waiter) };
                        prop_assert!(withdrawn);
                    }
                    Action::Withdraw(_) => {}
                    Action::Take { address, shared, even } => {
                        let matches = |request: &Request| {
                            request.address == Address::new(address)
                                && request.queue == queue(shared)
                                && (!even || request.token.is_multiple_of(2))
                        };
                        // SAFETY: the first waiter is linked.
                        let found = unsafe {
                            chain.find(chain.first(), Address::new(address), queue(shared), u64::MAX, &mut |token| {
                                !even || token.is_multiple_of(2)
                            })
                        };
                        let expected = model.iter().position(|waiter| matches(&waiter.request));
                        prop_assert_eq!(found.is_some(), expected.is_some());
                        if let (Some(found), Some(expected)) = (found, expected) {
                            let waiter = model.remove(expected);
                            // SAFETY: just found in the chain.
                            prop_assert_eq!(unsafe { chain.take(found) }, waiter.request.thread);
                            prop_assert!(waiter.is_woken());
                            // SAFETY: it was inserted in this chain.
                            let withdrawn = unsafe { chain.withdraw(&waiter) };
                            prop_assert!(!withdrawn);
                        }
                    }
                }
                let mut tokens = Vec::new();
                let mut at = chain.first();
                while let Some(waiter) = at {
                    // SAFETY: linked waiters are alive in the model.
                    unsafe {
                        tokens.push(waiter.as_ref().request.token);
                        at = chain.behind(waiter);
                    }
                }
                let expected: Vec<_> = model.iter().map(|waiter| waiter.request.token).collect();
                prop_assert_eq!(tokens, expected);
            }
        }
    }
}
