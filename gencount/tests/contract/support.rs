//! Helpers for the tests with real threads.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use gencount::{Domain, GenerationWord, Hosted, Implementation, Participant, Section};

/// A domain under the hosted scheduler.
pub(crate) fn domain(implementation: Implementation) -> Arc<Domain<Hosted>> {
    let domain = Arc::new(Domain::new(implementation, Hosted));
    assert_eq!(domain.implementation(), implementation);
    domain
}

/// Begins a section that marks the word, and whose generation no later section shares: with `sharded` a generation
/// ends when somebody asks for it.
pub(crate) fn begin_apart<'a>(
    participant: &'a Participant<Hosted>,
    word: &GenerationWord,
) -> Section<'a, Hosted> {
    let section = participant.begin();
    section.mark(word);
    assert!(!participant.domain().is_complete(word));
    section
}

/// The watermark, after it has been brought as far towards the word as it goes: with `sharded` somebody has to ask.
pub(crate) fn watermark(domain: &Domain<Hosted>, word: &GenerationWord) -> u64 {
    let complete = domain.is_complete(word);
    let watermark = domain.watermark();
    assert_eq!(complete, watermark >= word.get());
    watermark
}

/// Twice as many threads as cores, and 8 at least: some are always preempted, wherever they are.
pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(8, |cores| (2 * cores.get()).clamp(8, 64))
}

/// How long each stress test runs: 900 ms, or as many seconds as the environment says.
fn stress_time() -> Duration {
    match std::env::var("GENCOUNT_STRESS_SECONDS") {
        Ok(seconds) => {
            Duration::from_secs(seconds.parse().expect("GENCOUNT_STRESS_SECONDS is a whole number"))
        }
        Err(_) => Duration::from_millis(900),
    }
}

/// Runs a round, and more of them until the stress test's time is up.
pub(crate) fn for_a_while(mut round: impl FnMut()) {
    let start = Instant::now();
    loop {
        round();
        if start.elapsed() >= stress_time() {
            break;
        }
    }
}

/// Runs `body` on a thread of its own and fails if it takes longer than a minute: a lost wake-up shows as a failure,
/// not as a hang.
pub(crate) fn within_a_minute(body: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60), body);
}

/// As [`within_a_minute`], and as long as a stress test takes.
pub(crate) fn within_its_time(body: impl FnOnce() + Send + 'static) {
    within(Duration::from_secs(60) + stress_time(), body);
}

fn within(limit: Duration, body: impl FnOnce() + Send + 'static) {
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
        assert!(start.elapsed() < Duration::from_secs(30), "the condition does not come true");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// Long enough for a thread that could go on to have gone on.
pub(crate) fn a_while() {
    std::thread::sleep(Duration::from_millis(30));
}

/// The message of the panic of `body`.
pub(crate) fn panic_of(body: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).expect_err("it must panic");
    match panic.downcast::<String>() {
        Ok(message) => *message,
        Err(panic) => (*panic.downcast::<&str>().expect("a message")).to_owned(),
    }
}

/// Numbers that look random (Marsaglia's xorshift64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}
