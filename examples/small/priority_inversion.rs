//! Priority inversion on real Linux scheduling: a low thread holds a lock, a high one wants it, a middle one hogs the processor.
//! With lending the high thread waits for the low one's 10 ms; with an ordinary mutex, for the hog.
//!
//! `cargo run --release --example priority_inversion` (needs CAP_SYS_NICE, and says so)

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use turnstile::{LinuxRt, Policy, RawPiMutex};

const HOG: Duration = Duration::from_millis(300);
const SECTION: Duration = Duration::from_millis(10);

/// What can guard the section of the contest.
trait Lock: Sync {
    fn with(&self, section: impl FnOnce());
}

impl<R: lock_api::RawMutex + Sync> Lock for lock_api::Mutex<R, ()> {
    fn with(&self, section: impl FnOnce()) {
        let _guard = self.lock();
        section();
    }
}

impl Lock for std::sync::Mutex<()> {
    fn with(&self, section: impl FnOnce()) {
        let _guard = self.lock();
        section();
    }
}

fn compute(time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// Pins the calling thread to the first processor that it may use, with a real-time priority.
fn real_time(priority: u8) -> Result<(), String> {
    // SAFETY: an all-zero set is an empty one, and the calls get a set of the right size.
    unsafe {
        let mut all: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of_val(&all), &raw mut all) != 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
        let first = (0..libc::CPU_SETSIZE as usize).find(|cpu| libc::CPU_ISSET(*cpu, &all)).unwrap_or(0);
        let mut one: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(first, &mut one);
        if libc::sched_setaffinity(0, size_of_val(&one), &raw const one) != 0 {
            return Err(std::io::Error::last_os_error().to_string());
        }
    }
    let scheduler = LinuxRt::new().map_err(|error| error.to_string())?;
    scheduler.set_policy(Policy::Fifo(priority)).map_err(|error| error.to_string())
}

/// How long the high thread waits.
fn contest(lock: &impl Lock) -> Result<Duration, String> {
    thread::scope(|scope| {
        let (held, holds) = mpsc::channel();
        let (wanted, wants) = mpsc::channel();
        let low = scope.spawn(move || -> Result<(), String> {
            real_time(10)?;
            lock.with(|| {
                held.send(()).expect("the conductor listens");
                wants.recv().expect("the conductor speaks");
                compute(SECTION);
            });
            Ok(())
        });
        if holds.recv().is_err() {
            // It could not even start: its error is the answer.
            return low.join().expect("no panic").map(|()| Duration::ZERO);
        }
        // More urgent than all of them until the scene is set, so that they start together.
        real_time(50)?;
        let high = scope.spawn(move || -> Result<Instant, String> {
            real_time(30)?;
            let mut entered = Instant::now();
            lock.with(|| entered = Instant::now());
            Ok(entered)
        });
        let middle = scope.spawn(move || -> Result<(), String> {
            real_time(20)?;
            compute(HOG);
            Ok(())
        });
        // Asleep, the conductor lets the high thread block and the hog start.
        thread::sleep(Duration::from_millis(50));
        let start = Instant::now();
        wanted.send(()).expect("the low thread listens");
        let entered = high.join().expect("no panic");
        middle.join().expect("no panic")?;
        low.join().expect("no panic")?;
        Ok(entered?.duration_since(start))
    })
}

fn main() -> ExitCode {
    static LENDING: lock_api::Mutex<RawPiMutex<LinuxRt>, ()> = lock_api::Mutex::new(());
    static ORDINARY: std::sync::Mutex<()> = std::sync::Mutex::new(());
    // A thread of its own: the conductor's priority goes with it.
    let result = thread::spawn(|| Ok::<_, String>((contest(&LENDING)?, contest(&ORDINARY)?)))
        .join()
        .expect("no panic");
    match result {
        Ok((lending, ordinary)) => {
            println!("the hog computes for {HOG:?}, the low thread holds the lock for {SECTION:?} of work");
            println!("high waits for a lending mutex:  {lending:?}");
            println!("high waits for an ordinary one:  {ordinary:?}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("priority_inversion: {error}");
            ExitCode::from(2)
        }
    }
}
