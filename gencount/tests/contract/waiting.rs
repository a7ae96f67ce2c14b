//! What a wait waits for, and who wakes whom.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use gencount::{Domain, GenerationWord, Hosted, Implementation};

use crate::support::{a_while, begin_apart, domain, until, watermark, within_a_minute};

/// A thread that waits for a word.
struct Waiter {
    returned: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<()>,
}

impl Waiter {
    /// Starts a waiter that has to wait, and returns when it has begun to.
    fn start(domain: &Arc<Domain<Hosted>>, word: &Arc<GenerationWord>) -> Self {
        let before = domain.counters().invl_wait;
        let returned = Arc::new(AtomicBool::new(false));
        let thread = {
            let (domain, word, returned) = (domain.clone(), word.clone(), returned.clone());
            std::thread::spawn(move || {
                domain.join().wait(&word);
                returned.store(true, SeqCst);
            })
        };
        until(|| domain.counters().invl_wait > before);
        Self { returned, thread }
    }

    fn assert_waits(&self) {
        a_while();
        assert!(!self.returned.load(SeqCst), "the wait returned too early");
    }

    fn assert_returns(self) {
        self.thread.join().unwrap();
    }
}

pub(crate) fn nothing_to_wait_for(implementation: Implementation) {
    let domain = domain(implementation);
    let (one, other) = (domain.join(), domain.join());
    let word = GenerationWord::new();
    one.wait(&word);
    // An open section that did not mark the word is not waited for.
    let section = one.begin();
    other.wait(&word);
    assert!(domain.is_complete(&word));
    section.mark(&word);
    assert!(!domain.is_complete(&word));
    drop(section);
    // A later section is not waited for either.
    let later = one.begin();
    assert!(domain.is_complete(&word));
    other.wait(&word);
    drop(later);
    let counters = domain.counters();
    assert_eq!((counters.di_wait_calls, counters.invl_wait, counters.invl_wait_slow), (3, 0, 0));
    let queue = u64::from(implementation != Implementation::Sharded);
    assert_eq!((counters.di_blocks, counters.invl_max_qlen), (2, queue));
}

pub(crate) fn out_of_order_finishes_hold_the_watermark(implementation: Implementation) {
    let domain = domain(implementation);
    let participants: Vec<_> = (0..4).map(|_| domain.join()).collect();
    let word = GenerationWord::new();
    let mut sections: Vec<_> =
        participants.iter().map(|participant| Some(begin_apart(participant, &word))).collect();
    assert_eq!(domain.watermark(), 0);
    for (finish, expected) in [(1, 0), (3, 0), (0, 2), (2, 4)] {
        assert_eq!(sections[finish].take().unwrap().generation(), finish as u64 + 1);
        assert_eq!(watermark(&domain, &word), expected);
    }
    assert_eq!(participants[2].begin().generation(), 5);
    let queue = if implementation == Implementation::Sharded { 0 } else { 4 };
    assert_eq!(domain.counters().invl_max_qlen, queue);
}

pub(crate) fn a_wait_returns_exactly_when_the_marked_section_finishes(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let (marker, bystander) = (domain.join(), domain.join());
        let section = begin_apart(&marker, &word);
        let later = bystander.begin();
        let waiter = Waiter::start(&domain, &word);
        waiter.assert_waits();
        drop(section);
        waiter.assert_returns();
        drop(later);
        let counters = domain.counters();
        assert_eq!((counters.invl_wait, counters.invl_wait_slow), (1, 1));
    });
}

pub(crate) fn an_out_of_order_finish_wakes_the_waiter(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let participants: Vec<_> = (0..3).map(|_| domain.join()).collect();
        let first = begin_apart(&participants[0], &GenerationWord::new());
        let second = begin_apart(&participants[1], &word);
        let third = participants[2].begin();
        let waiter = Waiter::start(&domain, &word);
        // The second section is finished, but an older one is open: the watermark cannot pass that.
        drop(second);
        waiter.assert_waits();
        drop(first);
        waiter.assert_returns();
        drop(third);
    });
}

pub(crate) fn only_those_whose_generation_is_reached_wake(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let words: [Arc<GenerationWord>; 3] = Default::default();
        let participants: Vec<_> = (0..3).map(|_| domain.join()).collect();
        let mut sections = Vec::new();
        for (participant, word) in participants.iter().zip(&words) {
            sections.push(begin_apart(participant, word));
        }
        let waiters = words.each_ref().map(|word| Waiter::start(&domain, word));
        a_while();
        for (section, waiter) in sections.into_iter().zip(waiters) {
            waiter.assert_waits();
            drop(section);
            waiter.assert_returns();
        }
        assert_eq!(domain.counters().invl_wait_slow, 3);
    });
}

pub(crate) fn many_waiters_wake_at_once(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let participant = domain.join();
        let section = participant.begin();
        section.mark(&word);
        let returned = Arc::new(AtomicUsize::new(0));
        let waiters: Vec<_> = (0..40)
            .map(|_| {
                let (domain, word, returned) = (domain.clone(), word.clone(), returned.clone());
                std::thread::spawn(move || {
                    domain.join().wait(&word);
                    returned.fetch_add(1, SeqCst);
                })
            })
            .collect();
        until(|| domain.counters().invl_wait == 40);
        a_while();
        assert_eq!(returned.load(SeqCst), 0);
        drop(section);
        for waiter in waiters {
            waiter.join().unwrap();
        }
        assert_eq!(domain.counters().di_wait_calls, 40);
    });
}

pub(crate) fn the_raw_pair_works_like_the_guard(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    assert_eq!(participant.generation(), None);
    assert_eq!(participant.begin_raw(), 1);
    assert_eq!(participant.generation(), Some(1));
    let word = GenerationWord::new();
    participant.mark(&word);
    assert!(!domain.is_complete(&word));
    participant.finish_raw();
    assert_eq!(watermark(&domain, &word), 1);
    drop(begin_apart(&participant, &word));
    assert_eq!(word.get(), 2);
    assert!(!participant.in_section());
    assert_eq!(watermark(&domain, &word), 2);
}

pub(crate) fn nested_code_marks_only_inside_a_section(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    let word = GenerationWord::new();
    participant.mark(&word);
    assert_eq!(word.get(), 0);
    drop(participant.begin());
    participant.mark(&word);
    assert_eq!(word.get(), 0);
    let section = participant.begin();
    participant.mark(&word);
    assert_eq!(word.get(), section.generation());
    // An older section's mark does not lower the word.
    let other = domain.join();
    let newer = other.begin();
    newer.mark(&word);
    section.mark(&word);
    participant.mark(&word);
    assert_eq!(word.get(), newer.generation());
}

pub(crate) fn counters_of_the_departed_are_kept(implementation: Implementation) {
    let domain = domain(implementation);
    for _ in 0..5 {
        let participant = domain.join();
        drop(participant.begin());
        participant.wait(&GenerationWord::new());
    }
    let (one, other) = (domain.join(), domain.join());
    drop((one.begin(), other.begin()));
    drop((one, other));
    let counters = domain.counters();
    let queue = if implementation == Implementation::Sharded { 0 } else { 2 };
    assert_eq!((counters.di_blocks, counters.di_wait_calls, counters.invl_max_qlen), (7, 5, queue));
}

pub(crate) fn two_domains_are_independent(implementation: Implementation) {
    let (here, there) = (domain(implementation), domain(implementation));
    let (one, other) = (here.join(), there.join());
    let open = one.begin();
    for expected in 1..=10 {
        let word = GenerationWord::new();
        drop(begin_apart(&other, &word));
        assert_eq!(word.get(), expected);
        assert_eq!(watermark(&there, &word), expected);
    }
    assert_eq!((here.watermark(), open.generation()), (0, 1));
    assert_eq!(here.counters().di_blocks, 1);
}
