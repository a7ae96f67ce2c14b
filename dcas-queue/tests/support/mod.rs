//! The queue against an oracle, driven by bytes: for the property tests here and for the fuzz target.
//!
//! One thread, but not only one operation at a time: bytes can also interrupt an operation before any of its steps with
//! further operations on other nodes, three deep. That is every interleaving in which the interrupting thread runs to
//! the end, which is what an interrupt handler does.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::num::NonZeroU64;

use dcas_queue::{Entry, Mutation, Node, Observer, Operation, Overflow, Queue, Removed, Step};

/// How many nodes a run has.
pub const NODES: usize = 6;

/// How deep operations interrupt each other.
const DEPTH: usize = 3;

/// More often than this no operation walks again: each restart needs an interrupt, and those need bytes.
const RESTARTS: u32 = 10_000;

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Idle,
    /// In the queue, issued this payload.
    Open(u64),
    /// Open still, but its removal is about to set the mark.
    Leaving(u64),
    /// In an append that has not returned, or in a remove after its mark.
    Busy,
}

/// What the queue ought to look like: a function of what was issued and of what is open, nothing else.
///
/// The payload of an open node is the largest one issued before the next open node (donations come from everything
/// removed in between); likewise the watermark before the first.
struct Oracle {
    issued: BTreeSet<u64>,
    uses: [Use; NODES],
}

impl Oracle {
    fn open(&self) -> Vec<(usize, u64)> {
        let mut open: Vec<_> = (0..NODES)
            .filter_map(|node| match self.uses[node] {
                Use::Open(payload) | Use::Leaving(payload) => Some((node, payload)),
                _ => None,
            })
            .collect();
        open.sort_unstable_by_key(|&(_, payload)| payload);
        open
    }

    fn largest(&self) -> u64 {
        *self.issued.last().expect("the first watermark at least")
    }

    /// The payload of the pair in front of the open node that was issued `next`, or at the end.
    fn before(&self, next: Option<u64>) -> u64 {
        match next {
            Some(next) => *self.issued.range(..next).next_back().expect("the first watermark at least"),
            None => self.largest(),
        }
    }
}

/// A queue, its nodes and the oracle.
pub struct World<'bytes> {
    queue: Queue,
    nodes: [Node; NODES],
    oracle: RefCell<Oracle>,
    bytes: Cell<&'bytes [u8]>,
    mutation: Option<Mutation>,
}

impl<'bytes> World<'bytes> {
    /// An empty queue at `watermark`; `bytes` decide about interrupts, and in [`run`](Self::run) about everything.
    pub fn new(watermark: u64, bytes: &'bytes [u8]) -> Self {
        let oracle = Oracle { issued: BTreeSet::from([watermark]), uses: [Use::Idle; NODES] };
        Self {
            queue: Queue::new(watermark),
            nodes: [const { Node::new() }; NODES],
            oracle: RefCell::new(oracle),
            bytes: Cell::new(bytes),
            mutation: None,
        }
    }

    /// What the fuzz target makes of its bytes. The first says where the watermark starts: at 0 mostly, or so near the end
    /// that payloads run out.
    pub fn of_bytes(bytes: &'bytes [u8]) -> Option<Self> {
        let (&first, rest) = bytes.split_first()?;
        let watermark = if first < 200 { 0 } else { u64::MAX - 4 * u64::from(first - 200) };
        Some(Self::new(watermark, rest))
    }

    /// The same, with operations that do without a rule.
    #[allow(dead_code, reason = "the fuzz target includes the module too, and breaks nothing")]
    pub fn breaking(self, mutation: Mutation) -> Self {
        Self { mutation: Some(mutation), ..self }
    }

    fn byte(&self) -> Option<u8> {
        let (&first, rest) = self.bytes.get().split_first()?;
        self.bytes.set(rest);
        Some(first)
    }

    /// Operations until the bytes are used up, then removal of all that is left.
    pub fn run(&self) {
        while let Some(byte) = self.byte() {
            self.act(byte, 0);
        }
        for node in 0..NODES {
            self.remove(node, 0);
        }
        assert!(self.queue.is_empty());
        assert_eq!(self.queue.watermark(), self.oracle.borrow().largest());
    }

    /// One operation, chosen by a byte (and more bytes, for an append's step).
    fn act(&self, byte: u8, depth: usize) {
        let node = usize::from(byte) % NODES;
        let use_ = self.oracle.borrow().uses[node];
        match use_ {
            _ if byte >= 240 => self.complete(depth),
            Use::Busy | Use::Leaving(_) => {}
            Use::Open(_) => self.remove(node, depth),
            Use::Idle => {
                let n = match self.byte().unwrap_or(0) {
                    // Twice this, and payloads are exhausted.
                    255 => u64::MAX / 2,
                    byte => u64::from(byte % 8) + 1,
                };
                self.append(node, n, depth);
            }
        }
    }

    /// Appends an idle node; does nothing with another.
    pub fn append(&self, node: usize, n: u64, depth: usize) {
        if self.oracle.borrow().uses[node] != Use::Idle {
            return;
        }
        let n = NonZeroU64::new(n).expect("at least 1");
        self.oracle.borrow_mut().uses[node] = Use::Busy;
        let interrupts = Interrupts::new(self, depth, None);
        // SAFETY: the nodes live as long as the queue; one thread, and a busy node is left alone.
        let result = unsafe { self.queue.append(&self.nodes[node], n, &interrupts) };
        let mut oracle = self.oracle.borrow_mut();
        let largest = oracle.largest();
        match result {
            Ok(payload) => {
                assert_eq!(Some(payload), largest.checked_add(n.get()));
                oracle.issued.insert(payload);
                oracle.uses[node] = Use::Open(payload);
            }
            Err(Overflow { tail, step }) => {
                assert_eq!((tail.checked_add(n.get()), step), (None, n));
                oracle.uses[node] = Use::Idle;
            }
        }
        drop(oracle);
        self.check();
    }

    /// Removes an open node; does nothing with another.
    pub fn remove(&self, node: usize, depth: usize) {
        let Use::Open(issued) = self.oracle.borrow().uses[node] else { return };
        self.oracle.borrow_mut().uses[node] = Use::Leaving(issued);
        let interrupts = Interrupts::new(self, depth, Some(node));
        // SAFETY: as for `append`; the node is in the queue.
        let Removed { payload, watermark_advanced, helped } =
            unsafe { self.queue.remove(&self.nodes[node], &interrupts) };
        assert!(payload >= issued && payload == self.nodes[node].payload());
        assert!(depth > 0 || watermark_advanced || helped || self.queue.watermark() < payload);
        assert_eq!(self.oracle.borrow().uses[node], Use::Busy, "the mark closed it");
        self.oracle.borrow_mut().uses[node] = Use::Idle;
        self.check();
    }

    /// Finishes all removals that are under way; then the queue is what the oracle says, exactly.
    pub fn complete(&self, depth: usize) {
        let before = self.queue.watermark();
        // SAFETY: as for `append`.
        let advanced = unsafe { self.queue.complete_removals(&Interrupts::new(self, depth, None)) };
        assert!(!advanced || self.queue.watermark() > before);
        self.check();
        // Once more, lest an interrupt came after the walk.
        // SAFETY: as above.
        unsafe { self.queue.complete_removals(()) };
        let oracle = self.oracle.borrow();
        let open = oracle.open();
        let issued = |i: usize| open.get(i).map(|&(_, payload)| payload);
        assert_eq!(self.queue.watermark(), oracle.before(issued(0)));
        for (i, &(node, _)) in open.iter().enumerate() {
            assert_eq!(self.nodes[node].payload(), oracle.before(issued(i + 1)));
        }
    }

    /// What holds at any time, with removals under way or not.
    fn check(&self) {
        let mut out = [Entry::default(); NODES + 1];
        // SAFETY: as for `append`.
        let snapshot = unsafe { self.queue.snapshot(&mut out, &()) };
        assert!(snapshot.complete && snapshot.restarts == 0, "nobody interrupts a snapshot");
        let entries = &out[..snapshot.len];
        let oracle = self.oracle.borrow();
        let mut last = snapshot.watermark;
        for entry in entries {
            assert!(entry.predecessor == last && entry.payload > last, "INV-Q-1: {entries:?}");
            last = entry.payload;
        }
        assert_eq!(last, oracle.largest(), "INV-Q-2");
        let unmarked: Vec<_> = entries.iter().filter(|entry| !entry.marked).collect();
        let open = oracle.open();
        assert_eq!(unmarked.len(), open.len(), "INV-Q-3: {entries:?} {:?}", oracle.uses);
        for (i, (entry, &(node, issued))) in unmarked.iter().zip(&open).enumerate() {
            assert_eq!(entry.address, std::ptr::from_ref(&self.nodes[node]).addr());
            let most = oracle.before(open.get(i + 1).map(|&(_, payload)| payload));
            assert!(entry.predecessor < issued && (issued..=most).contains(&entry.payload));
        }
    }
}

/// Interrupts an operation between its steps, as the world's bytes say.
struct Interrupts<'world, 'bytes> {
    world: &'world World<'bytes>,
    depth: usize,
    /// The node that the operation removes.
    closes: Option<usize>,
    restarts: Cell<u32>,
}

impl<'world, 'bytes> Interrupts<'world, 'bytes> {
    fn new(world: &'world World<'bytes>, depth: usize, closes: Option<usize>) -> Self {
        Self { world, depth, closes, restarts: Cell::new(0) }
    }
}

impl Observer for Interrupts<'_, '_> {
    fn step(&self, step: Step) {
        if let Some(node) = self.closes
            && step != Step::Mark
        {
            // The mark is set: whatever the queue does from now on, this section is over.
            self.world.oracle.borrow_mut().uses[node] = Use::Busy;
        }
        if self.depth >= DEPTH {
            return;
        }
        match self.world.byte() {
            // Of the 64 such bytes the last two complete removals.
            Some(byte) if byte % 4 == 0 => match byte / 4 {
                62.. => self.world.complete(self.depth + 1),
                byte => self.world.act(byte, self.depth + 1),
            },
            _ => {}
        }
    }

    fn restarted(&self, operation: Operation) {
        self.restarts.set(self.restarts.get() + 1);
        assert!(self.restarts.get() < RESTARTS, "INV-Q-4: {operation:?} walks again and again");
    }

    fn backoff(&self, _: u32) {}

    fn mutation(&self) -> Option<Mutation> {
        self.world.mutation
    }
}
