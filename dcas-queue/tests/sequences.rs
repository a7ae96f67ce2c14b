//! Property tests: sequences of operations by one thread, plain and interrupting each other, against an oracle.

#[expect(unreachable_pub, reason = "several tests include the module")]
mod inputs;
#[expect(unreachable_pub, reason = "the fuzz target includes the module too")]
mod support;

use dcas_queue::Mutation;
use proptest::collection::vec;
use proptest::prelude::*;
use support::{NODES, World};

/// One operation on the queue.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// Append a node (if it is idle) with this step.
    Append(usize, u64),
    /// Remove a node (if it is in the queue).
    Remove(usize),
    /// Complete all removals and compare everything.
    Complete,
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        5 => (0..NODES, 1..20u64).prop_map(|(node, n)| Action::Append(node, n)),
        1 => (0..NODES, any::<u64>()).prop_map(|(node, n)| Action::Append(node, n.max(1))),
        5 => (0..NODES).prop_map(Action::Remove),
        1 => Just(Action::Complete),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    /// Steps vary, any node may go at any time, payloads may run out.
    #[test]
    fn plain_sequences(watermark in prop_oneof![Just(0), 0..1000u64, any::<u64>()], actions in vec(action(), 0..200)) {
        let world = World::new(watermark, &[]);
        for action in actions {
            match action {
                Action::Append(node, n) => world.append(node, n, 0),
                Action::Remove(node) => world.remove(node, 0),
                Action::Complete => world.complete(0),
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

#[test]
fn corpus() {
    inputs::corpus("dcas_queue", |bytes| World::of_bytes(bytes).iter().for_each(World::run));
}

macro_rules! noticed {
    ($($name:ident: $mutation:ident;)+) => {$(
        #[test]
        fn $name() {
            assert!(inputs::some_fails(|bytes| {
                World::of_bytes(bytes).expect("not empty").breaking(Mutation::$mutation).run();
            }));
        }
    )+};
}

// An interrupt runs to its end before what it interrupts goes on: only these rules can be missed that way. The others are missed
// in `concurrent_histories`.
noticed! {
    link_read_before_payload_is_noticed: LinkReadBeforePayload;
    payload_read_before_mark_is_noticed: PayloadReadBeforeMark;
    unused_payload_kept_is_noticed: UnusedPayloadKept;
}
