//! What somebody has to fear who knows the algorithm as it was published with delayed invalidation, and what has become of it
//! here. `pmap/COVERAGE.md` lists these hazards by number.

use crate::model::{Mutation, PayloadSteps};
use crate::properties::{SOLO_BOUND, Violation};
use crate::search::{Clean, Configuration, search};

fn clean(configuration: Configuration) -> Clean {
    search(&configuration).unwrap_or_else(|counterexample| panic!("{counterexample:?}"))
}

/// H-25: there, a node that is on its way in or out holds everybody up until its owner goes on. Here it holds up nobody: whatever
/// the others were doing when they stopped, a thread alone gets to the end of its operation. Without helping it would not.
/// (`tests/progress.rs` shows the published algorithm stop.)
#[test]
fn half_done_operations_hold_nobody_up() {
    for n in [PayloadSteps::UpTo(1), PayloadSteps::UpTo(2)] {
        let Clean { states, longest_solo, .. } = clean(Configuration::new(3, 1).n(n));
        assert!(states > 60_000 && longest_solo < SOLO_BOUND);
        let found = search(&Configuration::new(3, 1).n(n).mutation(Mutation::NoHelping));
        assert_eq!(found.expect_err("nobody helps").violation, Violation::NoProgress);
    }
}

/// H-26: a remove may come to the end of the queue without having met its own node. There it starts again; here it is over,
/// because somebody else unlinked the node: the search checks at each such end that the node is not linked (INV-Q-9), and
/// that from each state the remove ends within a bounded number of steps.
#[test]
fn a_remove_that_does_not_meet_its_node_was_helped() {
    for configuration in [Configuration::new(2, 3), Configuration::new(2, 2).completers(1, 2)] {
        let Clean { helped, longest_solo, .. } = clean(configuration);
        println!("{helped} removes were helped");
        assert!(helped > 500 && longest_solo < SOLO_BOUND);
    }
}

/// H-74: an own payload that is read before the mark is set may be too small by the time that it is donated: with the order swapped
/// the largest payload ever issued gets lost, and the watermark stays below it for ever.
#[test]
fn a_payload_read_before_the_mark_is_too_small() {
    let found = search(&Configuration::new(2, 3).mutation(Mutation::PayloadReadBeforeMark));
    assert_eq!(found.expect_err("a donation is lost").violation, Violation::LargestLost);
}
