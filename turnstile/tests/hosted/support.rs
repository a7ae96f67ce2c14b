//! Helpers for the tests with real threads.

use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Runs `body` on a thread of its own and fails if it takes longer than `limit`: a lost wake-up shows as a failure,
/// not as a hang.
pub(crate) fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        body();
        let _ = done.send(());
    });
    match finished.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("still blocked after {limit:?}"),
        Ok(()) | Err(mpsc::RecvTimeoutError::Disconnected) => {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// Sleeps until `condition` holds.
pub(crate) fn until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(20), "the condition does not come true");
        std::thread::sleep(Duration::from_micros(200));
    }
}
