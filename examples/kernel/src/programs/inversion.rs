//! Priority inversion, with lending and without.
//!
//! A thread of low priority is in a section that lasts a few ticks. A hog of medium priority runs on every CPU, so that the low thread gets none. A thread of
//! high priority must wait for the section. With lending the low thread runs as urgently as its waiter, before the hogs, and the
//! wait lasts as long as the section. Without, it lasts until the hogs end: the programme ends them after [`LIMIT`] ticks.
//!
//! What is waited for is a mutex, a reader of a reader-writer lock, a section of delayed invalidation, or the last of a chain of three mutexes whose
//! owners wait for each other.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use gencount::GenerationWord;
use pmap::CpuId;
use serde_json::json;
use turnstile::{LockScheduler as _, Priority, ThreadId};

use super::arguments::Arguments;
use super::report::Report;
use crate::arch::percpu;
use crate::arch::serial::println;
use crate::boot::BootInfo;
use crate::sched::{
    Handle, KernelScheduler, Mutex, RwLock, current, set_lending, set_priority, sleep, spawn, spawn_on, ticks,
};

const LOW: Priority = Priority::new(50);
/// Of those between the low and the high thread in a chain; still less urgent than the hogs.
const LINK: Priority = Priority::new(60);
const MEDIUM: Priority = Priority::new(100);
const HIGH: Priority = Priority::new(150);
/// Of the thread that watches.
const WATCHER: Priority = Priority::new(250);

/// How long the section lasts.
const SECTION: u64 = 5;
/// A wait up to this counts as bounded: the section, and generous time for an emulator whose host is busy.
const BOUND: u64 = SECTION + 45;
/// When the hogs are stopped.
const LIMIT: u64 = 2 * BOUND;

/// Runs the programme.
pub(crate) fn run(arguments: &Arguments, _: &'static BootInfo) -> Report {
    let mut report = Report::new("inversion");
    let own = current().own_priority();
    set_priority(current(), WATCHER);
    for scene in SCENES {
        let waits = [false, true].map(|lends| {
            set_lending(lends);
            let outcome = play(scene);
            judge(&mut report, scene, lends, &outcome);
            outcome.waited
        });
        let [without, with] = waits;
        report.figure(scene.key, json!({ "ticks_with_lending": with, "ticks_without_lending": without }));
    }
    set_lending(arguments.lending);
    set_priority(current(), own);
    report.figure("section_ticks", SECTION);
    report.figure("hogs_end_after_ticks", LIMIT);
    report
}

/// What happened.
struct Outcome {
    /// Ticks that the high thread waited.
    waited: u64,
    /// The largest priority of the low thread inside its section, and its priority after it.
    inside: Priority,
    after: Priority,
    /// Whether the high thread was waiting when the hogs had begun.
    blocked: bool,
}

fn judge(report: &mut Report, scene: &Scene, lends: bool, outcome: &Outcome) {
    let (name, waited) = (scene.name, outcome.waited);
    let how = if lends { "with lending" } else { "without lending" };
    let cut = if waited >= LIMIT { ", cut off" } else { "" };
    println!("  {name}, {how}: the high thread waited {waited} ticks{cut}");
    report.check(&format!("{name}, {how}: it came to a wait"), outcome.blocked, || {
        "the high thread was not blocked when the hogs had begun".into()
    });
    let bounded = waited <= BOUND;
    let right = if lends { bounded } else { waited >= LIMIT };
    let word = if lends { "bounded" } else { "unbounded" };
    report.check(&format!("{name}, {how}: the wait is {word}"), right, || {
        format!("{waited} ticks; the section has {SECTION}, the bound is {BOUND}, the hogs end after {LIMIT}")
    });
    let loan = if lends { HIGH } else { LOW };
    report.check(
        &format!("{name}, {how}: priorities"),
        outcome.inside == loan && outcome.after == LOW,
        || format!("{} inside and {} after", outcome.inside.level(), outcome.after.level()),
    );
}

/// What threads wait for.
struct Scene {
    name: &'static str,
    key: &'static str,
    /// Starts the low thread, and those between, and gives what the high thread is to do.
    set: fn(&Arc<Stage>) -> (Vec<Handle>, Body),
}

type Body = Box<dyn FnOnce() + Send>;

const SCENES: &[Scene] = &[
    Scene { name: "a mutex", key: "mutex", set: mutex },
    Scene { name: "a reader", key: "reader", set: reader },
    Scene { name: "delayed invalidation", key: "delayed_invalidation", set: delayed },
    Scene { name: "a chain of three", key: "chain_of_three", set: chain },
];

/// What the threads of a scene share.
#[derive(Default)]
struct Stage {
    /// The low thread is in its section.
    inside: AtomicBool,
    /// The hogs run: the section's time begins.
    begun: AtomicBool,
    /// The hogs are to end.
    stop: AtomicBool,
    /// Levels of the low thread: the largest inside, and the one after.
    levels: [AtomicU64; 2],
    /// The tick at which the high thread's wait was over.
    over: AtomicU64,
}

fn set(flag: &AtomicBool) {
    // ORD: Release pairs with the Acquire in `is`.
    flag.store(true, Ordering::Release);
}

fn is(flag: &AtomicBool) -> bool {
    // ORD: Acquire pairs with the Release in `set`.
    flag.load(Ordering::Acquire)
}

/// The section: lasts until the hogs have begun, and then [`SECTION`] ticks more.
fn section(stage: &Stage) {
    set(&stage.inside);
    while !is(&stage.begun) {
        core::hint::spin_loop();
    }
    let end = ticks() + SECTION;
    while ticks() < end {
        note(&stage.levels[0]);
        core::hint::spin_loop();
    }
}

fn note(level: &AtomicU64) {
    // ORD: Relaxed: read after the joins.
    level.fetch_max(current().priority().level().into(), Ordering::Relaxed);
}

fn low(stage: &Arc<Stage>, body: impl FnOnce(&Stage) + Send + 'static) -> Handle {
    let low = start(LOW, {
        let stage = stage.clone();
        move || {
            body(&stage);
            note(&stage.levels[1]);
        }
    });
    while !is(&stage.inside) {
        sleep(1);
    }
    low
}

fn mutex(stage: &Arc<Stage>) -> (Vec<Handle>, Body) {
    let lock = Arc::new(Mutex::new(()));
    let low = low(stage, {
        let lock = lock.clone();
        move |stage| {
            let _held = lock.lock();
            section(stage);
        }
    });
    (Vec::from([low]), Box::new(move || drop(lock.lock())))
}

fn reader(stage: &Arc<Stage>) -> (Vec<Handle>, Body) {
    let lock = Arc::new(RwLock::new(()));
    let low = low(stage, {
        let lock = lock.clone();
        move |stage| {
            let _share = lock.read();
            section(stage);
        }
    });
    (Vec::from([low]), Box::new(move || drop(lock.write())))
}

fn delayed(stage: &Arc<Stage>) -> (Vec<Handle>, Body) {
    let word = Arc::new(GenerationWord::new());
    let low = low(stage, {
        let word = word.clone();
        move |stage| {
            let open = current().participant().begin();
            open.mark(&word);
            section(stage);
        }
    });
    (Vec::from([low]), Box::new(move || current().participant().wait(&word)))
}

fn chain(stage: &Arc<Stage>) -> (Vec<Handle>, Body) {
    let locks: [Arc<Mutex<()>>; 3] = Default::default();
    let mut threads = Vec::from([low(stage, {
        let lock = locks[0].clone();
        move |stage| {
            let _held = lock.lock();
            section(stage);
        }
    })]);
    for pair in locks.windows(2) {
        let (wanted, own) = (pair[0].clone(), pair[1].clone());
        let link = start(LINK, move || {
            let _own = own.lock();
            drop(wanted.lock());
        });
        wait_for_block(link.id());
        threads.push(link);
    }
    let [.., last] = locks;
    (threads, Box::new(move || drop(last.lock())))
}

/// Waits until a thread waits; in vain, for as long as it surely would take.
fn wait_for_block(thread: ThreadId) -> bool {
    (0..BOUND).any(|_| {
        sleep(1);
        KernelScheduler::table().chain_of(thread, &mut []) > 0
    })
}

fn play(scene: &Scene) -> Outcome {
    let stage = Arc::new(Stage::default());
    let (mut threads, wait) = (scene.set)(&stage);
    let high = start(HIGH, {
        let stage = stage.clone();
        move || {
            wait();
            // ORD: Relaxed: read after the join.
            stage.over.store(ticks(), Ordering::Relaxed);
        }
    });
    let blocked = wait_for_block(high.id());
    for cpu in (0..percpu::cpu_count()).filter_map(CpuId::new) {
        let stage = stage.clone();
        let hog = spawn_on(cpu, "hog", MEDIUM, move || {
            while !is(&stage.stop) {
                core::hint::spin_loop();
            }
        });
        threads.push(hog.expect("memory for a hog on every CPU"));
    }
    let begin = ticks();
    set(&stage.begun);
    while ticks() < begin + LIMIT && !high.is_finished() {
        sleep(1);
    }
    set(&stage.stop);
    high.join();
    threads.into_iter().for_each(Handle::join);
    // ORD: Relaxed, all: the threads have ended.
    let level = |index: usize| Priority::new(stage.levels[index].load(Ordering::Relaxed) as u8);
    Outcome {
        waited: stage.over.load(Ordering::Relaxed) - begin, // ORD: as above
        inside: level(0),
        after: level(1),
        blocked,
    }
}

fn start(priority: Priority, body: impl FnOnce() + Send + 'static) -> Handle {
    spawn("inversion", priority, body).expect("memory for the threads of a scene")
}
