//! A participant whose section is open is dropped by another thread than the one that opened it.

use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use turnstile::{Scheduler as _, TableScheduler as _, ThreadId};

use crate::tests::steps::{Steps, Table};
use crate::{Domain, GenerationWord, Implementation, Participant, Priority};

const OPENER: usize = 0;
const DROPPER: usize = 1;
const HOLDER: usize = 2;
const LENDER: usize = 3;

#[derive(Default)]
struct Progress {
    threads: [Option<ThreadId>; 4],
    handed_over: Option<Participant<Arc<Table>>>,
    is_handed_over: bool,
    may_be_dropped: bool,
    is_dropped: bool,
    /// Whether the opener found the section closed, and then waited for another one.
    waited: Option<(bool, bool)>,
}

struct Scene {
    steps: Arc<Steps>,
    domain: Arc<Domain<Arc<Table>>>,
    words: [GenerationWord; 2],
    progress: Mutex<Progress>,
}

impl Scene {
    /// Lets others run until `holds`.
    fn until(&self, holds: impl Fn(&Progress) -> bool) {
        while !holds(&self.progress.lock().unwrap()) {
            self.domain.scheduler().point();
        }
    }

    fn tell(&self, what: impl FnOnce(&mut Progress)) {
        what(&mut self.progress.lock().unwrap());
    }

    fn is_blocked(&self, number: usize) -> bool {
        let thread = self.progress.lock().unwrap().threads[number];
        thread.is_some_and(|thread| self.domain.scheduler().table().chain_of(thread, &mut []) > 0)
    }

    /// Opens a section for somebody else to finish, and then waits for the holder's.
    fn opener(&self) {
        let (first, second) = (self.domain.join(), self.domain.join());
        first.begin_raw();
        first.mark(&self.words[0]);
        self.tell(|progress| {
            progress.handed_over = Some(first);
            progress.is_handed_over = true;
        });
        self.until(|progress| progress.is_dropped || self.steps.has_frozen());
        let closed = second.try_wait(&self.words[0]);
        let waited = second.wait_or_deadlock(&self.words[1]).is_ok();
        self.tell(|progress| progress.waited = Some((closed, waited)));
    }

    /// Drops it, and is stopped at one of the points on the way.
    fn dropper(&self, stop_at: u64) {
        self.until(|progress| progress.may_be_dropped);
        self.steps.freeze(DROPPER, self.steps.points(DROPPER) + stop_at);
        let participant = self.progress.lock().unwrap().handed_over.take();
        drop(participant);
        self.tell(|progress| progress.is_dropped = true);
    }

    /// Has a section, of a later generation, until the opener waits for it.
    fn holder(&self) {
        while !self.is_blocked(LENDER) {
            self.domain.scheduler().point();
        }
        let participant = self.domain.join();
        let section = participant.begin();
        section.mark(&self.words[1]);
        self.tell(|progress| progress.may_be_dropped = true);
        while !self.is_blocked(OPENER) && self.progress.lock().unwrap().waited.is_none() {
            self.domain.scheduler().point();
        }
        drop(section);
    }

    /// Waits for the opener's section, and so lends to its thread.
    fn lender(&self) {
        self.until(|progress| progress.is_handed_over);
        self.domain.join().wait(&self.words[0]);
    }
}

/// Whether the dropper came to its `stop_at`-th point; what the opener saw.
fn scene(implementation: Implementation, seed: u64, stop_at: u64) -> (bool, (bool, bool)) {
    let steps = Steps::new(seed, 4);
    let scene = Arc::new(Scene {
        steps: steps.clone(),
        domain: Arc::new(Domain::new(implementation, steps.table())),
        words: Default::default(),
        progress: Mutex::default(),
    });
    for (thread, level) in [10, 20, 30, 200].into_iter().enumerate() {
        steps.set_own_priority(thread, Priority::new(level));
    }
    let bodies: Vec<Box<dyn FnOnce() + Send>> = (0..4)
        .map(|number| {
            let scene = scene.clone();
            Box::new(move || {
                let current = scene.domain.scheduler().current();
                scene.tell(|progress| progress.threads[number] = Some(current));
                match number {
                    OPENER => scene.opener(),
                    DROPPER => scene.dropper(stop_at),
                    HOLDER => scene.holder(),
                    _ => scene.lender(),
                }
            }) as Box<dyn FnOnce() + Send>
        })
        .collect();
    let outcome = steps.run(bodies);
    assert!(!outcome.stuck, "{implementation}, seed {seed}, stopped at {stop_at}");
    assert!(
        (0..4).all(|thread| steps.loan(thread).is_none()),
        "{implementation}, seed {seed}: a loan is left"
    );
    assert_eq!(scene.domain.common.lent_slots(), 0, "{implementation}, seed {seed}: a hold is left");
    let waited = scene.progress.lock().unwrap().waited.expect("the opener came to its end");
    (outcome.frozen, waited)
}

/// A hold that names the opener, who has nothing to do with the section any more, would make a cycle of what is none.
#[test]
fn a_section_that_another_thread_has_closed_is_no_deadlock() {
    for implementation in Implementation::ALL {
        let mut stopped_behind_it = 0;
        for seed in 0..40 {
            for stop_at in 1.. {
                let (stopped, (closed, waited)) = scene(implementation, seed, stop_at);
                assert!(
                    waited || !closed,
                    "{implementation}, seed {seed}, stopped at {stop_at}: a false deadlock"
                );
                stopped_behind_it += u64::from(stopped && closed);
                if !stopped {
                    break;
                }
            }
        }
        assert!(stopped_behind_it > 0, "{implementation}");
    }
}
