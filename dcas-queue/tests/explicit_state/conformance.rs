//! Does the model describe the code? The real queue runs under a scheduler that lets one thread take one [`Step`] at
//! a time, in random order; the model takes the same steps, and both must agree on every pair and on what each thread
//! does next.

use std::cell::Cell as Register;
use std::num::NonZeroU64;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

use dcas_queue::{Entry, Node, Observer, Queue, Step};

use crate::model::{MARK, MAX_THREADS, Mutation, Operation, PayloadSteps, Rules, State};
use crate::search::Configuration;

/// Where a real thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Between two stops.
    Running,
    /// Before a step.
    Before(Step),
    /// Finished.
    Done,
}

struct Stage {
    at: [At; MAX_THREADS],
    granted: [bool; MAX_THREADS],
    /// The payload that the last append returned.
    issued: [u64; MAX_THREADS],
    /// How often each step was taken, by its index.
    taken: [u32; Step::ALL.len()],
    restarts: u32,
    /// The comparison failed: let all threads run free.
    abandoned: bool,
}

/// The baton: at most one thread runs at a time.
struct Baton {
    stage: Mutex<Stage>,
    changed: Condvar,
}

impl Baton {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().expect("no panic while it is held")
    }

    /// A thread stops and waits for its turn.
    fn stop(&self, t: usize, at: At) {
        let mut stage = self.lock();
        stage.at[t] = at;
        self.changed.notify_all();
        if at != At::Done {
            let mut stage = self
                .changed
                .wait_while(stage, |s| !s.granted[t] && !s.abandoned)
                .expect("no panic while held");
            stage.granted[t] = false;
        }
    }

    /// The scheduler waits until a thread has stopped.
    fn stopped(&self, t: usize) -> At {
        self.changed.wait_while(self.lock(), |s| s.at[t] == At::Running).expect("no panic while held").at[t]
    }

    fn grant(&self, t: usize, step: Step) {
        let mut stage = self.lock();
        stage.taken[step as usize] += 1;
        (stage.at[t], stage.granted[t]) = (At::Running, true);
        self.changed.notify_all();
    }
}

struct Actor<'a> {
    baton: &'a Baton,
    t: usize,
}

impl Observer for Actor<'_> {
    fn step(&self, step: Step) {
        self.baton.stop(self.t, At::Before(step));
    }

    fn restarted(&self, _: dcas_queue::Operation) {
        self.baton.lock().restarts += 1;
    }

    fn backoff(&self, _: u32) {}
}

impl Actor<'_> {
    /// What the model's threads do.
    fn act(&self, queue: &Queue, node: &Node, plan: &State, n: u64) {
        let plan = plan.threads[self.t];
        let n = NonZeroU64::new(n).expect("at least 1");
        for _ in 0..plan.rounds {
            match plan.operation {
                Operation::Append => {
                    // SAFETY: nodes and queue outlive all threads of the scope; one thread per node; one queue.
                    let Ok(issued) = (unsafe { queue.append(node, n, self) }) else { continue };
                    self.baton.lock().issued[self.t] = issued;
                    // SAFETY: as above; just appended.
                    unsafe { queue.remove(node, self) };
                }
                _ => {
                    // SAFETY: as above.
                    unsafe { queue.complete_removals(self) };
                }
            }
        }
        self.baton.stop(self.t, At::Done);
    }
}

/// What can be seen of the real pairs: the head's payload, each node's payload and mark, and the order of the queue.
type Picture = (u8, [(u8, bool); MAX_THREADS], Vec<Option<usize>>);

/// The real pairs in the model's terms: payloads relative to `base`. The order is by node; `None` is no node at all.
fn real_picture(queue: &Queue, nodes: &[Node; MAX_THREADS], base: u64) -> Picture {
    let mut out = [Entry::default(); MAX_THREADS + 1];
    // SAFETY: as in `Actor::act`; no thread is in the middle of a step.
    let len = unsafe { queue.snapshot(&mut out, &()) }.len;
    let node = |e: &Entry| nodes.iter().position(|node| std::ptr::from_ref(node).addr() == e.address);
    // A node that was never appended has payload 0, whatever the base.
    let payload = |payload: u64| payload.saturating_sub(base) as u8;
    (
        payload(queue.watermark()),
        core::array::from_fn(|t| (payload(nodes[t].payload()), nodes[t].is_marked())),
        out[..len].iter().map(node).collect(),
    )
}

fn model_picture(state: &State) -> Picture {
    let mut order = Vec::new();
    let mut here = 0;
    while state.cells[here].link & !MARK != 0 {
        here = usize::from(state.cells[here].link & !MARK);
        order.push(Some(here - 1));
    }
    let node = |t: usize| (state.cells[t + 1].payload, state.cells[t + 1].link & MARK != 0);
    (state.cells[0].payload, core::array::from_fn(node), order)
}

/// Runs one schedule; the error says where code and model parted.
fn run(configuration: &Configuration, seed: u64, totals: &mut Stage) -> Result<(), String> {
    // So that the model's limit is the real one.
    let base = configuration.rules.limit.map_or(0, |limit| u64::MAX - u64::from(limit));
    let queue = Queue::new(base);
    let nodes = [const { Node::new() }; MAX_THREADS];
    let start = configuration.start();
    let random = Register::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let draw = |bound: usize| {
        // Xorshift (Marsaglia 2003).
        let mut x = random.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        random.set(x);
        (x >> 33) as usize % bound
    };
    // One step of the payload per thread, for all its appends.
    let steps: [u8; MAX_THREADS] =
        core::array::from_fn(|_| 1 + draw(usize::from(configuration.n.largest())) as u8);
    let baton = Baton { stage: Mutex::new(Stage::new()), changed: Condvar::new() };
    let result = thread::scope(|scope| {
        for (t, node) in nodes.iter().enumerate() {
            let (actor, queue, start) = (Actor { baton: &baton, t }, &queue, &start);
            let n = steps[t].into();
            scope.spawn(move || actor.act(queue, node, start, n));
        }
        let result = compare((&queue, &nodes, base), (start, configuration.rules), &baton, &steps, draw);
        baton.lock().abandoned = true;
        baton.changed.notify_all();
        result
    });
    let stage = baton.lock();
    totals.restarts += stage.restarts;
    for (total, taken) in totals.taken.iter_mut().zip(stage.taken) {
        *total += taken;
    }
    result
}

/// The scheduler: one step of one thread at a time, in both worlds.
fn compare(
    (queue, nodes, base): (&Queue, &[Node; MAX_THREADS], u64),
    (mut state, rules): (State, Rules),
    baton: &Baton,
    steps: &[u8; MAX_THREADS],
    draw: impl Fn(usize) -> usize,
) -> Result<(), String> {
    loop {
        let mut ready = Vec::new();
        for t in 0..MAX_THREADS {
            let thread = &state.threads[t];
            let expected = match thread.operation {
                Operation::Done => At::Done,
                _ => At::Before(thread.step),
            };
            let real = baton.stopped(t);
            if real != expected {
                return Err(format!("thread {t} is at {real:?}, the model at {expected:?}: {state:?}"));
            }
            if thread.operation != Operation::Done {
                ready.push(t);
            }
            if let Some(issued) = thread.open()
                && base + u64::from(issued) != baton.lock().issued[t]
            {
                return Err(format!("thread {t}: append returned another payload than the model's {issued}"));
            }
        }
        let (real, model) = (real_picture(queue, nodes, base), model_picture(&state));
        if real != model {
            return Err(format!("the pairs differ: {real:?}, the model has {model:?}: {state:?}"));
        }
        if ready.is_empty() {
            return Ok(());
        }
        // Mostly go on with the same thread for a few steps, lest operations never get anywhere.
        let t = ready[draw(ready.len())];
        for _ in 0..=draw(4) {
            let At::Before(step) = baton.stopped(t) else { break };
            if state.threads[t].operation == Operation::Done || step != state.threads[t].step {
                break;
            }
            baton.grant(t, step);
            state = state.advance(t, steps[t], rules);
            let _ = baton.stopped(t);
        }
    }
}

impl Stage {
    fn new() -> Self {
        Self {
            at: [At::Running; MAX_THREADS],
            granted: [false; MAX_THREADS],
            issued: [0; MAX_THREADS],
            taken: [0; Step::ALL.len()],
            restarts: 0,
            abandoned: false,
        }
    }
}

#[test]
fn code_and_model_take_the_same_steps() {
    let configurations = [
        Configuration::new(3, 2).n(PayloadSteps::UpTo(2)),
        Configuration::new(2, 3).n(PayloadSteps::UpTo(2)),
        Configuration::new(2, 3).completers(1, 3),
        Configuration::new(3, 3).n(PayloadSteps::UpTo(3)).limit(6),
    ];
    let mut totals = Stage::new();
    for configuration in configurations {
        for seed in 1..=60 {
            if let Err(difference) = run(&configuration, seed, &mut totals) {
                panic!("seed {seed} of {configuration:?}: {difference}");
            }
        }
    }
    // The schedules were worth it: every step was taken, and walks were disturbed.
    for step in Step::ALL {
        let taken = totals.taken[step as usize];
        assert!(taken > 0, "{step:?} was never taken");
    }
    assert!(totals.restarts > 100, "{} restarts", totals.restarts);
}

/// The comparison is worth something only if it fails where model and code do differ.
#[test]
fn a_wrong_model_is_noticed() {
    for mutation in
        [Mutation::NoRecheck, Mutation::PayloadReadBeforeMark, Mutation::HelperKeepsEarlierPayload]
    {
        let configuration = Configuration::new(3, 2).mutation(mutation);
        let noticed = (1..=10).any(|seed| run(&configuration, seed, &mut Stage::new()).is_err());
        assert!(noticed, "{mutation:?}");
    }
}
