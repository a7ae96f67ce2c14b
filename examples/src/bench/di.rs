//! Generation counting: `gencount`'s implementations, and everybody who does the like.

use std::sync::Arc;

use gencount::{Domain, GenerationWord, Hosted, Locked, Lockfree, Participant, Sharded, Static};

use super::epoch::Epoch;
use super::list::GenerationList;
use super::marked_list::{Marked, Spin, Yield};
use super::runner::{Contender, Lane, Peer};

/// A domain of `gencount` whose implementation is known when the program is compiled: so are those of its peers.
struct Counting<D: Static>(Arc<Domain<Hosted, D>>);

impl<D: Static> Counting<D> {
    fn contender() -> Contender {
        Contender::new(D::IMPLEMENTATION.name(), |_| Self(Arc::new(Domain::fixed(Hosted))))
    }
}

impl<D: Static> Peer for Counting<D> {
    const WAITS: bool = true;
    type Lane<'peer> = CountingLane<D>;

    fn lane(&self, _: usize) -> CountingLane<D> {
        CountingLane { participant: self.0.join(), word: GenerationWord::new() }
    }

    fn restarts(&self) -> u64 {
        let counters = self.0.counters();
        counters.invl_start_restart + counters.invl_finish_restart
    }
}

struct CountingLane<D: Static> {
    participant: Participant<Hosted, D>,
    word: GenerationWord,
}

impl<D: Static> Lane for CountingLane<D> {
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
        Counting::<Locked>::contender(),
        Counting::<Lockfree>::contender(),
        Counting::<Sharded>::contender(),
        Contender::new("mutex-std", GenerationList::<super::list::Std>::new),
        Contender::new("mutex-parking_lot", GenerationList::<super::list::ParkingLot>::new),
        Contender::new("crossbeam-epoch", |_| Epoch::new()),
    ]
}
