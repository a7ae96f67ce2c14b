//! Waits that do not wait, or not for ever.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gencount::{GenerationWord, Implementation};

use crate::support::{a_while, begin_apart, domain, panic_of, until, within_a_minute};

pub(crate) fn try_wait_never_blocks(implementation: Implementation) {
    let domain = domain(implementation);
    let (one, other) = (domain.join(), domain.join());
    let word = GenerationWord::new();
    assert!(other.try_wait(&word));
    let section = begin_apart(&one, &word);
    assert!(!other.try_wait(&word));
    // Inside the section too.
    assert!(!one.try_wait(&word));
    drop(section);
    assert!(other.try_wait(&word));
    let counters = domain.counters();
    assert_eq!((counters.di_wait_calls, counters.invl_wait, counters.invl_wait_slow), (4, 0, 0));
}

pub(crate) fn a_timed_wait_gives_up(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let (one, other) = (domain.join(), domain.join());
        let word = GenerationWord::new();
        let section = begin_apart(&one, &word);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for limit in [Duration::ZERO, Duration::from_millis(20)] {
                    let start = Instant::now();
                    assert!(!other.wait_timeout(&word, limit));
                    assert!(start.elapsed() >= limit);
                }
            });
        });
        // The thread would wait for its own section: it gives up at once.
        assert!(!other.wait_timeout(&word, Duration::from_secs(1000)));
        drop(section);
        assert!(other.wait_timeout(&word, Duration::ZERO));
        // Nothing is left behind: waiting works as before.
        drop(begin_apart(&one, &word));
        other.wait(&word);
        assert!(domain.counters().invl_wait_slow <= 1);
    });
}

pub(crate) fn a_timed_wait_is_woken_by_the_finish(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let participant = domain.join();
        // A limit that the clock cannot express, and one that is not reached.
        for limit in [Duration::MAX, Duration::from_secs(600)] {
            let section = begin_apart(&participant, &word);
            let before = domain.counters().invl_wait;
            let threads: Vec<_> = (0..6)
                .map(|number| {
                    let (domain, word) = (domain.clone(), word.clone());
                    std::thread::spawn(move || {
                        let participant = domain.join();
                        // Both kinds of waiters together.
                        if number % 2 == 0 {
                            assert!(participant.wait_timeout(&word, limit));
                        } else {
                            participant.wait(&word);
                        }
                    })
                })
                .collect();
            until(|| domain.counters().invl_wait == before + 6);
            a_while();
            drop(section);
            for thread in threads {
                thread.join().unwrap();
            }
        }
        assert_eq!(domain.counters().invl_wait_slow, 12);
    });
}

/// Short limits, so that giving up races with being woken.
pub(crate) fn giving_up_races_with_finishing(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = GenerationWord::new();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let waiters: Vec<_> = (1..=3)
                .map(|number| {
                    let (domain, word) = (&domain, &word);
                    scope.spawn(move || {
                        let participant = domain.join();
                        let (mut reached, mut gave_up) = (0, 0);
                        for round in 0..300 {
                            let limit = Duration::from_micros(number * 40 + round % 60);
                            if participant.wait_timeout(word, limit) {
                                reached += 1;
                            } else {
                                gave_up += 1;
                            }
                        }
                        (reached, gave_up)
                    })
                })
                .collect();
            let (domain, word, stop) = (&domain, &word, &stop);
            scope.spawn(move || {
                let participant = domain.join();
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    let section = participant.begin();
                    section.mark(word);
                    std::thread::sleep(Duration::from_micros(60));
                    drop(section);
                    participant.wait(word);
                }
            });
            for waiter in waiters {
                let (reached, gave_up) = waiter.join().unwrap();
                assert_eq!(reached + gave_up, 300);
            }
            stop.store(true, std::sync::atomic::Ordering::Relaxed);
        });
        assert!(domain.is_complete(&word));
    });
}

pub(crate) fn a_timed_wait_reports_a_foreign_word(implementation: Implementation) {
    let (here, there) = (domain(implementation), domain(implementation));
    let (one, other) = (here.join(), there.join());
    let word = GenerationWord::new();
    for _ in 0..3 {
        drop(begin_apart(&other, &word));
    }
    let message = panic_of(|| {
        one.wait_timeout(&word, Duration::from_millis(1));
    });
    assert!(message.contains("generation 3 was never issued"), "{message}");
    drop(begin_apart(&one, &GenerationWord::new()));
    assert!(one.wait_timeout(&GenerationWord::new(), Duration::ZERO));
}
