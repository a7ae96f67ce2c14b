//! The torture: threads that map, unmap, protect, copy the process and store to each other's arenas, as fast as they can.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{Backing, Finding, Hint, READ, Tally, WRITE};
use crate::access::{load, load_if_possible, store, store_if_possible};
use crate::call;
use crate::dice::{Dice, mix};
use crate::lane::{self, ARENA_PAGES, FILE_PAGES, MAX_THREADS, SHARED, SHARED_PAGES, STACK_PAGES};
use crate::notes::{Notes, Part};
use crate::stamp::{PAGE, Stamp, sum};

/// How a copy of the process ends that found nothing wrong.
const CHILD_STATUS: u64 = 0x600d;
/// Stores to arenas after each step.
const WILD_STORES: u64 = 48;

/// What the threads of a process have in common. Written by the first one before there is another.
static PROCESS: AtomicU64 = AtomicU64::new(0);
static SEED: AtomicU64 = AtomicU64::new(0);
static THREADS: AtomicU64 = AtomicU64::new(0);
static UNTIL: AtomicU64 = AtomicU64::new(0);

/// The first thread: starts the others and joins them.
pub(crate) fn run(process: u64, seed: u64, threads: u64, until: u64) -> ! {
    let threads = threads.clamp(1, MAX_THREADS);
    for (word, value) in [(&PROCESS, process), (&SEED, seed), (&THREADS, threads), (&UNTIL, until)] {
        // ORD: Relaxed; the system call that begins a thread orders it.
        word.store(value, Ordering::Relaxed);
    }
    if call::map(SHARED, SHARED_PAGES, READ | WRITE, Backing::Shared, 0).is_err() {
        call::fail();
    }
    for thread in 1..threads {
        let top = lane::stack_top(thread);
        let mapped = call::map(top - STACK_PAGES * PAGE, STACK_PAGES, READ | WRITE, Backing::Anonymous, 0);
        if mapped.and_then(|()| call::spawn(work, top, thread, PRIORITY)).is_err() {
            call::fail();
        }
    }
    work(0)
}

/// The usual one of user threads.
const PRIORITY: u8 = 100;

/// One thread's work.
extern "C" fn work(thread: u64) -> ! {
    // ORD: Relaxed, all; as in `run`.
    let (process, seed) = (PROCESS.load(Ordering::Relaxed), SEED.load(Ordering::Relaxed));
    let (threads, until) = (THREADS.load(Ordering::Relaxed), UNTIL.load(Ordering::Relaxed)); // ORD: as above
    let mut worker = Worker::new(process, thread, threads, seed);
    while call::ticks() < until {
        worker.step();
        worker.store_wildly();
        worker.steps += 1;
    }
    worker.end();
    call::exit(0)
}

struct Worker {
    process: u64,
    thread: u64,
    threads: u64,
    dice: Dice,
    notes: Notes,
    /// The value that this thread's word of shared memory has.
    shared: u64,
    /// Sum over the pages of the file.
    file: u64,
    steps: u64,
    wild_stores: u64,
    wild_faults: u64,
    forks: u64,
}

impl Worker {
    fn new(process: u64, thread: u64, threads: u64, seed: u64) -> Self {
        let number = process * MAX_THREADS + thread;
        let mut worker = Self {
            process,
            thread,
            threads,
            dice: Dice::new(mix(seed) ^ number),
            notes: Notes::new(thread, number),
            shared: 0,
            file: 0,
            steps: 0,
            wild_stores: 0,
            wild_faults: 0,
            forks: 0,
        };
        worker.notes.replace(Part::ALL, true);
        worker.map(lane::arena(thread), ARENA_PAGES, READ | WRITE, Backing::Anonymous);
        worker.map(lane::file(thread), FILE_PAGES, READ, Backing::File);
        worker.file = sum(lane::file(thread), FILE_PAGES);
        worker
    }

    fn map(&self, at: u64, pages: u64, rights: u64, backing: Backing) {
        if call::map(at, pages, rights, backing, 0).is_err() {
            call::fail();
        }
    }

    fn step(&mut self) {
        let part = Part::random(&mut self.dice);
        self.notes.check(part);
        match self.dice.below(100) {
            0..25 => self.notes.stamp(part),
            25..42 => {
                let map = !self.dice.one_in(5);
                self.notes.replace(part, map);
            }
            42..56 => {
                let rights = [0, READ, READ | WRITE, READ | WRITE][self.dice.below(4) as usize];
                self.notes.protect(part, rights);
            }
            56..64 => {
                let hint = if self.dice.one_in(2) { Hint::Idle } else { Hint::PageOut };
                self.notes.advise(part, hint);
            }
            64..68 => return self.fork(),
            68..80 => self.replace_arena(),
            80..88 => self.freeze_arena(),
            88..94 => self.use_shared(),
            _ => self.use_file(),
        }
        self.notes.check(part);
    }

    /// Unmaps the arena while others store to it; new stamps take its frames at once.
    fn replace_arena(&mut self) {
        let arena = lane::arena(self.thread);
        if call::unmap(arena, ARENA_PAGES).is_err() {
            call::fail();
        }
        if let Some(word) = load_if_possible(arena + self.dice.below(ARENA_PAGES) * PAGE) {
            call::report(Finding::Rights, arena, 0, word);
        }
        let part = Part::random(&mut self.dice);
        self.notes.stamp(part);
        self.notes.check(part);
        self.map(arena, ARENA_PAGES, READ | WRITE, Backing::Anonymous);
    }

    /// Takes the right to write away while others store: nothing may change afterwards.
    fn freeze_arena(&mut self) {
        let arena = lane::arena(self.thread);
        if call::protect(arena, ARENA_PAGES, READ).is_err() {
            call::fail();
        }
        let before = sum(arena, ARENA_PAGES);
        call::yield_now();
        let after = sum(arena, ARENA_PAGES);
        if before != after {
            call::report(Finding::ReadOnlyChanged, arena, before, after);
        }
        if call::protect(arena, ARENA_PAGES, READ | WRITE).is_err() {
            call::fail();
        }
    }

    /// Goes on counting in this thread's word of the memory that all processes share.
    fn use_shared(&mut self) {
        let word = lane::shared_word(self.process, self.thread);
        let found = load(word);
        if found != self.shared {
            call::report(Finding::SharedWord, word, self.shared, found);
        }
        self.shared = found + 1;
        store(word, self.shared);
    }

    /// Looks at the file, of which one page is sometimes a private copy.
    fn use_file(&mut self) {
        let at = lane::file(self.thread);
        let now = sum(at, FILE_PAGES);
        if now != self.file {
            call::report(Finding::FileChanged, at, self.file, now);
        }
        if self.dice.one_in(2) && call::protect(at, FILE_PAGES, READ | WRITE).is_ok() {
            let own = at + self.dice.below(FILE_PAGES) * PAGE;
            let stamp = Stamp::Made { owner: self.thread, version: self.steps };
            stamp.put(own);
            stamp.check(own);
            if call::unmap(at, FILE_PAGES).is_err() {
                call::fail();
            }
            self.map(at, FILE_PAGES, READ, Backing::File);
        }
    }

    /// Stores to the arenas of all threads, whether they are there or not.
    fn store_wildly(&mut self) {
        for _ in 0..WILD_STORES {
            let arena = lane::arena(self.dice.below(self.threads));
            let word = arena + self.dice.below(ARENA_PAGES * PAGE / 8) * 8;
            if store_if_possible(word, self.dice.next()) {
                self.wild_stores += 1;
            } else {
                self.wild_faults += 1;
            }
        }
    }

    /// Copies the process; both go on with what was private, and the original goes on storing to arenas that the copy watches.
    fn fork(&mut self) {
        self.notes.check(Part::ALL);
        match call::fork() {
            Ok(0) => self.be_child(),
            Ok(child) => {
                self.forks += 1;
                self.store_wildly();
                let part = Part::random(&mut self.dice);
                self.notes.stamp(part);
                self.notes.check(Part::ALL);
                match call::wait(child) {
                    Ok(CHILD_STATUS) => {}
                    Ok(status) => call::report(Finding::Child, child, CHILD_STATUS, status),
                    Err(_) => call::fail(),
                }
                self.notes.check(Part::ALL);
            }
            // There may be no memory for it.
            Err(_) => call::sleep(1),
        }
    }

    fn be_child(&mut self) -> ! {
        let before = self.sum_of_arenas();
        self.notes.check(Part::ALL);
        self.notes.set_owner(self.dice.next());
        let part = Part::random(&mut self.dice);
        self.notes.stamp(part);
        if self.dice.one_in(3) {
            let part = Part::random(&mut self.dice);
            self.notes.replace(part, true);
        }
        self.notes.check(Part::ALL);
        let after = self.sum_of_arenas();
        if before != after {
            call::report(Finding::CopyChanged, lane::arena(0), before, after);
        }
        call::exit(CHILD_STATUS)
    }

    /// A sum over one word of each page of all arenas, those that are not there included.
    fn sum_of_arenas(&self) -> u64 {
        let mut sum = 0;
        for thread in 0..self.threads {
            for word in (0..ARENA_PAGES * PAGE / 8).step_by(61) {
                sum = mix(sum ^ load_if_possible(lane::arena(thread) + word * 8).unwrap_or(word));
            }
        }
        sum
    }

    fn end(&mut self) {
        self.notes.check(Part::ALL);
        self.use_shared();
        call::tally(Tally::Steps, self.steps);
        call::tally(Tally::PagesChecked, self.notes.checked);
        call::tally(Tally::WildStores, self.wild_stores);
        call::tally(Tally::WildFaults, self.wild_faults);
        call::tally(Tally::Forks, self.forks);
    }
}
