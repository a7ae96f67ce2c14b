//! Generation counting: `gencount`'s implementations, and everybody who does the like.

use std::sync::Arc;

use gencount::{Domain, GenerationWord, Hosted, Implementation, Participant};

use super::epoch::Epoch;
use super::list::GenerationList;
use super::marked_list::{Marked, Spin, Yield};
use super::runner::{Contender, Lane, Peer};

/// A domain of `gencount`, as its users have it.
struct Counting(Arc<Domain<Hosted>>);

impl Counting {
    fn contender(implementation: Implementation) -> Contender {
        Contender::new(implementation.name(), move |_| Self(Arc::new(Domain::new(implementation, Hosted))))
    }
}

impl Peer for Counting {
    const WAITS: bool = true;
    type Lane<'peer> = CountingLane;

    fn lane(&self, _: usize) -> CountingLane {
        CountingLane { participant: self.0.join(), word: GenerationWord::new() }
    }

    fn restarts(&self) -> u64 {
        let counters = self.0.counters();
        counters.invl_start_restart + counters.invl_finish_restart
    }
}

struct CountingLane {
    participant: Participant<Hosted>,
    word: GenerationWord,
}

impl Lane for CountingLane {
    #[inline]
    fn pair(&mut self) {
        drop(self.participant.begin());
    }

    #[inline]
    fn pair_and_wait(&mut self) {
        let section = self.participant.begin();
        section.mark(&self.word);
        drop(section);
        self.participant.wait(&self.word);
    }
}

pub(super) fn contenders() -> Vec<Contender> {
    vec![
        Contender::new("published", Marked::<Spin>::new),
        Contender::new("published-yield", Marked::<Yield>::new),
        Counting::contender(Implementation::Locked),
        Counting::contender(Implementation::Lockfree),
        Counting::contender(Implementation::Sharded),
        Contender::new("mutex-std", GenerationList::<super::list::Std>::new),
        Contender::new("mutex-parking_lot", GenerationList::<super::list::ParkingLot>::new),
        Contender::new("crossbeam-epoch", |_| Epoch::new()),
    ]
}
