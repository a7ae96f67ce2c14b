//! The rules, and what is said of one that is broken.

use core::fmt;

use crate::cpuset::CpuId;

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident: $text:literal;)*) => {
        /// A rule of [`Machine`](crate::Machine) that the suite can see broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[repr(u8)]
        pub enum Rule {
            $($(#[$doc])* #[doc = $text] $name,)*
        }

        impl Rule {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)*
                }
            }
        }
    };
}

rules! {
    FrameOutsideMemory: "allocate_frame gives frames of memory() only, and never frame 0";
    FrameTwice: "allocate_frame gives no frame that is in use";
    FrameNotZeroed: "allocate_frame gives frames that are filled with zeroes";
    FrameNotReturned: "free_frame takes frames back, so that they can be allocated again";
    FrameAt: "frame_at is the inverse of direct_map";
    DirectMapMoves: "direct_map gives the same pointer for a frame every time, aligned to 4096 bytes";
    DirectMapOverlaps: "direct_map gives different memory for different frames";
    Changing: "memory(), cpu_count(), kernel_window(), domain_count() and tlb_features() never change";
    Domains: "domain_count() is 1 to MAX_DOMAINS, and every frame and CPU is in a domain below it";
    TlbFeatures: "tlb_features() names no PCIDs, or 2 to Pcid::COUNT";
    CpuTwice: "no two CPUs have the same current_cpu()";
    CpuBeyond: "current_cpu() is below cpu_count()";
    CpuMoves: "current_cpu() is stable inside without_preemption and without_interrupts";
    NotPinned: "is_pinned() is true inside without_preemption and without_interrupts";
    WrongTranslation: "what the page tables say is what is read, when nothing is cached";
    InvalidatePage: "invalidate_page drops the translation of its page under the current PCID";
    InvalidatePageTables: "invalidate_page drops what paging-structure caches hold under the current PCID";
    InvalidatePageGlobal: "invalidate_page drops global translations, unless invlpg_misses_globals()";
    InvalidatePageGlobalElsewhere: "invalidate_page drops global translations that were made under another PCID (CR4.PGE is set)";
    InvalidateEverything: "invalidate_everything drops translations of the current address space";
    InvalidateEverythingGlobal: "invalidate_everything drops global translations";
    InvalidateEverythingPcids: "invalidate_everything drops translations under every PCID";
    LoadCr3: "load_cr3 without no_flush drops what is cached under its PCID";
    PcidsApart: "translations under one PCID are not used under another";
    InvpcidAddress: "invpcid(Address) drops the translation of its address under its PCID";
    InvpcidContext: "invpcid(Context) drops everything under its PCID";
    InvpcidAll: "invpcid(AllWithGlobals) drops everything, under all PCIDs";
    InvpcidAllGlobal: "invpcid(AllWithGlobals) drops global translations";
    InvpcidAllButGlobals: "invpcid(AllButGlobals) drops everything but global translations, under all PCIDs";
    InvlpgbHere: "invlpgb and tlbsync drop translations on the CPU that issues them";
    InvlpgbElsewhere: "invlpgb has been done on all CPUs when tlbsync returns";
    ShootdownServed: "after send_shootdown every target calls Shootdowns::serve in finite time";
    ShootdownEffect: "a target of a shootdown uses nothing old once it has been served";
    InterruptsMasked: "without_interrupts keeps shootdowns from being served until it returns";
    MutexExcludes: "RawMutex excludes";
    MutexTryLock: "RawMutex::try_lock fails while another thread has the lock";
    RwLockExcludes: "RawRwLock excludes writers from everybody";
    RwLockTryLock: "RawRwLock's try functions fail while the lock excludes the caller";
    ParticipantMoves: "participant() is the same for a thread every time";
    ParticipantShared: "participant() is the current thread's own and used by no other";
    ParticipantDomains: "participants are all in one domain";
    TooManyThreads: "the suite is run once on each CPU";
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.text())
    }
}

/// A rule is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rule.
    pub rule: Rule,
    /// The CPU that saw it; `None` where CPUs do not matter.
    pub cpu: Option<CpuId>,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the machine breaks a rule: {}", self.rule)?;
        self.cpu.map_or(Ok(()), |cpu| write!(f, " (seen on CPU {})", cpu.index()))
    }
}

impl core::error::Error for Broken {}

/// A set of rules.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct RuleSet(pub(super) u64);

const _: () = assert!(Rule::ALL.len() <= 64, "a rule is a bit");

impl RuleSet {
    pub(super) const fn of(rule: Rule) -> Self {
        Self(1 << rule as u8)
    }

    /// Whether `rule` is in it.
    #[must_use]
    pub const fn contains(self, rule: Rule) -> bool {
        self.0 & Self::of(rule).0 != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The rules.
    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL.iter().copied().filter(move |rule| self.contains(*rule))
    }
}

impl fmt::Debug for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}
