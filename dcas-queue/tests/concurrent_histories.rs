//! Property test: real threads, one step at a time, in an order that is part of the input; every state is checked.
//!
//! What this cannot see: weak memory (each step is complete before the next), and schedules that random bytes do not come upon. The
//! fuzz target `dcas_queue_histories` looks for them with coverage as its guide.

#[expect(unreachable_pub, reason = "several tests include the module")]
mod inputs;
#[expect(unreachable_pub, reason = "the fuzz target includes the module too")]
mod schedules;

use dcas_queue::Mutation;
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_keeps_the_invariants(bytes in vec(any::<u8>(), 0..400)) {
        schedules::run(&bytes, None);
    }

    /// Few switches, in the right places: long runs of one thread.
    #[test]
    fn schedules_with_few_switches(
        operations in 1..5u8,
        programs in vec(any::<u8>(), 15),
        runs in vec((0..40usize, 128..=255u8), 0..20),
    ) {
        let mut bytes = vec![operations];
        bytes.extend(&programs[..3 * (usize::from(operations) + 1).min(5)]);
        for (stay, switch) in runs {
            bytes.extend(std::iter::repeat_n(0, stay));
            bytes.push(switch);
        }
        schedules::run(&bytes, None);
    }
}

#[test]
fn corpus() {
    inputs::corpus("dcas_queue_histories", |bytes| schedules::run(bytes, None));
}

macro_rules! noticed {
    ($($name:ident: $mutation:ident;)+) => {$(
        #[test]
        fn $name() {
            assert!(inputs::some_fails(|bytes| schedules::run(bytes, Some(Mutation::$mutation))));
        }
    )+};
}

// The real code with a rule taken away, as the explicit-state check does with the model. Random histories do not come upon the
// one in which the never-down rule is missed (three threads, two rounds, one order of all their steps); that an unused payload
// is kept shows only where payloads run out (`sequences`).
noticed! {
    no_predecessor_recheck_is_noticed: NoRecheck;
    link_read_before_payload_is_noticed: LinkReadBeforePayload;
    link_prepared_before_payload_is_noticed: LinkPreparedBeforePayload;
    payload_read_before_mark_is_noticed: PayloadReadBeforeMark;
    helper_keeps_earlier_payload_is_noticed: HelperKeepsEarlierPayload;
    no_helping_is_noticed: NoHelping;
}
