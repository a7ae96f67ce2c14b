//! What can be done in one step, and how bytes say it.

use super::{ADDRESSES, HOLDS, THREADS, TOKENS};

/// Threads, addresses and holds are numbers.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A thread that is at leisure is told to block; it goes on as far as `runs` says.
    Block { thread: usize, ask: Ask, runs: usize },
    /// A thread that could go on does, up to its next scheduling point.
    Run { thread: usize },
    /// So many waiters with at least this token are woken.
    Wake { address: usize, shared: bool, limit: usize, least_token: u64 },
    /// The owner of an address changes, or there is none any more.
    Claim { address: usize, owner: Option<usize> },
    /// As a lock does it: the most urgent waiter is woken, and owns the address, in one step.
    HandOver { address: usize },
    /// One of several owners comes.
    Hold { name: usize, owner: usize, address: usize, level: u64 },
    /// One of several owners goes.
    Release { name: usize },
    /// A wait is cancelled.
    Cancel { thread: usize },
    /// Time passes, and deadlines with it.
    Advance { ticks: u64 },
    /// A thread's own priority changes.
    Priority { thread: usize, own: u8 },
}

/// How a thread is to block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) address: usize,
    pub(crate) shared: bool,
    pub(crate) token: u64,
    pub(crate) owner: Option<usize>,
    /// After how many ticks it gives up.
    pub(crate) patience: Option<u64>,
}

/// The steps that `bytes` say: one byte for what, and one for each number.
pub(super) fn steps(bytes: &[u8]) -> impl Iterator<Item = Step> + '_ {
    let mut bytes = bytes.iter().map(|byte| usize::from(*byte));
    core::iter::from_fn(move || {
        let what = bytes.next()?;
        // A number below `count`; when the bytes end, 0.
        let mut below = |count: usize| bytes.next().unwrap_or(0) % count;
        Some(match what % 20 {
            0..6 => {
                let ask = Ask {
                    address: below(ADDRESSES),
                    shared: below(2) == 1,
                    token: below(TOKENS as usize) as u64,
                    // Nobody in one case of four.
                    owner: Some(below(THREADS * 4 / 3)).filter(|owner| *owner < THREADS),
                    patience: [None, None, None, Some(0), Some(5), Some(30)][below(6)],
                };
                Step::Block { thread: below(THREADS), ask, runs: 3 - what % 3 }
            }
            6..9 => Step::Run { thread: below(THREADS) },
            9 => Step::Wake {
                address: below(ADDRESSES),
                shared: below(2) == 1,
                limit: [1, 2, usize::MAX][below(3)],
                least_token: below(TOKENS as usize) as u64,
            },
            10 => Step::Claim {
                address: below(ADDRESSES),
                owner: Some(below(THREADS + 2)).filter(|owner| *owner < THREADS),
            },
            11 => Step::HandOver { address: below(ADDRESSES) },
            12 | 13 => Step::Hold {
                name: below(HOLDS),
                owner: below(THREADS),
                address: below(ADDRESSES),
                level: below(TOKENS as usize) as u64,
            },
            14 => Step::Release { name: below(HOLDS) },
            15 => Step::Cancel { thread: below(THREADS) },
            16 => Step::Advance { ticks: below(16) as u64 },
            _ => Step::Priority { thread: below(THREADS), own: below(6) as u8 },
        })
    })
}
