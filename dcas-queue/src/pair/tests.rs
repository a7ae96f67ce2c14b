//! The pair: layout, each access, and atomicity under contention. All of it also runs with
//! `--cfg dcas_queue_fallback`.

use std::thread;
use std::vec::Vec;

use static_assertions::{assert_eq_align, assert_eq_size, assert_impl_all, const_assert_eq};

use super::{AtomicPair, MARK, Pair, is_lock_free};
use crate::{Node, Queue};

// INV-P-1.
assert_eq_size!(AtomicPair, [u8; 16]);
assert_eq_size!(Node, AtomicPair);
assert_eq_size!(Queue, AtomicPair);
const_assert_eq!(align_of::<AtomicPair>(), 16);
assert_eq_align!(Node, AtomicPair);
assert_eq_align!(Queue, AtomicPair);
assert_impl_all!(AtomicPair: Send, Sync, Unpin);
assert_impl_all!(Node: Send, Sync);
assert_impl_all!(Queue: Send, Sync);

/// Values whose every byte differs, so that a swapped or shifted half shows.
const LOW: u64 = 0x0123_4567_89ab_cdef;
const HIGH: usize = 0xfedc_ba98_7654_3210_u64 as usize;

fn halves(pair: &AtomicPair) -> Pair {
    Pair { payload: pair.load_payload(), link: pair.load_link() }
}

#[test]
fn new_holds_both_halves() {
    let pair = AtomicPair::new(Pair { payload: LOW, link: HIGH });
    assert_eq!(halves(&pair), Pair { payload: LOW, link: HIGH });
}

#[test]
fn a_load_of_both_halves_changes_nothing() {
    for held in [Pair::default(), Pair { payload: LOW, link: HIGH }] {
        let pair = AtomicPair::new(held);
        assert_eq!(pair.load(), held);
        assert_eq!(halves(&pair), held);
    }
}

#[test]
fn half_stores_leave_the_other_half_alone() {
    let pair = AtomicPair::new(Pair { payload: LOW, link: HIGH });
    // SAFETY: nobody else has the pair.
    unsafe { pair.store_payload(1) };
    assert_eq!(halves(&pair), Pair { payload: 1, link: HIGH });
    // SAFETY: as above.
    unsafe { pair.store_link(2) };
    assert_eq!(halves(&pair), Pair { payload: 1, link: 2 });
}

#[test]
fn mark_sets_one_bit_and_returns_the_link_before() {
    let pair = AtomicPair::new(Pair { payload: LOW, link: HIGH });
    assert_eq!(pair.mark(), HIGH);
    assert_eq!(halves(&pair), Pair { payload: LOW, link: HIGH | MARK });
    assert_eq!(pair.mark(), HIGH | MARK);
    assert_eq!(halves(&pair), Pair { payload: LOW, link: HIGH | MARK });
}

#[test]
fn compare_exchange_compares_and_changes_both_halves() {
    let old = Pair { payload: LOW, link: HIGH };
    let new = Pair { payload: !LOW, link: !HIGH };
    let pair = AtomicPair::new(old);
    for wrong in [Pair { payload: LOW + 1, ..old }, Pair { link: HIGH + 1, ..old }, new] {
        assert!(!pair.compare_exchange(wrong, Pair::default()));
        assert_eq!(halves(&pair), old, "a failed exchange changes nothing");
    }
    assert!(pair.compare_exchange(old, new));
    assert_eq!(halves(&pair), new);
}

/// CMPXCHG16B takes an operand in RBX, which the compiler may be using and inline assembly cannot declare: the caller's
/// value must be there again afterwards.
#[cfg(target_arch = "x86_64")]
#[test]
fn rbx_survives_the_compare_exchange() {
    const VALUE: u64 = 0x5eed_0b0e_5eed_0b0e;
    extern "C" fn accesses(pair: &AtomicPair) {
        assert!(pair.compare_exchange(Pair::default(), Pair { payload: 1, link: 2 }));
        assert!(!pair.compare_exchange(Pair::default(), Pair { payload: 3, link: 4 }));
        assert_eq!(pair.mark(), 2);
    }
    let pair = AtomicPair::new(Pair::default());
    let mut value = VALUE;
    // SAFETY: a call by the C convention of a function that takes one reference; RBX is swapped in and out again by
    // way of R12, which that convention preserves too; the stack is aligned, since `nostack` is not claimed.
    unsafe {
        std::arch::asm!(
            "xchg rbx, r12",
            "call {accesses}",
            "xchg rbx, r12",
            accesses = sym accesses,
            inout("r12") value,
            in("rdi") &pair,
            clobber_abi("C"),
        );
    }
    assert_eq!(value, VALUE);
}

/// Both halves are counters; every successful exchange raises one by 1 and the other by 2. A lost or torn update
/// breaks the sums; a torn *pair* of half loads must fail the exchange.
#[test]
fn concurrent_increments_of_both_halves_lose_nothing() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    let pair = AtomicPair::new(Pair::default());
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..EACH {
                    loop {
                        let seen = halves(&pair);
                        let new = Pair { payload: seen.payload + 1, link: seen.link + 2 };
                        if pair.compare_exchange(seen, new) {
                            assert_eq!(seen.link as u64, seen.payload * 2, "a torn read was accepted");
                            break;
                        }
                    }
                }
            });
        }
    });
    assert_eq!(halves(&pair), Pair { payload: THREADS * EACH, link: (THREADS * EACH * 2) as usize });
}

/// Marks race exchanges: of all threads that mark a pair one alone sees it unmarked, and no exchange from an unmarked
/// link succeeds after it.
#[test]
fn a_mark_is_won_once_and_freezes_the_pair() {
    for _ in 0..200 {
        let pair = AtomicPair::new(Pair { payload: 0, link: 0 });
        let results: Vec<(usize, u64)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..3)
                .map(|_| {
                    scope.spawn(|| {
                        for _ in 0..20 {
                            let seen = halves(&pair);
                            if seen.link & MARK == 0 {
                                let new = Pair { payload: seen.payload + 1, link: seen.link + 2 };
                                let _ = pair.compare_exchange(seen, new);
                            }
                        }
                        let before = pair.mark();
                        (before, pair.load_payload())
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
        });
        let winners = results.iter().filter(|(before, _)| before & MARK == 0).count();
        assert_eq!(winners, 1, "{results:?}");
        let end = halves(&pair);
        for (before, payload) in results {
            assert_eq!((before & !MARK, payload), (end.link & !MARK, end.payload));
            assert_eq!((before & !MARK) as u64, payload * 2);
        }
    }
}

#[test]
fn the_decision_agrees_with_the_cpu_and_the_build() {
    #[cfg(all(target_arch = "x86_64", not(any(dcas_queue_fallback, miri))))]
    assert_eq!(is_lock_free(), std::is_x86_feature_detected!("cmpxchg16b"));
    #[cfg(any(dcas_queue_fallback, miri))]
    assert!(!is_lock_free());
    assert_eq!(is_lock_free(), is_lock_free());
}
