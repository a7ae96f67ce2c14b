//! The pool: it grows with the need and no further, and slots keep their counts.

use std::sync::Arc;
use std::vec::Vec;

use crate::{Domain, Hosted, Implementation};

#[test]
fn a_pool_grows_with_the_need_and_no_further() {
    for implementation in Implementation::ALL {
        let domain = Arc::new(Domain::new(implementation, Hosted));
        for round in 1..=3 {
            let participants: Vec<_> = (0..10).map(|_| domain.join()).collect();
            // In the first round every slot is in use at this point.
            let one_more = domain.join();
            assert_eq!(domain.slots(), 11);
            let sections: Vec<_> =
                participants.iter().chain([&one_more]).map(|participant| participant.begin()).collect();
            let generations: Vec<_> = sections.iter().map(|section| section.generation()).collect();
            assert!(generations.is_sorted_by(|a, b| a < b));
            drop(sections);
            assert_eq!(domain.watermark(), generations[10]);
            assert_eq!(domain.counters().di_blocks, 11 * round);
        }
        assert_eq!(domain.slots(), 11);
    }
}

#[test]
fn a_slot_can_be_used_by_a_moved_domain() {
    for implementation in Implementation::ALL {
        let domain = Arc::new(Domain::new(implementation, Hosted));
        drop(domain.join().begin());
        let moved = Arc::new(Arc::into_inner(domain).expect("no participant is left"));
        let participant = moved.join();
        assert_eq!(moved.slots(), 1);
        let section = participant.begin();
        assert_eq!(section.generation(), 2);
        drop(section);
        assert_eq!(moved.watermark(), 2);
    }
}
