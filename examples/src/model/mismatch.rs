//! Answers that differ from the model's, counted, the first few with a description.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Descriptions that are kept.
const KEPT: usize = 10;

/// Where differences are collected.
#[derive(Debug, Default)]
pub struct Mismatches {
    count: AtomicU64,
    first: Mutex<Vec<String>>,
}

impl Mismatches {
    /// Adds one.
    pub fn add(&self, describe: impl FnOnce() -> String) {
        // ORD: Relaxed; a count.
        if self.count.fetch_add(1, Ordering::Relaxed) < KEPT as u64 {
            let text = describe();
            self.first.lock().unwrap_or_else(PoisonError::into_inner).push(text);
        }
    }

    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        // ORD: Relaxed; a count.
        self.count.load(Ordering::Relaxed)
    }

    /// The first few.
    #[must_use]
    pub fn first(&self) -> Vec<String> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
