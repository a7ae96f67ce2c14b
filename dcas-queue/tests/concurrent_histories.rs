//! Property test: real threads, one step at a time, in an order that is part of the input; every state is checked.
//!
//! What this cannot see: weak memory (each step is complete before the next), and schedules that random bytes do not come upon. The
//! fuzz target `dcas_queue_histories` looks for them with coverage as its guide.

#[expect(unreachable_pub, reason = "the fuzz target includes the module too")]
mod schedules;

use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_schedule_keeps_the_invariants(bytes in vec(any::<u8>(), 0..400)) {
        schedules::run(&bytes);
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
        schedules::run(&bytes);
    }
}

/// The corpus of the fuzz target, and so every finding that was added to it.
#[test]
fn corpus() {
    let fuzz = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    if !fuzz.exists() {
        println!("skipped: a published crate comes without its fuzz targets");
        return;
    }
    let files = std::fs::read_dir(fuzz.join("corpus/dcas_queue_histories")).expect("the committed corpus");
    let mut run = 0;
    for file in files {
        let path = file.expect("readable").path();
        schedules::run(&std::fs::read(&path).expect("readable"));
        run += 1;
    }
    assert!(run > 0, "the corpus is empty");
}
