//! Who is lent to, in thousands of interleavings: everybody whose section holds a waiter up, nobody else, and nobody for
//! longer than that (INV-DI-12, INV-DI-13); and the same with a step left out, which must be noticed.

use std::boxed::Box;
use std::sync::{Arc, Mutex};
use std::vec::Vec;

use turnstile::{Edge, Queue, Scheduler as _, TableScheduler as _, ThreadId};

use crate::tests::Fault;
use crate::tests::steps::{Steps, Table};
use crate::{Domain, GenerationWord, Implementation, Participant, Priority};

/// Where each thread of a scene is, for the checks.
#[derive(Clone, Copy, Default)]
struct Whereabouts {
    /// Between the call of begin and the return of finish.
    in_section: bool,
    thread: Option<ThreadId>,
}

/// What the threads of a scene share.
struct Scene {
    steps: Arc<Steps>,
    domain: Arc<Domain<Arc<Table>>>,
    words: [GenerationWord; 2],
    threads: Mutex<[Whereabouts; 4]>,
    wrong: Mutex<Vec<&'static str>>,
    /// How often a section was found lent to by somebody.
    lent: Mutex<u64>,
    gave_up: Mutex<u64>,
}

impl Scene {
    fn is_wrong(&self, what: &'static str) {
        self.wrong.lock().unwrap().push(what);
    }

    /// Looks at who lends to whom, between two steps of all threads. `mine` is the generation of the calling thread's section, if
    /// one is open.
    fn check(&self, mine: Option<u64>) {
        let table = self.domain.scheduler().table();
        let mut edges = Vec::new();
        edges.resize(16, None);
        let edges = collect(table, &mut edges);
        let me = table.current();
        for edge in &edges {
            match edge.owner {
                None => self.is_wrong("a waiter lends to nobody"),
                Some(owner) => {
                    let threads = self.threads.lock().unwrap();
                    if !threads.iter().any(|one| one.thread == Some(owner) && one.in_section) {
                        self.is_wrong("a thread without a section is lent to");
                    }
                }
            }
            if mine.is_some_and(|generation| generation <= edge.token) {
                if !edges.iter().any(|other| other.thread == edge.thread && other.owner == Some(me)) {
                    self.is_wrong("a section that holds a waiter up is not lent to");
                } else if self.steps.loan(me.get().get() - 1) < Some(edge.priority) {
                    self.is_wrong("a loan is smaller than what is lent");
                } else {
                    *self.lent.lock().unwrap() += 1;
                }
            }
        }
    }

    fn set(&self, number: usize, in_section: bool) {
        let thread = Some(self.domain.scheduler().current());
        self.threads.lock().unwrap()[number] = Whereabouts { in_section, thread };
    }

    /// A section that marks both words, in an order that depends on the thread.
    fn work(&self, number: usize, participant: &Participant<Arc<Table>>) {
        self.set(number, true);
        let section = participant.begin();
        for at in 0..2 {
            section.mark(&self.words[(number + at) % 2]);
            self.domain.common.point();
            self.check(Some(section.generation()));
        }
        drop(section);
        self.set(number, false);
        self.check(None);
    }
}

fn collect(table: &Table, room: &mut Vec<Option<Edge>>) -> Vec<Edge> {
    // An edge has no default: one that is overwritten, or not looked at.
    let blank = Edge {
        thread: table.current(),
        address: turnstile::Address::new(0),
        queue: Queue::Shared,
        token: 0,
        priority: Priority::LOWEST,
        owner: None,
        depth: 0,
    };
    let mut edges: Vec<Edge> = room.drain(..).map(|edge| edge.unwrap_or(blank)).collect();
    let count = table.edges(&mut edges);
    assert!(count <= edges.len());
    edges.truncate(count);
    edges
}

/// Two threads that join, open a section, and leave, twice each; one that waits for both words; one that waits for them with a
/// time limit, again and again. What was wrong; how often lending and giving up were seen.
fn scene(implementation: Implementation, fault: Fault, seed: u64) -> (Vec<&'static str>, u64, u64) {
    let steps = Steps::new(seed, 4);
    let mut domain = Domain::new(implementation, steps.table());
    domain.common.fault = fault;
    let scene = Arc::new(Scene {
        steps: steps.clone(),
        domain: Arc::new(domain),
        words: Default::default(),
        threads: Mutex::default(),
        wrong: Mutex::default(),
        lent: Mutex::default(),
        gave_up: Mutex::default(),
    });
    for (thread, level) in [10, 11, 100, 200].into_iter().enumerate() {
        steps.set_own_priority(thread, Priority::new(level));
    }
    let mut bodies: Vec<Box<dyn FnOnce() + Send>> = Vec::new();
    for number in 0..2 {
        let scene = scene.clone();
        bodies.push(Box::new(move || {
            for round in 0..2 {
                scene.steps.set_stranger(number, false);
                let participant = scene.domain.join();
                scene.work(number, &participant);
                if round == 0 {
                    participant.unbind();
                    // Both kinds of leaving, and the slots change hands.
                    scene.domain.common.point();
                }
                drop(participant);
                scene.steps.set_stranger(number, true);
                scene.check(None);
            }
        }));
    }
    for number in 2..4 {
        let scene = scene.clone();
        bodies.push(Box::new(move || {
            scene.set(number, false);
            let participant = scene.domain.join();
            for round in 0..4 {
                let word = &scene.words[round % 2];
                if number == 2 {
                    participant.wait(word);
                    // Wherever the other one is: it looks again.
                    let other = scene.threads.lock().unwrap()[3].thread;
                    other.map(|other| scene.domain.scheduler().table().cancel(other));
                } else if !participant.wait_timeout(word, 12) {
                    *scene.gave_up.lock().unwrap() += 1;
                }
                scene.check(None);
            }
        }));
    }
    let outcome = steps.run(bodies);
    assert!(!outcome.stuck, "{implementation}, seed {seed}");
    if (0..4).any(|thread| steps.loan(thread).is_some()) {
        scene.is_wrong("a thread keeps a loan");
    }
    if scene.domain.common.lent_slots() > 0 {
        scene.is_wrong("a loan outlives its section");
    }
    if steps.lent_to_strangers() {
        scene.is_wrong("a thread that has left was lent to");
    }
    let wrong = core::mem::take(&mut *scene.wrong.lock().unwrap());
    let (lent, gave_up) = (*scene.lent.lock().unwrap(), *scene.gave_up.lock().unwrap());
    (wrong, lent, gave_up)
}

#[test]
fn everybody_who_holds_a_waiter_up_is_lent_to_and_nobody_else() {
    for implementation in Implementation::ALL {
        let (mut lent, mut gave_up) = (0, 0);
        for seed in 0..1500 {
            let (wrong, some, others) = scene(implementation, Fault::None, seed);
            assert!(wrong.is_empty(), "{implementation}, seed {seed}: {wrong:?}");
            lent += some;
            gave_up += others;
        }
        assert!(lent > 100 && gave_up > 50, "{implementation}: {lent} and {gave_up}");
    }
}

/// The first thing that some schedule finds wrong with the fault.
fn found_wrong(implementation: Implementation, fault: Fault) -> Option<&'static str> {
    (0..3000).find_map(|seed| scene(implementation, fault, seed).0.first().copied())
}

#[test]
fn without_lending_a_section_is_not_lent_to() {
    for implementation in Implementation::ALL {
        assert!(found_wrong(implementation, Fault::NoLending).is_some(), "{implementation}");
    }
}

#[test]
fn without_registration_a_loan_outlives_its_section() {
    for implementation in Implementation::ALL {
        assert!(found_wrong(implementation, Fault::LendsUnregistered).is_some(), "{implementation}");
    }
}

#[test]
fn without_the_look_at_the_loan_word_a_loan_outlives_its_section() {
    for implementation in Implementation::ALL {
        assert!(found_wrong(implementation, Fault::LoanIgnored).is_some(), "{implementation}");
    }
}

#[test]
fn without_lending_on_their_behalf_those_left_behind_lend_to_nobody() {
    assert_eq!(
        found_wrong(Implementation::Sharded, Fault::NobodyLendsForThoseLeft),
        Some("a waiter lends to nobody")
    );
}
