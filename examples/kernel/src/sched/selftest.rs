//! Checks of the scheduler on this machine, on all its CPUs.

use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use gencount::GenerationWord;
use pmap::CpuId;
use turnstile::Priority;

use super::{
    Handle, Mutex, RwLock, current, domain, set_priority, sleep, spawn, spawn_on, ticks, without_preemption,
    yield_now,
};
use crate::arch::percpu;
use crate::programs::report::Report;

/// Less urgent than the thread that checks.
const LOW: Priority = Priority::new(40);
const MIDDLE: Priority = Priority::new(80);
/// More urgent than the thread that checks.
const HIGH: Priority = Priority::new(200);
/// Ticks within which an emulated CPU surely gets to do something.
const SOON: u64 = 200;

/// Runs the checks, on a thread of normal priority.
pub(crate) fn run(report: &mut Report) {
    every_cpu(report);
    equals(report);
    urgency(report);
    staying(report);
    sleeping(report);
    mutex(report);
    loans(report);
    readers(report);
    time_limits(report);
    delayed_invalidation(report);
}

fn cpus() -> impl Iterator<Item = CpuId> {
    (0..percpu::cpu_count()).filter_map(CpuId::new)
}

fn join(threads: impl IntoIterator<Item = Handle>) {
    threads.into_iter().for_each(Handle::join);
}

/// Starts a thread, which a self-test cannot do without.
fn start(priority: Priority, body: impl FnOnce() + Send + 'static) -> Handle {
    spawn("selftest", priority, body).expect("memory for a few threads")
}

fn start_on(cpu: CpuId, priority: Priority, body: impl FnOnce() + Send + 'static) -> Handle {
    spawn_on(cpu, "selftest", priority, body).expect("memory for a few threads")
}

/// Waits, without hogging the CPU, until it is so; gives up in time.
fn until(mut condition: impl FnMut() -> bool) -> bool {
    let end = ticks() + SOON;
    while !condition() {
        if ticks() >= end {
            return false;
        }
        sleep(1);
    }
    true
}

/// Spins until it is so; gives up in time.
fn spin_until(condition: impl Fn() -> bool) -> bool {
    let end = ticks() + SOON;
    while !condition() {
        if ticks() >= end {
            return false;
        }
        core::hint::spin_loop();
    }
    true
}

/// A flag that threads share.
#[derive(Clone)]
struct Flag(Arc<AtomicBool>);

impl Flag {
    fn new() -> Self {
        Self(Arc::new(AtomicBool::new(false)))
    }

    fn set(&self) {
        // ORD: Release pairs with the Acquire in `is_set`.
        self.0.store(true, Ordering::Release);
    }

    fn is_set(&self) -> bool {
        // ORD: Acquire pairs with the Release in `set`.
        self.0.load(Ordering::Acquire)
    }
}

fn every_cpu(report: &mut Report) {
    let at = Arc::new(AtomicUsize::new(0));
    join(cpus().map(|cpu| {
        let at = at.clone();
        start_on(cpu, HIGH, move || {
            let here = without_preemption(percpu::current_cpu);
            // ORD: Relaxed: read after the joins.
            at.fetch_add(usize::from(here == cpu), Ordering::Relaxed);
        })
    }));
    // ORD: Relaxed: the threads have ended.
    let right = at.load(Ordering::Relaxed);
    report.check("a thread on every CPU", right == percpu::cpu_count(), || {
        format!("{right} ran where they should")
    });
}

/// Two threads on each CPU, each of which spins until the other has run: only a timer that takes turns lets both end.
fn equals(report: &mut Report) {
    let failures = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = cpus()
        .flat_map(|cpu| {
            let flags = [Flag::new(), Flag::new()];
            [0, 1].map(|me| {
                let (flags, failures) = (flags.clone(), failures.clone());
                start_on(cpu, MIDDLE, move || {
                    flags[me].set();
                    let met = spin_until(|| flags[1 - me].is_set());
                    // ORD: Relaxed: read after the joins.
                    failures.fetch_add(usize::from(!met), Ordering::Relaxed);
                })
            })
        })
        .collect();
    join(threads);
    // ORD: Relaxed: the threads have ended.
    let failures = failures.load(Ordering::Relaxed);
    report.check("equals take turns", failures == 0, || format!("{failures} threads never met their equal"));
}

/// A hog on every CPU; a more urgent thread, bound to none, runs at once, and a less urgent one does not before the hogs have ended.
fn urgency(report: &mut Report) {
    let (stop, ran) = (Flag::new(), Flag::new());
    let hogs: Vec<_> = cpus()
        .map(|cpu| {
            let stop = stop.clone();
            start_on(cpu, MIDDLE, move || {
                spin_until(|| stop.is_set());
            })
        })
        .collect();
    let low = start(LOW, {
        let ran = ran.clone();
        move || ran.set()
    });
    sleep(10);
    let early = ran.is_set();
    let begin = ticks();
    start(HIGH, || {}).join();
    let urgent = ticks() - begin;
    stop.set();
    join(hogs);
    low.join();
    report.check("the more urgent goes first", urgent < SOON / 2, || format!("{urgent} ticks"));
    report.check("the less urgent waits", !early, || "it ran while hogs had every CPU".into());
}

/// A thread that stays on its CPU makes no room, and does as soon as it may.
fn staying(report: &mut Report) {
    let mut early = 0;
    let mut late = 0;
    for cpu in cpus() {
        let (begun, ran) = (Flag::new(), Flag::new());
        let outcome = Arc::new(AtomicUsize::new(0));
        let stays = start_on(cpu, MIDDLE, {
            let (begun, ran, outcome) = (begun.clone(), ran.clone(), outcome.clone());
            move || {
                let inside = without_preemption(|| {
                    begun.set();
                    let end = ticks() + 5;
                    while ticks() < end {
                        core::hint::spin_loop();
                    }
                    ran.is_set()
                });
                // On the same CPU the more urgent one has run before this line, unless it was not there yet.
                let after = spin_until(|| ran.is_set());
                // ORD: Relaxed: read after the join.
                outcome.store(usize::from(inside) | usize::from(!after) << 1, Ordering::Relaxed);
            }
        });
        until(|| begun.is_set());
        let urgent = start_on(cpu, HIGH, move || ran.set());
        join([stays, urgent]);
        // ORD: Relaxed: the thread has ended.
        let outcome = outcome.load(Ordering::Relaxed);
        early += outcome & 1;
        late += outcome >> 1;
    }
    report.check("who stays is not preempted", early == 0, || format!("on {early} CPUs"));
    report.check("who stayed makes room", late == 0, || format!("not on {late} CPUs"));
}

fn sleeping(report: &mut Report) {
    let begin = ticks();
    sleep(5);
    let slept = ticks() - begin;
    report.check("sleep", (5..SOON).contains(&slept), || format!("{slept} ticks instead of 5"));
}

fn mutex(report: &mut Report) {
    const ROUNDS: u64 = 300;
    let sum = Arc::new(Mutex::new(0_u64));
    let threads = 3 * percpu::cpu_count() as u64;
    let started: Vec<_> = (0..threads)
        .map(|_| {
            let sum = sum.clone();
            start(MIDDLE, move || {
                for round in 0..ROUNDS {
                    let mut sum = sum.lock();
                    let before = *sum;
                    if round % 16 == 0 {
                        yield_now();
                    }
                    *sum = before + 1;
                }
            })
        })
        .collect();
    join(started);
    let sum = *sum.lock();
    report.check("a mutex excludes", sum == threads * ROUNDS, || format!("{sum} of {}", threads * ROUNDS));
}

/// Holder and waiter are less urgent than the checker, who must get a CPU meanwhile.
fn loans(report: &mut Report) {
    let (held, release) = (Flag::new(), Flag::new());
    let seen = Arc::new(AtomicU64::new(0));
    let lock = Arc::new(Mutex::new(()));
    let low = start(LOW, {
        let (held, release, seen, lock) = (held.clone(), release.clone(), seen.clone(), lock.clone());
        move || {
            let guard = lock.lock();
            held.set();
            spin_until(|| release.is_set());
            let lent = current().priority();
            drop(guard);
            let after = current().priority();
            let levels = u64::from(lent.level()) | u64::from(after.level()) << 8;
            seen.store(levels, Ordering::Relaxed); // ORD: read after the join
        }
    });
    let taken = until(|| held.is_set());
    let waiter = start(MIDDLE, move || drop(lock.lock()));
    sleep(5);
    release.set();
    join([low, waiter]);
    let levels = seen.load(Ordering::Relaxed); // ORD: the thread has ended
    let expected = u64::from(MIDDLE.level()) | u64::from(LOW.level()) << 8;
    report.check("a loan comes and goes", taken && levels == expected, || {
        format!("{levels:#x} not {expected:#x}")
    });
    let own = current().own_priority();
    set_priority(current(), MIDDLE);
    let changed = current().priority();
    set_priority(current(), own);
    report.check("a thread's own priority", changed == MIDDLE, || format!("{changed:?} after it was set"));
}

fn readers(report: &mut Report) {
    let lock = Arc::new(RwLock::new(0_u64));
    let inside = Arc::new(AtomicUsize::new(0));
    let together = [0, 1].map(|_| {
        let (lock, inside) = (lock.clone(), inside.clone());
        start(MIDDLE, move || {
            let _share = lock.read();
            // ORD: Relaxed: a count that the other waits for.
            inside.fetch_add(1, Ordering::Relaxed);
            until(|| inside.load(Ordering::Relaxed) >= 2); // ORD: as above
        })
    });
    let met = until(|| inside.load(Ordering::Relaxed) >= 2); // ORD: as above
    let writers = [0, 1].map(|_| {
        let lock = lock.clone();
        start(MIDDLE, move || (0..200).for_each(|_| *lock.write() += 1))
    });
    join(together);
    join(writers);
    let sum = *lock.read();
    report.check("readers share, writers do not", met && sum == 400, || format!("met: {met}, {sum} of 400"));
}

fn time_limits(report: &mut Report) {
    let lock = Arc::new(Mutex::new(()));
    let guard = lock.lock();
    let gave_up = Flag::new();
    let waiter = start(HIGH, {
        let (lock, gave_up) = (lock.clone(), gave_up.clone());
        move || {
            let begin = ticks();
            if lock.try_lock_for(3).is_none() && ticks() - begin >= 3 {
                gave_up.set();
            }
        }
    });
    waiter.join();
    drop(guard);
    report.check("a wait with a limit ends", gave_up.is_set(), || {
        "it got a lock that was held, or returned early".into()
    });
}

/// Who waits for a section waits until it has finished.
fn delayed_invalidation(report: &mut Report) {
    let word = Arc::new(GenerationWord::new());
    let (open, finish, finished) = (Flag::new(), Flag::new(), Flag::new());
    let early = Flag::new();
    let section = start(LOW, {
        let (word, open, finish, finished) = (word.clone(), open.clone(), finish.clone(), finished.clone());
        move || {
            let section = current().participant().begin();
            section.mark(&word);
            open.set();
            spin_until(|| finish.is_set());
            finished.set();
            drop(section);
        }
    });
    let opened = until(|| open.is_set());
    let waiter = start(MIDDLE, {
        let (word, early, finished) = (word.clone(), early.clone(), finished.clone());
        move || {
            current().participant().wait(&word);
            if !finished.is_set() {
                early.set();
            }
        }
    });
    sleep(5);
    let waits = !waiter.is_finished();
    finish.set();
    join([section, waiter]);
    let right = opened && waits && !early.is_set() && domain().is_complete(&word);
    report.check("a wait for delayed invalidation", right, || format!("opened {opened}, waits {waits}"));
}
