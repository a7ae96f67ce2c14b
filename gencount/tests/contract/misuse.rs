//! What happens to those who break the rules: a panic that says what to do, never a corrupt queue.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use gencount::{Domain, GenerationWord, Hosted, Implementation, JoinError, Priority, Slot};
use turnstile::PiTurnstiles;
use turnstile::simulated::Machine;

use crate::support::{begin_apart, domain, panic_of, watermark};

pub(crate) fn sections_do_not_nest(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    let word = GenerationWord::new();
    let section = begin_apart(&participant, &word);
    let message = panic_of(|| {
        participant.begin_raw();
    });
    assert!(message.contains("sections do not nest"), "{message}");
    drop(section);
    assert_eq!(participant.begin_raw(), 2);
    participant.mark(&word);
    participant.finish_raw();
    assert_eq!(watermark(&domain, &word), 2);
}

pub(crate) fn finish_needs_a_section(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    assert!(panic_of(|| participant.finish_raw()).contains("no section is open"));
    let word = GenerationWord::new();
    participant.begin().mark(&word);
    assert!(panic_of(|| participant.finish_raw()).contains("no section is open"));
    assert_eq!(watermark(&domain, &word), 1);
}

pub(crate) fn wait_inside_a_section_panics_in_debug_builds(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    let word = GenerationWord::new();
    let section = participant.begin();
    if cfg!(debug_assertions) {
        assert!(panic_of(|| participant.wait(&word)).contains("wait for itself"));
    } else {
        participant.wait(&word);
    }
    drop(section);
}

/// The threads of some schedulers take turns on one thread of the host, and can give each other what is not `Send`.
pub(crate) fn a_guard_dropped_by_another_thread_is_noticed(implementation: Implementation) {
    let machine = Arc::new(Machine::new());
    let table = Arc::new(PiTurnstiles::new(machine.clone()));
    let participant = &*Box::leak(Box::new(Arc::new(Domain::new(implementation, table)).join()));
    let given = Rc::new(Cell::new(None));
    let taken = given.clone();
    machine.spawn(Priority::NORMAL, move || given.set(Some(participant.begin())));
    let clock = machine.clone();
    machine.spawn(Priority::NORMAL, move || {
        // The other one is through by then.
        clock.sleep(1);
        let guard = taken.take();
        assert!(guard.is_some());
        if cfg!(debug_assertions) {
            let message = panic_of(|| drop(guard));
            assert!(message.contains("by a thread that did not begin it"), "{message}");
        } else {
            drop(guard);
        }
        assert_eq!(participant.in_section(), cfg!(debug_assertions));
    });
    assert_eq!(machine.run(), Ok(()));
}

pub(crate) fn a_second_thread_is_refused(implementation: Implementation) {
    let domain = domain(implementation);
    // A participant can be shared, as part of something that is.
    let participant = Arc::new(domain.join());
    let word = GenerationWord::new();
    let section = begin_apart(&participant, &word);
    let from_another_thread = |body: fn(&gencount::Participant<Hosted>)| {
        let participant = participant.clone();
        std::thread::spawn(move || panic_of(|| body(&participant))).join().unwrap()
    };
    for message in [
        from_another_thread(|participant| {
            participant.begin_raw();
        }),
        from_another_thread(|participant| participant.finish_raw()),
        from_another_thread(|participant| participant.unbind()),
    ] {
        assert!(message.contains("used by two threads"), "{message}");
    }
    assert_eq!(participant.generation(), Some(1));
    drop(section);
    assert_eq!(watermark(&domain, &word), 1);
}

pub(crate) fn unbinding_hands_a_participant_over(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = Arc::new(domain.join());
    for expected in 1..=6 {
        let shared = participant.clone();
        std::thread::spawn(move || {
            let word = GenerationWord::new();
            drop(begin_apart(&shared, &word));
            assert_eq!(word.get(), expected);
            shared.unbind();
        })
        .join()
        .unwrap();
    }
    assert_eq!(participant.begin().generation(), 7);
}

pub(crate) fn unbinding_needs_a_closed_section(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    let section = participant.begin();
    assert!(panic_of(|| participant.unbind()).contains("finish the open section first"));
    drop(section);
    participant.unbind();
}

pub(crate) fn a_foreign_word_is_reported(implementation: Implementation) {
    let (here, there) = (domain(implementation), domain(implementation));
    let (one, other) = (here.join(), there.join());
    drop(one.begin());
    let word = GenerationWord::new();
    for _ in 0..3 {
        drop(begin_apart(&other, &word));
    }
    let message = panic_of(|| one.wait(&word));
    assert!(message.contains("generation 3 was never issued by this domain"), "{message}");
    // Nothing is left behind: the next wait works.
    let word = GenerationWord::new();
    one.begin().mark(&word);
    one.wait(&word);
}

pub(crate) fn a_forgotten_section_ends_with_its_participant(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    let word = GenerationWord::new();
    let section = participant.begin();
    section.mark(&word);
    std::mem::forget(section);
    assert!(participant.in_section());
    assert!(!domain.is_complete(&word));
    // The next begin or, in debug builds, wait reports it; and so do the counters in the end.
    assert!(panic_of(|| drop(participant.begin())).contains("its guard was forgotten"));
    assert_eq!(domain.counters().di_forgotten, 0);
    drop(participant);
    assert_eq!(domain.counters().di_forgotten, 1);
    assert!(domain.is_complete(&word));
    assert_eq!(domain.join().begin().generation(), 2);
}

pub(crate) fn a_guard_outlived_by_its_section_does_no_harm(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    let word = GenerationWord::new();
    let stale = participant.begin();
    stale.mark(&word);
    participant.finish_raw();
    let current = participant.begin_raw();
    if cfg!(debug_assertions) {
        assert!(panic_of(|| stale.mark(&word)).contains("finished already"));
    }
    drop(stale);
    assert_eq!(participant.generation(), Some(current));
    // With `sharded` the two share their generation, so this also waits for the second one.
    let expected = if implementation == Implementation::Sharded { 0 } else { 1 };
    assert_eq!(watermark(&domain, &word), expected);
    participant.finish_raw();
    assert!(domain.is_complete(&word));
}

pub(crate) fn a_static_slot_serves_one_participant_of_one_domain(implementation: Implementation) {
    // Leaked, as a kernel's statics live for ever; one pair for each run of the suite.
    let here: &'static Domain<Hosted> = Box::leak(Box::new(Domain::new(implementation, Hosted)));
    let there: &'static Domain<Hosted> = Box::leak(Box::new(Domain::new(implementation, Hosted)));
    let slots: &'static [Slot; 2] = Box::leak(Box::default());
    let first = here.join_with(&slots[0]).unwrap();
    assert_eq!(here.join_with(&slots[0]).unwrap_err(), JoinError::SlotTaken);
    let second = here.join_with(&slots[1]).unwrap();
    let word = GenerationWord::new();
    let (one, two) = (begin_apart(&first, &word), begin_apart(&second, &word));
    drop(one);
    assert_eq!(watermark(here, &word), 1);
    drop(two);
    assert_eq!(watermark(here, &word), 2);
    drop(first);
    assert_eq!(there.join_with(&slots[0]).unwrap_err(), JoinError::ForeignSlot);
    assert_eq!(here.join_with(&slots[0]).unwrap().begin().generation(), 3);
    assert_eq!(here.counters().di_blocks, 3);
}
