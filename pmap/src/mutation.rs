//! Switches that turn one safety mechanism off, for tests that show that the harness notices.
//!
//! The switches exist only with the feature `mutations`, which no build of the library for use turns on;
//! without it every query is a constant `false` and the checks vanish.

macro_rules! mutations {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// A safety mechanism that can be switched off.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Mutation {
            $($(#[$doc])* $variant,)*
        }

        impl Mutation {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name used on command lines.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }
        }
    };
}

mutations! {
    /// `remove_all` and `remove_write` do not wait for other threads' delayed invalidations.
    NoDiWait = "no-di-wait",
    /// `remove_all` does not wait if the PV list is empty on arrival (H-28).
    NoWaitIfEmpty = "no-wait-if-empty",
    /// `remove_write` does not wait if the page is not marked writeable on arrival (H-28).
    NoWaitIfReadOnly = "no-wait-if-read-only",
    /// `remove` does not mark the pages whose PV entries it unlinks (H-76).
    NoMark = "no-mark",
    /// Every 16th shootdown forgets one of its targets.
    ForgetShootdown = "forget-shootdown",
    /// Operations over ranges do not flush at all.
    NoFlush = "no-flush",
    /// `protect` and `advise` release the pmap lock before they flush.
    FlushAfterUnlock = "flush-after-unlock",
    /// `enter` replaces a frame without a flush in between (H-11).
    NoBreak = "no-break",
    /// `enter` does not flush when a dirty bit or the right to execute goes (H-12).
    NoFlushOfLostRights = "no-flush-of-lost-rights",
    /// `clear_modify` does not flush.
    NoFlushOfClean = "no-flush-of-clean",
    /// `ts_referenced` does not flush.
    NoFlushOfUnaccessed = "no-flush-of-unaccessed",
    /// `qenter` does not flush what it replaces, nor `qremove` what it removes.
    NoFlushOfKernel = "no-flush-of-kernel",
    /// Page-table pages are freed before the flush (H-16).
    FreeBeforeFlush = "free-before-flush",
    /// A directory that goes leaves behind what is saved in it.
    LoseSaved = "lose-saved",
    /// A page-table page that was saved becomes a chunk with what it holds.
    RecycleAsIs = "recycle-as-is",
    /// A table that goes is not flushed unless one of its leaves must be (H-15).
    NoFlushOfTables = "no-flush-of-tables",
    /// `unwire` clears its bit by a load and a store (H-13).
    PlainUnwire = "plain-unwire",
    /// `protect` and `advise` change entries by a load and a store.
    PlainProtect = "plain-protect",
    /// Dirty bits of removed entries are forgotten.
    ForgetDirty = "forget-dirty",
    /// Accessed bits of removed entries are forgotten (H-86).
    ForgetReferenced = "forget-referenced",
    /// Pages are not marked writeable when they get a writable mapping (H-71).
    NoWriteableMark = "no-writeable-mark",
    /// Questions about an address do not look whether its entry is valid (H-52).
    TrustInvalid = "trust-invalid",
    /// `copy_from` copies entries as they are (H-59).
    CopyAsIs = "copy-as-is",
    /// `extract_and_hold` takes a hold although holds are refused.
    HoldAnyway = "hold-anyway",
    /// Frames that are out of use are used (H-41).
    UseRetired = "use-retired",
    /// Entries have the no-execute bit although the processors have none.
    NoExecuteAnyway = "no-execute-anyway",
    /// Entering does not look again, with the page's lock held, whether its frame has gone out of use (H-41).
    NoSecondLookAtRetired = "no-second-look-at-retired",
    /// `clear_modify` takes a page that is not marked writeable for one that nobody can store to.
    TrustWriteableMark = "trust-writeable-mark",
    /// `remove_pages` takes wired mappings, too.
    RemoveWiredPages = "remove-wired-pages",
    /// `remove_pages` does not look whether the address space is active elsewhere (H-39).
    RemovePagesAnywhere = "remove-pages-anywhere",
    /// Going from a page to a pmap against lock order, the list's generation is not compared (H-70).
    StaleReversal = "stale-reversal",
    /// Reclaiming works without a section of delayed invalidation, so that pages are not marked.
    ReclaimUnmarked = "reclaim-unmarked",
    /// Reclaiming takes wired mappings, too.
    ReclaimWired = "reclaim-wired",
    /// Reclaiming for an address space takes the entries that the same address space has reserved (H-4).
    ReclaimOwnReserve = "reclaim-own-reserve",
    /// A reservation does not count again after reclaiming (H-5).
    NoRecount = "no-recount",
    /// Invalidations leave the PCIDs of CPUs that are not interrupted good.
    NoRevocation = "no-revocation",
    /// A PCID that is handed out is loaded with what is cached under it.
    ReusedPcid = "reused-pcid",
    /// The generation of a CPU's PCIDs wraps around to 0, which stands for "none" (H-77).
    GenerationZero = "generation-zero",
    /// An activation looks at its PCID before it joins the active set (H-17).
    TagBeforeActive = "tag-before-active",
    /// A CPU joins the active set of its new address space when it has loaded the root, not before (H-17).
    LateJoin = "late-join",
    /// A CPU leaves the active set of its old address space before it loads another root (H-17).
    EarlyLeave = "early-leave",
    /// Neither activation nor invalidation has its fence (H-17). The software machine gives atomics a total order and so cannot
    /// see it; the loom test does.
    NoActivationFence = "no-activation-fence",
    /// Address spaces are switched with interrupts enabled (H-18).
    InterruptsInSwitch = "interrupts-in-switch",
    /// Invalidations do not keep the thread on its CPU (H-19).
    Unpinned = "unpinned",
    /// INVLPG is trusted with global translations even where it misses them (H-20).
    TrustInvlpg = "trust-invlpg",
    /// Who waits with interrupts disabled, for a lock or for acknowledgements, serves no requests (H-22).
    DeafWaiter = "deaf-waiter",
    /// Every request is acknowledged before it is done, permitted or not (H-23).
    AcknowledgeFirst = "acknowledge-first",
    /// Acknowledgements may be early although page-table pages are to be freed (H-23).
    EarlyWithTables = "early-with-tables",
    /// A CPU that comes back into service keeps its translations (H-79).
    NoFlushOnStart = "no-flush-on-start",
    /// INVLPGB without TLBSYNC (H-80).
    NoTlbsync = "no-tlbsync",
    /// Pages whose rights are taken with the flush delayed past the pmap lock are not marked.
    NoDelayedMark = "no-delayed-mark",
    /// Who holds a pmap lock believes the tables although a flush is delayed past it.
    IgnoreDelayed = "ignore-delayed",
}

impl core::fmt::Display for Mutation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// No mutation has that name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownMutation;

impl core::fmt::Display for UnknownMutation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str("no such mutation; there are")?;
        Mutation::ALL.iter().try_for_each(|m| write!(f, " {m}"))
    }
}

impl core::error::Error for UnknownMutation {}

impl core::str::FromStr for Mutation {
    type Err = UnknownMutation;

    fn from_str(name: &str) -> Result<Self, UnknownMutation> {
        Self::ALL.iter().copied().find(|m| m.name() == name).ok_or(UnknownMutation)
    }
}

/// Whether this build contains the switches.
#[must_use]
pub const fn available() -> bool {
    cfg!(feature = "mutations")
}

#[cfg(feature = "mutations")]
mod switch {
    use super::Mutation;
    use crate::cpuset::CpuSet;
    use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

    /// The mutation in force in one system, if any.
    #[derive(Default)]
    pub(crate) struct Switch {
        chosen: AtomicU8,
        shootdowns: AtomicU64,
    }

    impl Switch {
        pub(crate) const fn new() -> Self {
            Self { chosen: AtomicU8::new(0), shootdowns: AtomicU64::new(0) }
        }

        pub(crate) fn set(&self, mutation: Option<Mutation>) {
            let code = mutation.map_or(0, |m| m as u8 + 1);
            // ORD: Relaxed; set before the CPUs start, nothing else hangs on it.
            self.chosen.store(code, Ordering::Relaxed);
        }

        /// Whether the mechanism is switched off.
        pub(crate) fn is(&self, mutation: Mutation) -> bool {
            // ORD: Relaxed; as in `set`.
            self.chosen.load(Ordering::Relaxed) == mutation as u8 + 1
        }

        pub(crate) fn forget_shootdown(&self, targets: &mut CpuSet) {
            // ORD: Relaxed; a plain count.
            if self.is(Mutation::ForgetShootdown) && self.shootdowns.fetch_add(1, Ordering::Relaxed) % 16 == 7
            {
                let lost = targets.iter().next();
                lost.into_iter().for_each(|cpu| targets.remove(cpu));
            }
        }
    }
}

#[cfg(not(feature = "mutations"))]
mod switch {
    use super::Mutation;
    use crate::cpuset::CpuSet;

    /// Nothing can be switched off in this build.
    pub(crate) struct Switch;

    impl Switch {
        pub(crate) const fn new() -> Self {
            Self
        }

        #[inline(always)]
        pub(crate) const fn is(&self, _mutation: Mutation) -> bool {
            false
        }

        #[inline(always)]
        pub(crate) const fn forget_shootdown(&self, _targets: &mut CpuSet) {}
    }
}

pub(crate) use switch::Switch;
