//! The pair alone, by two threads each: what each access promises to those who build something else on it.

use std::sync::Arc;

use dcas_queue::pair::{AtomicPair, MARK, Pair};
use loom::thread;

const OLD: Pair = Pair { payload: 1, link: 0x10 };
const NEW: Pair = Pair { payload: 2, link: 0x20 };

/// All executions of two threads on the pairs `cells`, the first of which runs in the main thread.
fn two<const N: usize, A: 'static, B: Send + 'static>(
    cells: [Pair; N],
    first: fn(&[AtomicPair; N]) -> A,
    second: fn(&[AtomicPair; N]) -> B,
    judge: fn(&[AtomicPair; N], A, B),
) {
    loom::model(move || {
        let cells = Arc::new(cells.map(AtomicPair::new));
        let other = {
            let cells = Arc::clone(&cells);
            thread::spawn(move || second(&cells))
        };
        let a = first(&cells);
        let b = other.join().expect("no panic");
        judge(&cells, a, b);
    });
}

fn halves(pair: &AtomicPair) -> Pair {
    Pair { payload: pair.load_payload(), link: pair.load_link() }
}

#[test]
fn of_two_exchanges_from_one_value_one_succeeds() {
    two(
        [OLD],
        |[pair]| pair.compare_exchange(OLD, NEW),
        |[pair]| pair.compare_exchange(OLD, Pair { payload: 3, link: 0x30 }),
        |[pair], a, b| {
            assert!(a != b);
            assert_eq!(halves(pair).payload, if a { 2 } else { 3 });
        },
    );
}

/// Payload first, then link: the link is never older than the payload, and a torn pair is no longer there.
fn torn_reads(read: fn(&[AtomicPair; 1]) -> (Pair, bool)) {
    two(
        [OLD],
        |[pair]| pair.compare_exchange(OLD, NEW),
        read,
        |_, exchanged, (seen, exchanged_back)| {
            assert!(
                exchanged && seen.link >= usize::try_from(seen.payload * 0x10).expect("small"),
                "{seen:?}"
            );
            assert!(!exchanged_back || seen == OLD || seen == NEW, "a torn read was accepted");
        },
    );
}

#[test]
fn a_torn_read_has_the_newer_link_and_fails_the_exchange() {
    torn_reads(|[pair]| {
        let seen = halves(pair);
        (seen, pair.compare_exchange(seen, seen))
    });
}

/// The other order can pair a newer payload with an older link, which is what INV-Q-7 excludes.
#[test]
#[should_panic(expected = "Pair { payload: 2, link: 16 }")]
fn link_before_payload_can_have_the_older_link() {
    torn_reads(|[pair]| {
        let link = pair.load_link();
        (Pair { payload: pair.load_payload(), link }, false)
    });
}

/// INV-P-3: what was there when the mark was set stays there, as seen by whoever marked.
#[test]
fn a_mark_freezes_the_pair() {
    two(
        [OLD],
        |[pair]| (pair.mark(), pair.load_payload()),
        |[pair]| pair.compare_exchange(OLD, NEW),
        |[pair], (before, payload), exchanged| {
            let frozen = if exchanged { NEW } else { OLD };
            assert_eq!(Pair { payload, link: before }, frozen);
            assert_eq!(halves(pair), Pair { link: frozen.link | MARK, ..frozen });
        },
    );
}

#[test]
fn of_two_marks_one_sees_the_link_unmarked() {
    two(
        [OLD],
        |[pair]| pair.mark(),
        |[pair]| pair.mark(),
        |_, a, b| {
            assert_eq!((a | b, a & b), (OLD.link | MARK, OLD.link));
        },
    );
}

/// An owner's half stores, payload first, are what a reader finds behind the link that publishes the pair; and before that,
/// a reader that knows the pair from earlier sees a raised payload no later than a cleared mark (INV-Q-5).
#[test]
fn half_stores_become_visible_in_order_and_before_the_link() {
    two(
        [Pair { payload: 0, link: 0 }, Pair { link: MARK, ..OLD }],
        |[head, node]| {
            // SAFETY: nothing links to the node, and this thread alone writes it.
            unsafe { node.store_payload(5) };
            // SAFETY: as above.
            unsafe { node.store_link(0) };
            assert!(head.compare_exchange(Pair::default(), Pair { payload: 0, link: 0x40 }));
        },
        |[head, node]| {
            let linked = head.load_link() != 0;
            let link = node.load_link();
            (linked, Pair { payload: node.load_payload(), link })
        },
        |_, (), (linked, seen)| {
            assert!(!linked || seen == Pair { payload: 5, link: 0 }, "{seen:?}");
            assert!(seen.link != 0 || seen.payload == 5, "{seen:?}");
        },
    );
}
