//! The crate as a kernel embeds it: static domain, static slots, a scheduler and a spin lock of its own. Uses nothing of
//! the features `std` and `alloc`, and runs without them.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::*};

use gencount::{
    Domain, GenerationWord, Implementation, JoinError, PiTurnstiles, Priority, Scheduler, Slot, ThreadId,
};
use turnstile::LendingScheduler;

/// A test-and-set spin lock, as a kernel might bring.
struct Spin(AtomicBool);

// SAFETY: only a transition from false enters (Acquire), and the holder's unlock is a Release.
unsafe impl lock_api::RawMutex for Spin {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = lock_api::GuardNoSend;

    fn lock(&self) -> Self::Guard {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            std::thread::yield_now();
        }
    }

    fn try_lock(&self) -> Option<Self::Guard> {
        (!self.0.swap(true, Acquire)).then(lock_api::GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: Self::Guard) {
        self.0.store(false, Release);
    }

    fn is_locked(&self) -> bool {
        self.0.load(Relaxed)
    }
}

const CPUS: usize = 4;
const KINDS: usize = Implementation::ALL.len();

std::thread_local! {
    /// The number of the CPU that this thread plays, from 1.
    static CPU: core::cell::Cell<usize> = const { core::cell::Cell::new(0) };
}

/// One thread per CPU; parking spins on the CPU's token, as a kernel's idle loop does.
struct Kernel {
    tokens: [AtomicBool; CPUS],
    lent: [AtomicU8; CPUS],
}

impl Kernel {
    const fn new() -> Self {
        Self { tokens: [const { AtomicBool::new(false) }; CPUS], lent: [const { AtomicU8::new(0) }; CPUS] }
    }
}

// SAFETY: each thread of the test plays another CPU, for its whole life; the numbers of one test are not used by threads of
// another (each has a kernel of its own). Nothing calls a table or unwinds.
unsafe impl Scheduler for Kernel {
    type RawLock = Spin;

    fn current(&self) -> ThreadId {
        ThreadId::new(NonZeroUsize::new(CPU.get()).expect("a thread that plays a CPU"))
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        let lent = Priority::new(self.lent[thread.get().get() - 1].load(Relaxed));
        self.own_priority(thread).max(lent)
    }

    fn park(&self) {
        while !self.tokens[CPU.get() - 1].swap(false, Acquire) {
            std::thread::yield_now();
        }
    }

    fn unpark(&self, thread: ThreadId) {
        self.tokens[thread.get().get() - 1].store(true, Release);
    }
}

// SAFETY: numbers in an array. Nothing calls a table or unwinds.
unsafe impl LendingScheduler for Kernel {
    fn own_priority(&self, _: ThreadId) -> Priority {
        Priority::NORMAL
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        self.lent[thread.get().get() - 1].store(priority.level(), Relaxed);
    }

    fn unlend(&self, thread: ThreadId) {
        self.lent[thread.get().get() - 1].store(0, Relaxed);
    }
}

/// A kernel has one table for all of its threads, its locks' too. Each test here has a kernel of its own; one with a
/// single scheduler implements `turnstile::LockScheduler` for it instead.
type Table = PiTurnstiles<Kernel>;

/// Runs every CPU's part: each marks words in sections, and waits for those of the others.
fn run(domain: &'static Domain<&Table>, slots: &'static [Slot; CPUS]) {
    static WORDS: [[GenerationWord; CPUS]; KINDS] =
        [const { [const { GenerationWord::new() }; CPUS] }; KINDS];
    static DONE: [[AtomicU64; CPUS]; KINDS] = [const { [const { AtomicU64::new(0) }; CPUS] }; KINDS];
    let which = domain.implementation() as usize;
    let (words, done) = (&WORDS[which], &DONE[which]);
    let ready = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for cpu in 0..CPUS {
            let ready = &ready;
            scope.spawn(move || {
                CPU.set(cpu + 1);
                let participant = domain.join_with(&slots[cpu]).unwrap();
                ready.fetch_add(1, SeqCst);
                while ready.load(SeqCst) < CPUS {
                    std::thread::yield_now();
                }
                for round in 1..=500 {
                    let section = participant.begin();
                    // Only this CPU marks its own word, so no lock is needed.
                    section.mark(&words[cpu]);
                    if round % 8 == 0 {
                        std::thread::yield_now();
                    }
                    done[cpu].store(section.generation(), Relaxed);
                    drop(section);
                    let other = (cpu + 1) % CPUS;
                    let marked = words[other].get();
                    participant.wait(&words[other]);
                    assert!(done[other].load(Relaxed) >= marked);
                }
            });
        }
    });
    assert!(domain.scheduler().scheduler().lent.iter().all(|lent| lent.load(Relaxed) == 0));
    assert!(words.iter().all(|word| domain.is_complete(word)));
    if domain.implementation() != Implementation::Sharded {
        assert_eq!(domain.watermark(), 500 * CPUS as u64);
    }
    let counters = domain.counters();
    assert_eq!((counters.di_blocks, counters.di_wait_calls), (500 * CPUS as u64, 500 * CPUS as u64));
}

#[test]
fn locked_without_allocation() {
    static TABLE: Table = PiTurnstiles::new(Kernel::new());
    static DOMAIN: Domain<&Table> = Domain::new(Implementation::Locked, &TABLE);
    static SLOTS: [Slot; CPUS] = [const { Slot::new() }; CPUS];
    run(&DOMAIN, &SLOTS);
}

#[test]
fn sharded_without_allocation() {
    static TABLE: Table = PiTurnstiles::new(Kernel::new());
    static DOMAIN: Domain<&Table> = Domain::new(Implementation::Sharded, &TABLE);
    static SLOTS: [Slot; CPUS] = [const { Slot::new() }; CPUS];
    run(&DOMAIN, &SLOTS);
}

#[test]
fn lockfree_without_allocation() {
    static TABLE: Table = PiTurnstiles::new(Kernel::new());
    static DOMAIN: Domain<&Table> = Domain::new(Implementation::Lockfree, &TABLE);
    static SLOTS: [Slot; CPUS] = [const { Slot::new() }; CPUS];
    run(&DOMAIN, &SLOTS);
    CPU.set(1);
    let participant = DOMAIN.join_with(&SLOTS[0]).unwrap();
    assert_eq!(DOMAIN.join_with(&SLOTS[0]).unwrap_err(), JoinError::SlotTaken);
    drop(participant);
}
