//! Property tests: sequences of operations by one thread, plain and interrupting each other, against an oracle.

#[expect(unreachable_pub, reason = "the fuzz target includes the module too")]
mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::{NODES, World};

/// One operation on the queue.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Append a node (if it is idle) with this step.
    Append(usize, u64),
    /// Remove a node (if it is in the queue).
    Remove(usize),
    /// Complete all removals and compare everything.
    Complete,
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        5 => (0..NODES, 1..20u64).prop_map(|(node, n)| Operation::Append(node, n)),
        1 => (0..NODES, any::<u64>()).prop_map(|(node, n)| Operation::Append(node, n.max(1))),
        5 => (0..NODES).prop_map(Operation::Remove),
        1 => Just(Operation::Complete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// Steps vary, any node may go at any time, payloads may run out.
    #[test]
    fn plain_sequences(watermark in prop_oneof![Just(0), 0..1000u64, any::<u64>()], operations in vec(operation(), 0..200)) {
        let world = World::new(watermark, &[]);
        for operation in operations {
            match operation {
                Operation::Append(node, n) => world.append(node, n, 0),
                Operation::Remove(node) => world.remove(node, 0),
                Operation::Complete => world.complete(0),
            }
        }
        world.run();
    }

    /// Operations interrupt operations, sometimes with hardly any payloads left.
    #[test]
    fn interrupted_sequences(left in prop_oneof![Just(u64::MAX), 0..40u64], bytes in vec(any::<u8>(), 0..1500)) {
        World::new(u64::MAX - left, &bytes).run();
    }
}
