//! Lending from waiters to sections, shown on Linux's own scheduling: FIFO threads pinned to one processor.
//!
//! A high thread waits for two open sections of low threads, one of which has grown by the generation of a third that is
//! over, while a middle thread hogs the processor. With the loans of [`LinuxRt`](turnstile::LinuxRt) it goes on while the hog still
//! runs; on the same code with a scheduler that takes no notice of loans, only after it. Every hog ends by itself after a
//! fraction of a second. Scene and schedulers are those of `turnstile`'s tests.
//!
//! Skipped, with a printed reason, where the privilege is missing.
#![cfg(all(feature = "linux-rt", target_os = "linux"))]

#[path = "../../../turnstile/tests/realtime/scene.rs"]
#[allow(dead_code, reason = "other scenarios need more")]
mod scene;
#[path = "../../../turnstile/tests/realtime/scheduling.rs"]
#[allow(dead_code, reason = "other scenarios need more")]
mod scheduling;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use gencount::{Domain, GenerationWord, Implementation, LinuxRt, Participant};
use turnstile::LockScheduler;

use crate::scene::{LOW, Owner, contest, owner, shown};
use crate::scheduling::Indifferent;

/// A low thread with an open section that has marked the word.
fn section<S: LockScheduler>(priority: u8, domain: &Arc<Domain<S>>, word: &'static GenerationWord) -> Owner {
    let participant: &'static OnceLock<Participant<S>> = Box::leak(Box::default());
    let domain = Arc::clone(domain);
    owner(
        priority,
        move || {
            let participant = participant.get_or_init(|| domain.join());
            participant.begin_raw();
            participant.mark(word);
        },
        || participant.get().expect("begun by this thread").finish_raw(),
    )
}

fn wait_for_sections<S: LockScheduler>(implementation: Implementation, scheduler: S) -> (bool, Duration) {
    let domain = Arc::new(Domain::new(implementation, scheduler));
    let word: &'static GenerationWord = Box::leak(Box::default());
    let mut sections: Vec<_> = (0..3).map(|number| section(LOW + number, &domain, word)).collect();
    // The one in the middle gives its generation to the first.
    let over = sections.remove(1);
    over.go.send(()).unwrap();
    over.thread.join().unwrap();
    contest::<S>(2, sections, move || domain.join().wait(word))
}

fn real() -> LinuxRt {
    LinuxRt::new().expect("checked before")
}

#[test]
fn a_waiter_with_several_open_sections_locked() {
    shown(
        "sections of `locked`",
        || wait_for_sections(Implementation::Locked, real()),
        || wait_for_sections(Implementation::Locked, Indifferent::new()),
    );
}

#[test]
fn a_waiter_with_several_open_sections_lockfree() {
    shown(
        "sections of `lockfree`",
        || wait_for_sections(Implementation::Lockfree, real()),
        || wait_for_sections(Implementation::Lockfree, Indifferent::new()),
    );
}

#[test]
fn a_waiter_with_several_open_sections_sharded() {
    shown(
        "sections of `sharded`",
        || wait_for_sections(Implementation::Sharded, real()),
        || wait_for_sections(Implementation::Sharded, Indifferent::new()),
    );
}
