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
            assert_eq!(domain.common.slots(), 11);
            let sections: Vec<_> =
                participants.iter().chain([&one_more]).map(|participant| participant.begin()).collect();
            let generations: Vec<_> = sections.iter().map(|section| section.generation()).collect();
            let distinct = implementation != Implementation::Sharded;
            assert!(generations.is_sorted_by(|a, b| if distinct { a < b } else { a <= b }));
            let word = crate::GenerationWord::new();
            sections.iter().for_each(|section| section.mark(&word));
            assert!(!domain.is_complete(&word));
            drop(sections);
            assert!(domain.is_complete(&word));
            assert_eq!(domain.watermark(), generations[10]);
            assert_eq!(domain.counters().di_blocks, 11 * round);
        }
        assert_eq!(domain.common.slots(), 11);
    }
}

#[test]
fn a_slot_can_be_used_by_a_moved_domain() {
    for implementation in Implementation::ALL {
        let domain = Arc::new(Domain::new(implementation, Hosted));
        let word = crate::GenerationWord::new();
        domain.join().begin().mark(&word);
        assert!(domain.is_complete(&word));
        let moved = Arc::new(Arc::into_inner(domain).expect("no participant is left"));
        let participant = moved.join();
        assert_eq!(moved.common.slots(), 1);
        let section = participant.begin();
        assert_eq!(section.generation(), 2);
        section.mark(&word);
        assert!(!moved.is_complete(&word));
        drop(section);
        assert!(moved.is_complete(&word));
        assert_eq!(moved.watermark(), 2);
    }
}
