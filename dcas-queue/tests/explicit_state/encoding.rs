//! States as 128-bit words, whole, and the choice of one representative among states that differ in names only.

use dcas_queue::Step;

use crate::model::{Cell, Link, MARK, MAX_THREADS, Operation, State, Thread};

/// Payloads have 4 bits: a configuration may issue at most 15.
pub(crate) const LARGEST_PAYLOAD: u8 = 15;

struct Writer(u128);

impl Writer {
    fn put(&mut self, bits: u32, value: u8) {
        debug_assert!(u32::from(value) < 1 << bits);
        self.0 = (self.0 << bits) | u128::from(value);
    }

    fn put_cell(&mut self, cell: Cell) {
        self.put(4, cell.payload);
        self.put(3, cell.link);
    }
}

struct Reader(u128);

impl Reader {
    fn take(&mut self, bits: u32) -> u8 {
        let value = (self.0 & ((1 << bits) - 1)) as u8;
        self.0 >>= bits;
        value
    }

    fn take_cell(&mut self) -> Cell {
        let link = self.take(3);
        Cell { payload: self.take(4), link }
    }
}

impl State {
    /// The whole state in 127 bits; [`decode`](Self::decode) is its inverse, so nothing is lost and no two states
    /// are ever taken for one another.
    pub(crate) fn encode(&self) -> u128 {
        let mut to = Writer(0);
        for thread in &self.threads {
            to.put(2, thread.operation as u8);
            to.put(4, thread.step as u8);
            to.put(2, thread.rounds);
            to.put(2, thread.n);
            to.put(4, thread.floor);
            to.put(2, thread.here);
            // A position is unmarked, and whether a node is prepared stands in its link.
            to.put(4, thread.seen.payload);
            to.put(2, thread.seen.link);
            to.put_cell(thread.next);
            to.put(4, thread.value);
        }
        for cell in &self.cells {
            to.put_cell(*cell);
        }
        to.0
    }

    pub(crate) fn decode(word: u128) -> Self {
        let mut from = Reader(word);
        let mut cells = [Cell::default(); MAX_THREADS + 1];
        for cell in cells.iter_mut().rev() {
            *cell = from.take_cell();
        }
        let mut threads = [Thread::DONE; MAX_THREADS];
        for (thread, own) in threads.iter_mut().zip(&cells[1..]).rev() {
            let value = from.take(4);
            let next = from.take_cell();
            let link = from.take(2);
            let seen = Cell { payload: from.take(4), link };
            let here = from.take(2);
            let floor = from.take(4);
            let n = from.take(2);
            let rounds = from.take(2);
            let step = Step::ALL[usize::from(from.take(4))];
            let operation = Operation::ALL[usize::from(from.take(2))];
            let prepared = operation == Operation::Append && own.link & MARK == 0;
            *thread = Thread { operation, step, rounds, prepared, n, floor, here, seen, next, value };
        }
        Self { cells, threads }
    }

    /// The smallest encoding among all ways to name the threads (each with its node).
    ///
    /// Threads differ in name only, so a state and its renaming have the same future. The search
    /// keeps one of them. Threads are sorted by what renaming cannot change; only ties need all orders tried.
    pub(crate) fn canonical(&self) -> u128 {
        let keys = core::array::from_fn::<_, MAX_THREADS, _>(|t| self.unnamed(t));
        let mut best = u128::MAX;
        for order in ORDERS {
            if order.windows(2).all(|pair| keys[pair[0]] <= keys[pair[1]]) {
                best = best.min(self.renamed(order).encode());
            }
        }
        best
    }

    /// What can be said of a thread and its node without naming any other.
    fn unnamed(&self, t: usize) -> u64 {
        let thread = &self.threads[t];
        let own = &self.cells[t + 1];
        let mut to = Writer(0);
        to.put(2, thread.operation as u8);
        to.put(4, thread.step as u8);
        to.put(2, thread.rounds);
        to.put(1, thread.prepared.into());
        to.put(2, thread.n);
        to.put(4, thread.seen.payload);
        to.put(4, thread.next.payload);
        to.put(4, thread.value);
        to.put(4, thread.floor);
        to.put(4, own.payload);
        to.put(1, own.link >> 2);
        to.put(1, (own.link & !MARK != 0).into());
        to.put(1, (thread.here != 0).into());
        to.0 as u64
    }

    /// The same state with thread `order[i]` called `i`.
    fn renamed(&self, order: [usize; MAX_THREADS]) -> Self {
        // The new index of each cell; the head keeps its own.
        let mut name = [0u8; MAX_THREADS + 1];
        for (new, old) in order.into_iter().enumerate() {
            name[old + 1] = new as u8 + 1;
        }
        let link = |link: Link| name[usize::from(link & !MARK)] | (link & MARK);
        let cell = |cell: Cell| Cell { link: link(cell.link), ..cell };
        let mut state = *self;
        state.cells[0] = cell(self.cells[0]);
        for (new, old) in order.into_iter().enumerate() {
            state.cells[new + 1] = cell(self.cells[old + 1]);
            let thread = self.threads[old];
            let (seen, next) = (cell(thread.seen), cell(thread.next));
            state.threads[new] = Thread { here: name[usize::from(thread.here)], seen, next, ..thread };
        }
        state
    }
}

/// All orders of three threads.
const ORDERS: [[usize; MAX_THREADS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
