//! Begin and finish as a kernel would call them, under names that can be found in the assembly.
//!
//! `.ci/assembly` builds this and compares the locked instructions of the functions below, and of what they call of the queue,
//! with `gencount/assembly/x86_64.txt`. Run, it shows that they work: `cargo run --example hot_path`.

use core::num::NonZeroUsize;
use core::sync::atomic::{AtomicBool, Ordering};

use gencount::{
    Domain, GenerationWord, Lockfree, Participant, PiTurnstiles, Priority, Scheduler, Sharded, Slot, Static,
    ThreadId,
};
use lock_api::{GuardNoSend, RawMutex};
use turnstile::LendingScheduler;

/// A scheduler of one thread, which never has to wait.
struct Alone;

/// Its lock.
struct Flag(AtomicBool);

// SAFETY: only a transition from false enters (Acquire), and the holder's unlock is a Release.
unsafe impl RawMutex for Flag {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = GuardNoSend;

    fn lock(&self) -> GuardNoSend {
        self.try_lock().expect("there is one thread")
    }

    fn try_lock(&self) -> Option<GuardNoSend> {
        (!self.0.swap(true, Ordering::Acquire)).then(GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: GuardNoSend) {
        self.0.store(false, Ordering::Release);
    }

    fn is_locked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

// SAFETY: one thread, one id; the flag excludes; nothing unwinds but a lock that is taken twice, which is an error.
unsafe impl Scheduler for Alone {
    type RawLock = Flag;

    fn current(&self) -> ThreadId {
        ThreadId::new(NonZeroUsize::MIN)
    }

    fn priority(&self, _: ThreadId) -> Priority {
        Priority::NORMAL
    }

    fn park(&self) {}

    fn unpark(&self, _: ThreadId) {}
}

// SAFETY: does nothing.
unsafe impl LendingScheduler for Alone {
    fn own_priority(&self, _: ThreadId) -> Priority {
        Priority::NORMAL
    }

    fn lend(&self, _: ThreadId, _: Priority) {}

    fn unlend(&self, _: ThreadId) {}
}

type Table = PiTurnstiles<Alone>;
type Member<D> = Participant<&'static Table, D>;

static TABLE: Table = PiTurnstiles::new(Alone);

/// The functions that are looked at.
mod looked_at {
    use super::{Lockfree, Member, Sharded};

    macro_rules! pair {
        ($implementation:ident, $begin:ident, $finish:ident) => {
            // SAFETY: no other symbol of the program has this name.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub(crate) extern "C" fn $begin(participant: &Member<$implementation>) -> u64 {
                participant.begin_raw()
            }

            // SAFETY: no other symbol of the program has this name.
            #[unsafe(no_mangle)]
            #[inline(never)]
            pub(crate) extern "C" fn $finish(participant: &Member<$implementation>) {
                participant.finish_raw();
            }
        };
    }

    pair!(Lockfree, gencount_lockfree_begin, gencount_lockfree_finish);
    pair!(Sharded, gencount_sharded_begin, gencount_sharded_finish);
}

fn run<D: Static>(
    domain: &'static Domain<&'static Table, D>,
    slot: &'static Slot,
    begin: extern "C" fn(&Member<D>) -> u64,
    finish: extern "C" fn(&Member<D>),
) {
    let participant = domain.join_with(slot).expect("a new slot");
    let word = GenerationWord::new();
    for _ in 0..3 {
        let generation = begin(&participant);
        participant.mark(&word);
        assert!(!domain.is_complete(&word));
        finish(&participant);
        assert!(domain.is_complete(&word));
        println!("{}: section {generation} began and finished", domain.implementation());
    }
}

fn main() {
    static LOCKFREE: Domain<&Table, Lockfree> = Domain::fixed(&TABLE);
    static SHARDED: Domain<&Table, Sharded> = Domain::fixed(&TABLE);
    static SLOTS: [Slot; 2] = [const { Slot::new() }; 2];
    run(&LOCKFREE, &SLOTS[0], looked_at::gencount_lockfree_begin, looked_at::gencount_lockfree_finish);
    run(&SHARDED, &SLOTS[1], looked_at::gencount_sharded_begin, looked_at::gencount_sharded_finish);
}
