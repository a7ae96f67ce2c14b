//! The memory order of `sharded` and of the waiter count, under loom: every execution that the memory model allows (as
//! far as loom knows it), of two and three threads.
//!
//! `RUSTFLAGS="--cfg gencount_loom --cfg dcas_queue_loom" cargo test -p gencount --lib --release`
//!
//! In this build the crate consists of `primitive`, `barrier`, `waiters`, `lending::word` and `sharded::protocol`, which are the code of the other
//! builds with loom's atomics in it; with the second cfg the queue of `lockfree` has loom's atomics too (`queue`). Each property has a test beside it in which one fence is missing, and which must fail.
//!
//! # What loom cannot see
//!
//! * It takes SeqCst accesses for AcqRel, so here `fence_between_seqcst` is a real fence; that the accesses alone are
//!   enough elsewhere is an argument (in `primitive`), not a result.
//! * It does not let a load see a store that is later in the modification order than what a thread has stored itself
//!   (load buffering), and it bounds how old the values are that a load may see.
//! * It knows no fence that one thread makes another execute. The light side of an asymmetric pair is a full fence here; that the
//!   compiler's fence is enough beside `membarrier(2)` is what `tests/sharded_states.rs` models, with stores that are on the way.
//! * The turnstile is stood in for by a mutex and a condition variable, and in `waiting` the queue of `lockfree` by one word: what
//!   these tests say about those two is that the waiter count is used as the protocol wants it.
//! * The queue's assembly: its pairs take the portable form here, after which a finish has a real fence.
//! * A list of slots that grows: the slots are all there from the start.

mod lending;
mod publish;
#[cfg(dcas_queue_loom)]
mod queue;
mod waiting;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether some execution of `body` fails.
fn fails(body: impl Fn() + Sync + Send + 'static) -> bool {
    catch_unwind(AssertUnwindSafe(|| loom::model(body))).is_err()
}
