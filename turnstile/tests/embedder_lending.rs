//! The chain table, lending, and the locks as a kernel embeds them: a scheduler of its own in static arrays, and an allocator that refuses
//! to work while a table is used, on both queues. Runs with default features off.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::*};
use std::time::{Duration, Instant};

use lock_api::{GuardNoSend, RawMutex};
use turnstile::{
    Address, Decision, Ending, LendingScheduler, LockScheduler, Outcome, PiTurnstiles, Priority, Queue,
    RawPiMutex, RawPiRwLock, ReadHolds, ReaderScheduler, Scheduler, ThreadId, Turnstiles,
};

/// The system's allocator, except for threads that said that they would do without: for them memory is exhausted.
struct Refusing;

std::thread_local! {
    static WITHOUT: Cell<bool> = const { Cell::new(false) };
    static NUMBER: Cell<usize> = const { Cell::new(0) };
}
static REFUSED: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, or no memory at all.
unsafe impl GlobalAlloc for Refusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if WITHOUT.try_with(Cell::get) == Ok(true) {
            REFUSED.fetch_add(1, SeqCst);
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Refusing = Refusing;

fn without_allocating<R>(action: impl FnOnce() -> R) -> R {
    WITHOUT.set(true);
    let result = action();
    WITHOUT.set(false);
    result
}

/// A test-and-set spin lock, as a kernel might bring.
struct Spin(AtomicBool);

// SAFETY: only a transition from false enters (Acquire), and the holder's unlock is a Release.
unsafe impl RawMutex for Spin {
    const INIT: Self = Self(AtomicBool::new(false));
    type Guard = GuardNoSend;

    fn lock(&self) -> GuardNoSend {
        loop {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            std::thread::yield_now();
        }
    }

    fn try_lock(&self) -> Option<GuardNoSend> {
        (!self.0.swap(true, Acquire)).then(GuardNoSend::new)
    }

    unsafe fn unlock(&self, _: GuardNoSend) {
        self.0.store(false, Release);
    }

    fn is_locked(&self) -> bool {
        self.0.load(Relaxed)
    }
}

const THREADS: usize = 8;

/// Run queues would look at these; the test does.
struct Kernel {
    own: [AtomicU8; THREADS],
    lent: [AtomicU8; THREADS],
    tokens: [AtomicBool; THREADS],
}

// SAFETY: numbers are given once each by the tests; tokens are one flag per thread.
unsafe impl Scheduler for Kernel {
    type RawLock = Spin;

    fn current(&self) -> ThreadId {
        ThreadId::new(NonZeroUsize::new(NUMBER.get()).expect("a thread of this kernel"))
    }

    fn priority(&self, thread: ThreadId) -> Priority {
        self.own_priority(thread).max(Priority::new(self.lent[thread.get().get()].load(SeqCst)))
    }

    fn park(&self) {
        while !self.tokens[NUMBER.get()].swap(false, Acquire) {
            std::thread::yield_now();
        }
    }

    fn unpark(&self, thread: ThreadId) {
        self.tokens[thread.get().get()].store(true, Release);
    }
}

// SAFETY: stores numbers.
unsafe impl LendingScheduler for Kernel {
    fn own_priority(&self, thread: ThreadId) -> Priority {
        Priority::new(self.own[thread.get().get()].load(SeqCst))
    }

    fn lend(&self, thread: ThreadId, priority: Priority) {
        self.lent[thread.get().get()].store(priority.level(), SeqCst);
    }

    fn unlend(&self, thread: ThreadId) {
        self.lent[thread.get().get()].store(0, SeqCst);
    }
}

// SAFETY: a static; small ids.
unsafe impl LockScheduler for Kernel {
    fn table() -> &'static PiTurnstiles<Self> {
        &TABLE
    }
}

// SAFETY: every thread has its own record, and all are visited.
unsafe impl ReaderScheduler for Kernel {
    fn read_holds(&self, thread: ThreadId) -> Option<&'static ReadHolds> {
        READ_HOLDS.get(thread.get().get())
    }

    fn each_thread(&self, visit: &mut dyn FnMut(ThreadId, &'static ReadHolds)) {
        READ_HOLDS.iter().enumerate().skip(1).for_each(|(number, holds)| visit(id(number), holds));
    }
}

static READ_HOLDS: [ReadHolds; THREADS] = [const { ReadHolds::new() }; THREADS];

static TABLE: PiTurnstiles<Kernel> = PiTurnstiles::new(Kernel {
    own: [const { AtomicU8::new(0) }; THREADS],
    lent: [const { AtomicU8::new(0) }; THREADS],
    tokens: [const { AtomicBool::new(false) }; THREADS],
});

fn id(number: usize) -> ThreadId {
    ThreadId::new(NonZeroUsize::new(number).unwrap())
}

/// Makes the current thread one of the kernel's.
fn enter(number: usize, own: u8) {
    NUMBER.set(number);
    TABLE.scheduler().own[number].store(own, SeqCst);
}

fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "the condition does not come true");
        std::thread::sleep(Duration::from_micros(200));
    }
}

static OUTER: lock_api::Mutex<RawPiMutex<Kernel>, u32> = lock_api::Mutex::new(0);
static INNER: lock_api::Mutex<RawPiMutex<Kernel>, u32> = lock_api::Mutex::new(0);
static SHARED: lock_api::RwLock<RawPiRwLock<Kernel>, u32> = lock_api::RwLock::new(0);
static EVENT: AtomicBool = AtomicBool::new(false);

/// One test, because the kernel's threads have fixed numbers.
#[test]
fn both_tables_and_the_locks_work_without_allocating() {
    enter(1, 10);
    lending_through_locks_and_both_queues();
    readers_and_a_writer();
    both_queues_of_the_chain_table();
    assert_eq!(REFUSED.load(SeqCst), 0, "something allocated");
}

fn priority(number: usize) -> u8 {
    TABLE.scheduler().priority(id(number)).level()
}

/// A writer lends to the readers inside.
fn readers_and_a_writer() {
    let reader = without_allocating(|| SHARED.read());
    std::thread::scope(|scope| {
        scope.spawn(|| {
            enter(2, 60);
            without_allocating(|| *SHARED.write() += 1);
        });
        until(|| priority(1) == 60);
        without_allocating(|| drop(reader));
    });
    assert_eq!((priority(1), *SHARED.read()), (10, 1));
}

/// Without lending, on the same scheduler.
fn both_queues_of_the_chain_table() {
    let table = Turnstiles::<&Kernel, 2>::new(TABLE.scheduler());
    for (queue, address) in [(Queue::Exclusive, Address::new(16)), (Queue::Shared, Address::new(32))] {
        let table = &table;
        std::thread::scope(|scope| {
            for number in [2, 3, 4] {
                scope.spawn(move || {
                    enter(number, number as u8);
                    let outcome = without_allocating(|| table.block(address, queue, 0, || true));
                    assert_eq!(outcome, Outcome::Woken);
                });
            }
            until(|| table.waiting(address, queue) == 3);
            without_allocating(|| {
                assert!(table.wake_one(address, queue).remaining);
                assert_eq!(table.wake_all(address, queue).count, 2);
            });
        });
    }
}

fn lending_through_locks_and_both_queues() {
    without_allocating(|| *INNER.lock() += 1);
    // SAFETY: locked on this thread, unlocked on this thread.
    let inner = unsafe { INNER.raw() };
    let guard = without_allocating(|| inner.lock());

    std::thread::scope(|scope| {
        // A chain: 3 waits for 2, which waits for this thread.
        scope.spawn(|| {
            enter(2, 20);
            without_allocating(|| {
                let mut outer = OUTER.lock();
                *outer += *INNER.lock();
            });
        });
        until(|| priority(1) == 20);
        scope.spawn(|| {
            enter(3, 30);
            without_allocating(|| *OUTER.lock() += 1);
        });
        until(|| priority(1) == 30);
        assert_eq!(priority(2), 30);
        // The shared queue of an event that this thread brings about.
        for number in [4, 5] {
            scope.spawn(move || {
                enter(number, 40 + number as u8);
                let ending = without_allocating(|| {
                    TABLE.block(Address::of(&EVENT), Queue::Shared, 0, |_| {
                        if EVENT.load(SeqCst) { Decision::Proceed } else { Decision::WaitFor(id(1)) }
                    })
                });
                assert_eq!(ending, Ok(Ending::Woken));
            });
        }
        until(|| priority(1) == 45 && TABLE.waiting(Address::of(&EVENT), Queue::Shared) == 2);
        without_allocating(|| {
            EVENT.store(true, SeqCst);
            assert_eq!(TABLE.wake_all(Address::of(&EVENT), Queue::Shared).count, 2);
        });
        assert_eq!(priority(1), 30);
        // SAFETY: locked above, on this thread.
        without_allocating(|| unsafe { inner.unlock(guard) });
        assert_eq!(priority(1), 10);
    });
    assert_eq!(*OUTER.lock(), 2);
}
