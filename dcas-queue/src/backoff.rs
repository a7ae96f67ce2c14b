//! Exponential back-off after a restart.

/// The pauses to make after each restart of one operation: 4, 8, … 1024, 1024, …
pub(crate) struct Backoff {
    next: u32,
}

impl Backoff {
    const FIRST: u32 = 4;
    const LAST: u32 = 1024;

    /// A new operation starts over.
    pub(crate) const fn new() -> Self {
        Self { next: Self::FIRST }
    }

    pub(crate) fn next(&mut self) -> u32 {
        let pauses = self.next;
        self.next = (pauses * 2).min(Self::LAST);
        pauses
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn doubles_from_4_to_1024_and_stays_there() {
        let mut backoff = Backoff::new();
        let pauses: [u32; 11] = core::array::from_fn(|_| backoff.next());
        assert_eq!(pauses, [4, 8, 16, 32, 64, 128, 256, 512, 1024, 1024, 1024]);
    }
}
