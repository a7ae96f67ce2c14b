//! Exponential back-off after a restart.
//!
//! The first wait is long compared with an operation, and the next ones grow fast. Two threads that restart each other again and
//! again move the head's line between their processors all the time; one that stays away for a moment lets the other do many operations on a
//! line that stays where it is.

use crate::observer::LONGEST_BACKOFF;

/// The pauses to make after each restart of one operation: 32, 128, 512, 1024, 1024, …
pub(crate) struct Backoff {
    next: u32,
}

impl Backoff {
    const FIRST: u32 = 32;
    const FACTOR: u32 = 4;

    /// A new operation starts over.
    #[inline]
    pub(crate) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    pub(crate) fn next(&mut self) -> u32 {
        let pauses = self.next;
        self.next = (pauses * Self::FACTOR).min(LONGEST_BACKOFF);
        pauses
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn grows_from_32_to_1024_and_stays_there() {
        let mut backoff = Backoff::new();
        let pauses: [u32; 6] = core::array::from_fn(|_| backoff.next());
        assert_eq!(pauses, [32, 128, 512, 1024, 1024, 1024]);
    }
}
