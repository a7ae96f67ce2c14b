//! Inputs for harnesses that are driven by bytes: random ones, and the corpora of the fuzz targets.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Whether the harness fails with some of many random inputs: with a rule of the algorithm taken away it has to.
pub fn some_fails(harness: impl Fn(&[u8])) -> bool {
    // Marsaglia's xorshift64.
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    (0..5000).any(|_| {
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                (random >> 24) as u8
            })
            .collect();
        catch_unwind(AssertUnwindSafe(|| harness(&bytes))).is_err()
    })
}

/// Hands the harness the committed corpus of a fuzz target, and so every finding that was added to it.
pub fn corpus(target: &str, harness: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    if !fuzz.exists() {
        println!("skipped: a published crate comes without its fuzz targets");
        return;
    }
    let mut files = 0;
    for file in std::fs::read_dir(fuzz.join("corpus").join(target)).expect("the committed corpus") {
        harness(&std::fs::read(file.expect("readable").path()).expect("readable"));
        files += 1;
    }
    assert!(files > 0, "the corpus of {target} is empty");
}
