//! Domains whose implementation is known when the program is compiled: the same contract, found in another way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use gencount::{Domain, GenerationWord, Hosted, Implementation, Locked, Lockfree, Sharded, Static};

use crate::support::{panic_of, within_a_minute};

/// Two threads that open sections and two that wait for them, as `no_wake_up_is_lost` does with domains that find out at run time.
fn sections_and_waiters<D: Static>(implementation: Implementation) {
    let domain: Arc<Domain<Hosted, D>> = Arc::new(Domain::fixed(Hosted));
    assert_eq!(domain.implementation(), implementation);
    let words: [GenerationWord; 2] = Default::default();
    let finished: [AtomicU64; 2] = Default::default();
    std::thread::scope(|scope| {
        for number in 0..2 {
            let (domain, word, finished) = (&domain, &words[number], &finished[number]);
            scope.spawn(move || {
                let participant = domain.join();
                for round in 0..2000 {
                    let section = participant.begin();
                    section.mark(word);
                    if round % 64 == 0 {
                        std::thread::yield_now();
                    }
                    finished.store(section.generation(), Relaxed);
                    drop(section);
                }
            });
            scope.spawn(move || {
                let participant = domain.join();
                for round in 0..2000_u32 {
                    let marked = word.get();
                    let over = round % 3 != 0 || participant.wait_timeout(word, Duration::from_secs(60));
                    assert!(over);
                    participant.wait(word);
                    assert!(participant.try_wait(&GenerationWord::new()));
                    // With `sharded` a word's generation may be that of a later section, too.
                    assert!(finished.load(Relaxed) >= marked && domain.watermark() >= marked);
                }
            });
        }
    });
    assert!(words.iter().all(|word| domain.is_complete(word)));
    assert_eq!(domain.counters().di_blocks, 4000);
    let participant = domain.join();
    let section = participant.begin();
    assert!(panic_of(|| drop(participant.begin())).contains("sections do not nest"));
    drop(section);
}

pub(crate) fn a_fixed_implementation_keeps_the_contract(implementation: Implementation) {
    within_a_minute(move || match implementation {
        Implementation::Locked => sections_and_waiters::<Locked>(implementation),
        Implementation::Lockfree => sections_and_waiters::<Lockfree>(implementation),
        _ => sections_and_waiters::<Sharded>(implementation),
    });
}
