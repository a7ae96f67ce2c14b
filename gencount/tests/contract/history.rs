//! Real threads, more of them than cores, and a check of what they saw.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use gencount::{GenerationWord, Implementation};

use crate::support::{Random, domain, for_a_while, threads, within_a_minute, within_its_time};

/// How long one round lasts, after which the domain is checked at rest and a new one takes its place.
const ROUND: Duration = Duration::from_millis(900);

/// Each section records that it has begun and that it calls finish, under its generation; each thread checks that the
/// watermark passes only generations all of whose sections have called finish. The records are relaxed: if finish and
/// watermark did not order them, the check would fail (on a machine that reorders).
pub(crate) fn watermark_never_runs_ahead_of_an_open_section(implementation: Implementation) {
    within_its_time(move || for_a_while(|| watermark_against_records(implementation)));
}

fn watermark_against_records(implementation: Implementation) {
    let domain = domain(implementation);
    const BEGUN: u64 = 1 << 32;
    let shares = implementation == Implementation::Sharded;
    let records: Arc<[AtomicU64]> = (0..4_000_000).map(|_| AtomicU64::new(0)).collect();
    let start = Instant::now();
    let workers: Vec<_> = (1..=threads() as u64)
        .map(|seed| {
            let (domain, records) = (domain.clone(), records.clone());
            std::thread::spawn(move || {
                let mut random = Random(seed);
                let participant = domain.join();
                let (mut checked, mut last, mut rounds) = (0, 0, 0_u64);
                let word = GenerationWord::new();
                while start.elapsed() < ROUND {
                    let section = participant.begin();
                    let generation = section.generation();
                    assert!(generation > last || shares && generation == last, "generations increase");
                    last = generation;
                    // On a fast machine there are more sections than records: the first ones are checked.
                    let record = records.get(generation as usize);
                    if let Some(record) = record {
                        let before = record.fetch_add(BEGUN + 1, Relaxed);
                        assert!(before == 0 || shares, "issued twice");
                    }
                    section.mark(&word);
                    if random.below(50) == 0 {
                        std::thread::yield_now();
                    }
                    if let Some(record) = record {
                        record.fetch_sub(1, Relaxed);
                    }
                    drop(section);

                    if random.below(4) == 0 {
                        participant.wait(&word);
                    }
                    let watermark = domain.watermark();
                    assert!(watermark >= checked, "the watermark went down");
                    for passed in checked + 1..=watermark.min(records.len() as u64 - 1) {
                        let record = records[passed as usize].load(Relaxed);
                        assert!(
                            record % BEGUN == 0 && (record > 0 || shares),
                            "the watermark is at {watermark}, but section {passed} has not finished"
                        );
                    }
                    checked = watermark;
                    rounds += 1;
                }
                rounds
            })
        })
        .collect();
    let rounds: u64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
    assert!(rounds > 1000);
    println!("{implementation}: {rounds} sections");
    let counters = domain.counters();
    if shares {
        assert!(domain.watermark() > 1000, "the clock hardly moved");
        return;
    }
    assert_eq!(domain.watermark(), counters.di_blocks, "all have finished");
    assert!(counters.invl_max_qlen >= 2, "sections never overlapped ({counters:?})");
    // A walk of the lock-free queue may meet a thread's next section too.
    if implementation == Implementation::Locked {
        assert!(counters.invl_max_qlen <= threads() as u64, "{counters:?}");
    }
}

/// A page that sections clean up after having marked it.
#[derive(Default)]
struct Page {
    /// Stands in for the lock under which marks are made.
    lock: std::sync::Mutex<()>,
    word: GenerationWord,
    /// How many sections have marked it.
    marked: AtomicU64,
    /// How many of those have cleaned it.
    cleaned: AtomicU64,
}

/// All threads open sections and wait for each other's: a wait that is never woken stops the test, and one that
/// returns early finds a page that is not clean.
pub(crate) fn no_wake_up_is_lost(implementation: Implementation) {
    within_its_time(move || for_a_while(|| waits_against_finishes(implementation)));
}

fn waits_against_finishes(implementation: Implementation) {
    let domain = domain(implementation);
    let pages: Arc<[Page]> = (0..4).map(|_| Page::default()).collect();
    let start = Instant::now();
    let workers: Vec<_> = (1..=threads() as u64)
        .map(|seed| {
            let (domain, pages) = (domain.clone(), pages.clone());
            std::thread::spawn(move || {
                let mut random = Random(seed);
                let participant = domain.join();
                while start.elapsed() < ROUND {
                    let page = &pages[random.below(4) as usize];
                    if random.below(2) == 0 {
                        let section = participant.begin();
                        {
                            let _lock = page.lock.lock().unwrap();
                            section.mark(&page.word);
                            page.marked.fetch_add(1, Relaxed);
                        }
                        if random.below(3) == 0 {
                            std::thread::yield_now();
                        }
                        page.cleaned.fetch_add(1, Relaxed);
                        drop(section);
                    } else {
                        let marked = {
                            let _lock = page.lock.lock().unwrap();
                            page.marked.load(Relaxed)
                        };
                        participant.wait(&page.word);
                        let cleaned = page.cleaned.load(Relaxed);
                        assert!(cleaned >= marked, "{marked} marks, and only {cleaned} have finished");
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().unwrap();
    }
    let counters = domain.counters();
    assert!(pages.iter().all(|page| domain.is_complete(&page.word)));
    if implementation != Implementation::Sharded {
        assert_eq!(domain.watermark(), counters.di_blocks);
    }
    assert!(counters.invl_wait > 0, "nobody had to wait: the test is too tame ({counters:?})");
    assert!(counters.invl_wait_slow <= counters.invl_wait);
}

/// Participants come and go, and their slots change hands, while a long section stays open and others work.
pub(crate) fn join_and_leave_while_others_run(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let stop = Arc::new(AtomicBool::new(false));
        let opened = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for seed in 1..=4 {
                let (domain, stop, opened) = (&domain, &stop, &opened);
                scope.spawn(move || {
                    let mut random = Random(seed);
                    while !stop.load(SeqCst) {
                        let participants: Vec<_> = (0..=random.below(3)).map(|_| domain.join()).collect();
                        let sections: Vec<_> = participants.iter().map(|one| one.begin()).collect();
                        opened.fetch_add(sections.len() as u64, Relaxed);
                        let word = GenerationWord::new();
                        if let Some(section) = sections.last() {
                            section.mark(&word);
                        }
                        drop(sections);
                        if random.below(2) == 0 {
                            participants[0].wait(&word);
                            assert!(domain.is_complete(&word));
                        }
                    }
                });
            }
            for _ in 0..20 {
                let participant = domain.join();
                let section = participant.begin();
                opened.fetch_add(1, Relaxed);
                std::thread::sleep(Duration::from_millis(15));
                assert!(domain.watermark() < section.generation());
            }
            stop.store(true, SeqCst);
        });
        assert_eq!(domain.counters().di_blocks, opened.load(Relaxed));
        if implementation != Implementation::Sharded {
            assert_eq!(domain.watermark(), opened.load(Relaxed));
        }
    });
}
