//! The clock, the watermark, and what a participant publishes: the part of `sharded` that is about memory order.
//!
//! # Protocol
//!
//! * A section *opens*: it reads the clock, publishes that reading in its slot, and reads the clock again. The second
//!   reading is its generation; if it is another one, the section publishes that instead.
//! * It *closes*: it publishes 0; with an exchange, or with a store if waiters issue the fence for it
//!   ([`barrier`](crate::barrier)).
//! * Whoever wants the watermark at m *raises* the clock past m, and then *settles*: reads the clock, then every slot, and
//!   raises the watermark to just below the smallest reading that it found open, and below the clock.
//!
//! # Why it is safe (INV-DI-1)
//!
//! Let a settler raise the watermark to m while a section of generation g is open. The settler read the clock above m,
//! and then the slots. Either it saw the section's publication: then m is below what was published, which is at most
//! g, whichever of its two readings that is. Or it missed it: then its reading of the slot comes before the publication, hence its reading of the clock before the
//! section's second one, which therefore is above m too. In both cases m is below g.
//!
//! So one second reading, in begin, is enough for all marks of the section: they use g. The first reading alone would
//! not do, for a section may be stopped between reading and publishing while the watermark passes it.

use crossbeam_utils::CachePadded;

use crate::primitive::{AcqRel, Acquire, AtomicU64, Relaxed, Release, SeqCst, fence_between_seqcst};

/// The state that all sections of a domain read, and only waiters write.
pub(crate) struct Clock {
    /// Above every generation that somebody has asked for; starts at 1.
    clock: CachePadded<AtomicU64>,
    watermark: CachePadded<AtomicU64>,
}

/// What a participant publishes: 0, or a reading of the clock from before its section opened.
pub(crate) struct Published(AtomicU64);

impl Published {
    #[cfg(not(gencount_loom))]
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[cfg(gencount_loom)]
    pub(crate) fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// Closes the section. A look at the waiter count has to follow.
    #[inline]
    pub(crate) fn close(&self) {
        // ORD: SeqCst, a read-modify-write: releases what the section did to the `read` that sees it (INV-DI-2), and is
        // the finisher's write in the Dekker pair with a waiter's registration (INV-DI-8).
        self.0.swap(0, SeqCst);
    }

    /// Closes the section and leaves the fence to the waiters. A look has to follow that does the same.
    #[inline]
    pub(crate) fn close_lightly(&self) {
        // ORD: Release: what the section did, to the `read` that sees it (INV-DI-2). The finisher's write in the asymmetric
        // pair with a waiter's registration (see `barrier`).
        self.0.store(0, Release);
    }

    fn publish(&self, reading: u64) {
        // ORD: SeqCst: the section's write in the Dekker pair with `Clock::settle`, whose reading of the clock precedes
        // its `read`.
        self.0.swap(reading, SeqCst);
    }

    /// Publishes the section's generation in place of the first reading. A look at the waiter count has to follow.
    #[cold]
    pub(crate) fn raise(&self, generation: u64) {
        // ORD: SeqCst: as in `close`: those whom the first reading held up and this does not are let go by the look after it.
        self.0.swap(generation, SeqCst);
    }

    /// Publishes without the fence that has to follow, for a test that must notice.
    #[cfg(all(test, gencount_loom))]
    pub(crate) fn publish_unfenced(&self, reading: u64) {
        self.publish(reading);
    }

    /// The reading that is published, if the section is open.
    pub(crate) fn read(&self) -> Option<u64> {
        // ORD: SeqCst: acquires what `close` released, and is the settler's read in both Dekker pairs.
        match self.0.load(SeqCst) {
            0 => None,
            reading => Some(reading),
        }
    }
}

/// What [`Clock::raise`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Raised {
    /// The clock is past the target.
    Past,
    /// The clock has never been at the target: no section can have had it as its generation.
    NeverIssued,
}

impl Clock {
    #[cfg(not(gencount_loom))]
    pub(crate) const fn new() -> Self {
        Self { clock: CachePadded::new(AtomicU64::new(1)), watermark: CachePadded::new(AtomicU64::new(0)) }
    }

    #[cfg(gencount_loom)]
    pub(crate) fn new() -> Self {
        Self { clock: CachePadded::new(AtomicU64::new(1)), watermark: CachePadded::new(AtomicU64::new(0)) }
    }

    /// The clock, before the section is published: any value that the clock has had will do, a late one spares waiters.
    #[inline]
    pub(crate) fn first_reading(&self) -> u64 {
        // ORD: Relaxed: see above.
        self.clock.load(Relaxed)
    }

    /// Publishes the section.
    #[inline]
    pub(crate) fn publish(&self, slot: &Published, reading: u64) {
        slot.publish(reading);
        fence_between_seqcst();
    }

    /// The clock, after the section is published: its generation.
    #[inline]
    pub(crate) fn second_reading(&self) -> u64 {
        // ORD: SeqCst: the section's read in the Dekker pair with `raise` and `settle`.
        self.clock.load(SeqCst)
    }

    /// Raises the clock past `target`, if it has been there.
    ///
    /// # Panics
    ///
    /// If that was the last of 2^64 generations.
    pub(crate) fn raise(&self, target: u64) -> Raised {
        // ORD: SeqCst: whether raised here or found raised, it precedes the scan in the total order. Who read the target
        // from a word that was marked before (Acquire) reads the clock no older than the marker did.
        let now = self.clock.load(SeqCst);
        if now < target {
            return Raised::NeverIssued;
        }
        if now == target {
            let next = now.checked_add(1).expect("generations are exhausted: 2^64 were waited for");
            // ORD: SeqCst: the settler's write in the Dekker pair with `publish` and `second_reading`. On failure,
            // somebody else has raised it, and `settle` reads it again.
            let _ = self.clock.compare_exchange(now, next, SeqCst, SeqCst);
        }
        Raised::Past
    }

    /// Whether the clock has been at `target`.
    #[cfg(not(gencount_loom))]
    pub(crate) fn has_issued(&self, target: u64) -> bool {
        // ORD: SeqCst, as in `raise`.
        self.clock.load(SeqCst) >= target
    }

    /// Where the watermark can go at most: just below the clock.
    pub(crate) fn limit(&self) -> u64 {
        // ORD: SeqCst: the settler's read of the clock, which precedes its reads of the slots.
        let now = self.clock.load(SeqCst);
        fence_between_seqcst();
        now - 1
    }

    /// Raises the watermark to `limit`, which a scan has confirmed. Returns whether it was below.
    pub(crate) fn advance(&self, limit: u64) -> bool {
        // ORD: Relaxed: saves the read-modify-write when there is nothing to do.
        self.watermark.load(Relaxed) < limit
            // ORD: AcqRel: releases what the scan has acquired (INV-DI-2).
            && self.watermark.fetch_max(limit, AcqRel) < limit
    }

    #[inline]
    pub(crate) fn watermark(&self) -> u64 {
        // ORD: Acquire pairs with `advance`: what all sections up to here did is visible (INV-DI-2).
        self.watermark.load(Acquire)
    }
}

/// The end of a settler's scan: `limit`, or just below the smallest of the readings found published. They come from all
/// slots that were ever published in before the clock was read for [`Clock::limit`].
pub(crate) fn oldest(limit: u64, readings: impl Iterator<Item = u64>) -> u64 {
    readings.fold(limit, |limit, reading| limit.min(reading - 1))
}
