//! Waiters lend to the threads whose sections hold them up, through the table that locks use.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use gencount::{Domain, GenerationWord, Hosted, Implementation, Participant, Priority, Scheduler, ThreadId};
use turnstile::{LockScheduler, RawPiMutex};

use crate::support::{begin_apart, domain, panic_of, until, within_a_minute};

type PiMutex = lock_api::Mutex<RawPiMutex<Hosted>, ()>;

const NORMAL: u8 = Priority::NORMAL.level();
const HIGH: u8 = 200;

fn priority(thread: ThreadId) -> u8 {
    Hosted.priority(thread).level()
}

/// Whether the thread waits for something.
fn is_blocked(thread: ThreadId) -> bool {
    Hosted::table().chain_of(thread, &mut []) > 0
}

/// A thread with an open section that has marked a word.
struct Open {
    thread: ThreadId,
    go: mpsc::Sender<()>,
    handle: JoinHandle<()>,
}

impl Open {
    fn start(domain: &Arc<Domain<Hosted>>, word: &Arc<GenerationWord>) -> Self {
        Self::start_and(domain, word, || {})
    }

    /// `before_finish` runs in the section when it is told to go on.
    fn start_and(
        domain: &Arc<Domain<Hosted>>,
        word: &Arc<GenerationWord>,
        before_finish: impl FnOnce() + Send + 'static,
    ) -> Self {
        let (domain, word) = (domain.clone(), word.clone());
        let (go, gone) = mpsc::channel();
        let (opened, is_open) = mpsc::channel();
        let handle = std::thread::spawn(move || {
            let participant = domain.join();
            let section = begin_apart(&participant, &word);
            opened.send(Hosted.current()).unwrap();
            gone.recv().unwrap();
            before_finish();
            drop(section);
            assert_eq!(priority(Hosted.current()), NORMAL, "the loan outlives the section");
        });
        Self { thread: is_open.recv().unwrap(), go, handle }
    }

    fn go_on(&self) {
        self.go.send(()).unwrap();
    }

    fn finish(self) {
        self.go_on();
        self.handle.join().unwrap();
    }
}

/// Starts a thread of high priority, and says what it returns and which one it is.
fn high<R: Send + 'static>(
    domain: &Arc<Domain<Hosted>>,
    body: impl FnOnce(Participant<Hosted>) -> R + Send + 'static,
) -> (JoinHandle<R>, ThreadId) {
    let domain = domain.clone();
    let (here, who) = mpsc::channel();
    let handle = std::thread::spawn(move || {
        Hosted.set_priority(Priority::new(HIGH));
        here.send(Hosted.current()).unwrap();
        body(domain.join())
    });
    (handle, who.recv().unwrap())
}

pub(crate) fn a_waiter_lends_to_every_section_that_holds_it_up(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let words: [Arc<GenerationWord>; 5] = Default::default();
        let mut open: Vec<_> = words.iter().map(|word| Open::start(&domain, word)).collect();
        // The second is over: its generation goes to the first, or to nobody. The last one is too late to matter.
        open.remove(1).finish();
        let lent = |open: &[Open]| -> Vec<_> { open.iter().map(|one| priority(one.thread)).collect() };
        let waiting = words[3].clone();
        let (waiter, thread) = high(&domain, move |participant| participant.wait(&waiting));
        until(|| lent(&open) == [HIGH, HIGH, HIGH, NORMAL]);
        assert_eq!(priority(thread), HIGH);
        // A less urgent waiter, for less: it changes nothing.
        let waiting = words[2].clone();
        let (less, thread) = high(&domain, move |participant| {
            Hosted.set_priority(Priority::new(HIGH - 1));
            participant.wait(&waiting);
        });
        until(|| is_blocked(thread));
        // In the middle, then the first, then the last that is waited for.
        open.remove(1).finish();
        assert_eq!(lent(&open), [HIGH, HIGH, NORMAL]);
        open.remove(0).finish();
        less.join().unwrap();
        assert_eq!(lent(&open), [HIGH, NORMAL]);
        open.remove(0).finish();
        waiter.join().unwrap();
        assert_eq!(lent(&open), [NORMAL]);
        open.remove(0).finish();
    });
}

pub(crate) fn a_time_out_takes_its_lending_back(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let open = Open::start(&domain, &word);
        for _ in 0..2 {
            let (waiting, section) = (word.clone(), open.thread);
            let (waiter, _) = high(&domain, move |participant| {
                let lent = Arc::new(AtomicBool::new(false));
                let seen = lent.clone();
                let look = std::thread::spawn(move || {
                    until(|| priority(section) == HIGH);
                    seen.store(true, SeqCst);
                });
                while !lent.load(SeqCst) {
                    assert!(!participant.wait_timeout(&waiting, Duration::from_millis(20)));
                    assert_eq!(priority(section), NORMAL, "given up, and lent still");
                }
                look.join().unwrap();
            });
            waiter.join().unwrap();
        }
        open.finish();
    });
}

pub(crate) fn a_cancelled_waiter_looks_again_and_lends_again(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let open = Open::start(&domain, &word);
        let waiting = word.clone();
        let (waiter, thread) = high(&domain, move |participant| participant.wait(&waiting));
        for _ in 0..20 {
            until(|| priority(open.thread) == HIGH);
            until(|| Hosted::table().cancel(thread));
        }
        until(|| priority(open.thread) == HIGH);
        open.finish();
        waiter.join().unwrap();
    });
}

/// The section's thread waits for a lock: its owner is lent to.
pub(crate) fn a_waiter_lends_through_a_lock(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let mutex: Arc<PiMutex> = Arc::default();
        let guard = mutex.lock();
        let wanted = mutex.clone();
        let open = Open::start_and(&domain, &word, move || drop(wanted.lock()));
        open.go_on();
        let waiting = word.clone();
        let (waiter, _) = high(&domain, move |participant| participant.wait(&waiting));
        until(|| priority(Hosted.current()) == HIGH && priority(open.thread) == HIGH);
        drop(guard);
        assert_eq!(priority(Hosted.current()), NORMAL);
        waiter.join().unwrap();
        open.handle.join().unwrap();
    });
}

/// The section's thread wants a lock that the waiter has.
pub(crate) fn a_cycle_through_a_lock_is_reported(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let mutex: Arc<PiMutex> = Arc::default();
        let participant = domain.join();
        let guard = mutex.lock();
        let wanted = mutex.clone();
        let open = Open::start_and(&domain, &word, move || drop(wanted.lock()));
        open.go_on();
        // SAFETY: the address is only a name.
        let address = turnstile::Address::of(unsafe { mutex.raw() });
        until(|| Hosted::table().waiting(address, turnstile::Queue::Exclusive) == 1);
        let deadlock = participant.wait_or_deadlock(&word).unwrap_err();
        assert_eq!(deadlock.length(), 2);
        let message = panic_of(|| participant.wait(&word));
        assert!(message.contains("would never end: deadlock of 2 threads"), "{message}");
        drop(guard);
        assert_eq!(participant.wait_or_deadlock(&word), Ok(()));
        open.handle.join().unwrap();
    });
}

/// The same cycle, closed by the section's thread: a wait that would end by itself is given up for it.
pub(crate) fn a_timed_wait_on_a_cycle_gives_way(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let mutex: Arc<PiMutex> = Arc::default();
        let wanted = mutex.clone();
        let open = Open::start_and(&domain, &word, move || drop(wanted.lock()));
        let waiting = word.clone();
        let (waiter, thread) = high(&domain, move |participant| {
            let guard = mutex.lock();
            assert!(!participant.wait_timeout(&waiting, Duration::from_secs(1000)));
            drop(guard);
            participant.wait(&waiting);
        });
        until(|| is_blocked(thread));
        open.go_on();
        waiter.join().unwrap();
        open.handle.join().unwrap();
    });
}

pub(crate) fn waiting_for_the_own_section_is_reported(implementation: Implementation) {
    let domain = domain(implementation);
    let participant = domain.join();
    let word = GenerationWord::new();
    let section = begin_apart(&participant, &word);
    let deadlock = participant.wait_or_deadlock(&word).unwrap_err();
    assert_eq!(deadlock.length(), 1);
    if !cfg!(debug_assertions) {
        let message = panic_of(|| participant.wait(&word));
        assert!(message.contains("deadlock of 1 thread"), "{message}");
    }
    drop(section);
    assert_eq!(participant.wait_or_deadlock(&word), Ok(()));
    assert_eq!(priority(Hosted.current()), NORMAL);
}

/// Thread ids of the hosted scheduler carry a number of use: a later thread on the same record inherits nothing. The
/// participant, dropped elsewhere, takes back what was lent.
pub(crate) fn a_thread_that_ended_in_its_section_leaves_its_loan_to_nobody(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let (shared, marked) = (domain.clone(), word.clone());
        let (participant, ended) = std::thread::spawn(move || {
            let participant = shared.join();
            std::mem::forget(begin_apart(&participant, &marked));
            (participant, Hosted.current())
        })
        .join()
        .unwrap();
        let waiting = word.clone();
        let (waiter, thread) = high(&domain, move |participant| participant.wait(&waiting));
        let mut room = [turnstile::Edge {
            thread,
            address: turnstile::Address::new(0),
            queue: turnstile::Queue::Shared,
            token: 0,
            priority: Priority::LOWEST,
            owner: None,
            depth: 0,
        }];
        until(|| is_blocked(thread));
        assert_eq!(Hosted::table().chain_of(thread, &mut room), 1);
        assert_eq!(room[0].owner, Some(ended));
        // Some of these take the record of the one that ended.
        let inherited: Vec<_> = (0..8)
            .map(|_| std::thread::spawn(|| (Hosted.current(), priority(Hosted.current()))).join().unwrap())
            .collect();
        assert!(inherited.iter().all(|&(id, priority)| id != ended && priority == NORMAL), "{inherited:?}");
        drop(participant);
        waiter.join().unwrap();
        assert_eq!(Hosted::table().tree_of(ended, &mut room), 0);
        assert_eq!(domain.counters().di_forgotten, 1);
    });
}

/// Waits with short limits, against finishes: whichever comes first, no thread keeps a loan.
pub(crate) fn no_loan_is_left_over(implementation: Implementation) {
    within_a_minute(move || {
        let domain = domain(implementation);
        let word = Arc::new(GenerationWord::new());
        let stop = Arc::new(AtomicBool::new(false));
        let workers: Vec<_> = (0..2)
            .map(|_| {
                let (domain, word, stop) = (domain.clone(), word.clone(), stop.clone());
                std::thread::spawn(move || {
                    // A participant for a while, and then another one.
                    while !stop.load(SeqCst) {
                        let participant = domain.join();
                        for _ in 0..50 {
                            let section = participant.begin();
                            if implementation != Implementation::Sharded || !domain.is_complete(&word) {
                                std::thread::yield_now();
                            }
                            drop(section);
                        }
                    }
                    assert_eq!(priority(Hosted.current()), NORMAL);
                })
            })
            .collect();
        let marker = domain.join();
        let waiters: Vec<_> = (0..3)
            .map(|number| {
                let word = word.clone();
                high(&domain, move |participant| {
                    for round in 0..400 {
                        participant.wait_timeout(&word, Duration::from_micros(number * 30 + round % 50));
                    }
                })
                .0
            })
            .collect();
        while !waiters.iter().all(JoinHandle::is_finished) {
            let section = marker.begin();
            section.mark(&word);
            std::thread::sleep(Duration::from_micros(100));
            drop(section);
        }
        for waiter in waiters {
            waiter.join().unwrap();
        }
        stop.store(true, SeqCst);
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(priority(Hosted.current()), NORMAL);
    });
}
