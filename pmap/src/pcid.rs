//! PCIDs: who has which on which CPU, and how cached translations are invalidated without an interrupt.
//!
//! Each CPU hands out its own PCIDs, in order, and has a *generation*. An address space has a *tag* for each CPU: the PCID it
//! was given there, and the generation in which. A tag is good if its generation is the CPU's; then what the CPU has cached under
//! the PCID may be used. Otherwise the next activation takes a new PCID and loads it without the no-flush bit. When a CPU has handed out
//! all PCIDs it begins a new generation, by which all tags for it go bad at once. So a PCID is never loaded with what another
//! owner left under it (INV-C-1), and nothing is flushed when PCIDs run out.
//!
//! *Lazy invalidation* (INV-C-2). Whoever invalidates takes the generation out of the address space's tags, and interrupts only CPUs
//! that run it. The others flush when they activate it next, if ever.
//!
//! # The race (H-17)
//!
//! ```text
//! activate                                   revoke
//!   join the active set                        tag := no generation, for every CPU
//!   fence                                      fence
//!   read the tag: good, or a new PCID          read the active set: interrupt those in it
//! ```
//!
//! It cannot be that the activation finds the tag good *and* the invalidation does not see the CPU: one of the two fences is first
//! in their total order, and what precedes it is seen by what follows the other. `tests/loom.rs` checks these functions, and that
//! without the fences the check fails.

use crate::mutation::{Mutation, Switch};
use crate::primitive::{AtomicU32, AtomicU64, Ordering, fence};

/// Bits of a generation. A tag that is not used meanwhile becomes good again when all generations have been there: a CPU that
/// switched a million times a second, with a single PCID for users, would need almost nine years.
const GENERATION_BITS: u32 = 48;

/// The generation in a tag, below the PCID; 0 is no CPU's generation. Also the last one before it starts over.
pub(crate) const GENERATION: u64 = (1 << GENERATION_BITS) - 1;

fn tag(pcid: u16, generation: u64) -> u64 {
    u64::from(pcid) << GENERATION_BITS | generation
}

/// What one CPU hands out. Used by that CPU only, with interrupts disabled.
pub(crate) struct Allocator {
    next: AtomicU32,
    generation: AtomicU64,
}

/// The first PCID that is handed out; below is the kernel's.
const FIRST: u32 = 1;

impl Allocator {
    pub(crate) fn new() -> Self {
        Self { next: AtomicU32::new(FIRST), generation: AtomicU64::new(1) }
    }

    /// Goes on as if this had been the CPU's generation for a while. For tests of what happens once in 2^48 times.
    #[cfg(any(test, feature = "mutations"))]
    pub(crate) fn set_generation(&self, generation: u64) {
        // ORD: Relaxed; own CPU's.
        self.generation.store(generation & GENERATION, Ordering::Relaxed);
    }

    /// The generation of what is handed out now.
    pub(crate) fn generation(&self) -> u64 {
        // ORD: Relaxed; own CPU's.
        self.generation.load(Ordering::Relaxed)
    }

    /// A PCID below `limit`, and the generation to which it belongs.
    fn take(&self, limit: u16, switch: &Switch) -> (u16, u64) {
        // ORD: Relaxed, here and below; own CPU's.
        let mut next = self.next.load(Ordering::Relaxed);
        let mut generation = self.generation();
        if next >= u32::from(limit) {
            next = FIRST;
            // A tag without a generation must not become good (H-77).
            generation = match (generation + 1) & GENERATION {
                0 if !switch.is(Mutation::GenerationZero) => 1,
                generation => generation,
            };
            self.generation.store(generation, Ordering::Relaxed); // ORD: as above
        }
        self.next.store(next + 1, Ordering::Relaxed); // ORD: as above
        (next as u16, generation)
    }
}

/// What an activation found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Assigned {
    pub(crate) pcid: u16,
    /// What is cached under it may be used: CR3 may be loaded with the no-flush bit.
    pub(crate) kept: bool,
}

/// The PCID, below `limit`, of the address space with this tag for the current CPU. `join` puts the CPU into the address space's
/// active set. With interrupts disabled.
pub(crate) fn activate(
    own: &AtomicU64,
    cpu: &Allocator,
    limit: u16,
    switch: &Switch,
    join: impl FnOnce(),
) -> Assigned {
    // ORD: Relaxed, both loads; the fence between `join` and this one orders it, see the module documentation.
    let look = || own.load(Ordering::Relaxed);
    let too_early = switch.is(Mutation::TagBeforeActive).then(look);
    join();
    if !switch.is(Mutation::NoActivationFence) {
        // ORD: SeqCst; pairs with the fence in `revoke`. On x86 the locked instruction in `join` is one already.
        fence(Ordering::SeqCst);
    }
    let found = too_early.unwrap_or_else(look);
    if found & GENERATION == cpu.generation() {
        return Assigned { pcid: (found >> GENERATION_BITS) as u16, kept: true };
    }
    let (pcid, generation) = cpu.take(limit, switch);
    // ORD: Relaxed; ordered by the fence, too: an invalidation that does not see this CPU in the active set precedes it.
    own.store(tag(pcid, generation), Ordering::Relaxed);
    Assigned { pcid, kept: switch.is(Mutation::ReusedPcid) }
}

/// Makes the tags for all CPUs bad, except for CPU `except`, which invalidates by itself; calls `lost` with every CPU for which one was
/// good, as far as can be told from here; then `look`s at the active set. Page tables have been changed before.
pub(crate) fn revoke<R>(
    tags: &[AtomicU64],
    except: Option<usize>,
    switch: &Switch,
    mut lost: impl FnMut(usize),
    look: impl FnOnce() -> R,
) -> R {
    for (cpu, tag) in tags.iter().enumerate() {
        if except == Some(cpu) || switch.is(Mutation::NoRevocation) {
            continue;
        }
        // Looked at first: most tags have no generation most of the time, and a store would take the line from others. If this
        // load precedes an activation's store, that activation loads a new PCID, and walks the tables after its fence.
        // ORD: Relaxed, both; the fence orders them.
        let old = tag.load(Ordering::Relaxed);
        if old & GENERATION != 0 {
            tag.store(old & !GENERATION, Ordering::Relaxed); // ORD: as above
            lost(cpu);
        }
    }
    if !switch.is(Mutation::NoActivationFence) {
        // ORD: SeqCst; pairs with the fence in `activate`. It also stands between the page-table stores and the look.
        fence(Ordering::SeqCst);
    }
    look()
}

#[cfg(all(test, not(pmap_loom)))]
mod tests {
    use super::*;

    static SWITCH: Switch = Switch::new();

    fn activate_quietly(own: &AtomicU64, cpu: &Allocator) -> Assigned {
        activate(own, cpu, 4, &SWITCH, || {})
    }

    #[test]
    fn a_tag_is_good_until_it_is_revoked_or_pcids_run_out() {
        let cpu = Allocator::new();
        let tags = [const { AtomicU64::new(0) }; 4];
        let first = activate_quietly(&tags[0], &cpu);
        assert_eq!(first, Assigned { pcid: 1, kept: false });
        assert_eq!(activate_quietly(&tags[0], &cpu), Assigned { kept: true, ..first });
        let mut lost = std::vec::Vec::new();
        revoke(&tags[..1], None, &SWITCH, |cpu| lost.push(cpu), || {});
        revoke(&tags[..1], None, &SWITCH, |cpu| lost.push(cpu), || {});
        assert_eq!(lost, [0], "only a good one can be lost");
        assert_eq!(activate_quietly(&tags[0], &cpu), Assigned { pcid: 2, kept: false });
        revoke(&tags[..1], Some(0), &SWITCH, |_| unreachable!("excepted"), || {});
        assert_eq!(activate_quietly(&tags[1], &cpu).pcid, 3);
        // None is left: a new generation.
        assert_eq!(activate_quietly(&tags[2], &cpu), Assigned { pcid: 1, kept: false });
        assert_eq!(activate_quietly(&tags[0], &cpu), Assigned { pcid: 2, kept: false });
    }

    #[test]
    fn no_generation_is_never_a_generation() {
        let cpu = Allocator::new();
        cpu.set_generation(GENERATION);
        let tags = [const { AtomicU64::new(0) }; 8];
        for round in 0..2 {
            for tag in &tags {
                assert!(!activate_quietly(tag, &cpu).kept, "round {round}");
            }
        }
        assert!((1..8).contains(&cpu.generation()), "{}", cpu.generation());
        assert!(!activate_quietly(&AtomicU64::new(0), &cpu).kept);
    }

    /// A tag that nobody touches for 2^32 generations is as bad as it was after one.
    #[test]
    fn a_tag_stays_bad_over_many_generations() {
        let cpu = Allocator::new();
        let old = AtomicU64::new(0);
        for later in [1 << 16, 1 << 32, 1 << 47, GENERATION] {
            cpu.set_generation(7);
            assert!(activate_quietly(&old, &cpu).pcid < 4);
            cpu.set_generation((7 + later) & GENERATION);
            assert!(!activate_quietly(&old, &cpu).kept, "{later} generations later");
        }
        // The PCID, all bits of it, and the generation are kept apart.
        let cpu = Allocator::new();
        cpu.set_generation(GENERATION);
        cpu.next.store(4095, Ordering::Relaxed); // ORD: one thread
        let own = AtomicU64::new(0);
        let take = || activate(&own, &cpu, 4096, &SWITCH, || {});
        assert_eq!([take(), take()], [false, true].map(|kept| Assigned { pcid: 4095, kept }));
    }
}
