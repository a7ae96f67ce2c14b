//! Virtual memory above the pmap: what a kernel has to add so that processes can run on it.
//!
//! `map` says what is mapped where, `limits` how much; `object` holds the pages of files and of shared memory; `page` is one page, wherever
//! its contents are at the moment; `space` joins these with a pmap. `fault` resolves page faults, `range` has unmap,
//! protect and advice, `discard` and `remap` throw pages away and move them, `fork` copies a space. `pool` hands out frames, `pageout` takes them back, `swap` keeps what they
//! held. `copy` moves bytes between kernel and user addresses; `visit` has kernel threads
//! touch user addresses as programs do.
//!
//! # Locks
//!
//! All are mutexes that lend priority, and whose waiters serve shootdowns, because the pmap is called with them held. Outermost first:
//!
//! 1. whether a space's page tables lag behind its map (`Space::lag`): shared for unmap and protect, exclusive for a fork;
//! 2. a space's map (`Space::map`): shared for faults, exclusive for changes;
//! 3. a space's private pages (`Space::private`), held by a fault until its mapping is entered;
//! 4. the table of pages of one object; never held while a page is locked;
//! 5. a page: its lock is what makes it *busy*. A second one is locked with one held only if nobody else knows it yet;
//! 6. free frames, the daemon's queues, free swap slots, violations: leaves.
//!
//! Whoever finds no frame lets go of everything, reclaims, and starts over.
//!
//! # Why the races come out right
//!
//! *A fault against an unmap.* The unmap takes the range out of the map exclusively, then calls `Pmap::remove` without the map.
//! A fault that came earlier has entered its mapping by then, since it held the map shared; one that comes later finds nothing.
//!
//! *A frame goes back* only when no space holds its page, and a space stops holding a page only after `Pmap::remove` of the
//! range, or `Pmap::enter` of the page's replacement, has returned: both have flushed by then.
//!
//! *The page daemon* locks the page, so nobody enters it, and no space at all. Between its `remove_all` and somebody's `Pmap::remove` of the
//! same page there is no lock of this layer: that the frame is not reused while a stale translation is left is what
//! delayed invalidation is for. `counter_proof` shows what happens without.
//!
//! *A fork against an unmap or a protect* waits until the page tables have followed the map: it would copy mappings to pages that are about
//! to be freed, or leave a right to write to pages that both sides see from then on.
//!
//! *A store in place* to a private page needs a page with one holder. Only a fork of that holder adds another one, and a fork
//! holds the map exclusively.

pub(crate) mod copy;
mod counts;
mod discard;
pub(crate) mod fault;
mod fork;
mod limits;
mod made_up;
mod map;
mod object;
mod page;
pub(crate) mod pageout;
mod pool;
mod range;
mod remap;
mod space;
mod swap;
mod violations;
pub(crate) mod visit;

use alloc::boxed::Box;

pub(crate) use counts::Counts;
pub(crate) use limits::{InsertError, LimitReached, Limits};
pub(crate) use made_up::made_up_word;
pub(crate) use map::{Backing, Vma};
pub(crate) use object::Object;
pub(crate) use range::Hint;
pub(crate) use remap::RemapError;
pub(crate) use space::Space;
pub(crate) use violations::Violations;

use crate::machine::{Board, System};

/// An address space of the kernel's pmap.
pub(crate) type SpacePmap = pmap::Pmap<'static, Board>;

/// No frame is free: let go of all locks, reclaim, start over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shortage;

/// How much memory user pages get.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Frames for the contents of pages.
    pub(crate) frames: usize,
    /// Pages that fit the swap store.
    pub(crate) swap: usize,
    /// The page daemon works below this number of free frames, until there are twice as many.
    pub(crate) low_water: usize,
    /// Whether free frames are filled with a poison that is looked for when they are handed out.
    pub(crate) poisons: bool,
}

/// One virtual-memory layer, with memory of its own.
pub(crate) struct Vm {
    system: &'static System,
    pool: pool::Pool,
    swap: swap::Swap,
    reclaim: pageout::Reclaim,
    counts: Counts,
    violations: Violations,
}

impl Vm {
    /// Takes the memory. It lives as long as the machine: page faults come at any time.
    ///
    /// # Errors
    ///
    /// [`Shortage`] if the machine has less memory than that.
    pub(crate) fn new(system: &'static System, sizes: Sizes) -> Result<&'static Self, Shortage> {
        Ok(Box::leak(Box::new(Self {
            system,
            pool: pool::Pool::new(system, sizes.frames, sizes.poisons)?,
            swap: swap::Swap::new(system, sizes.swap)?,
            reclaim: pageout::Reclaim::new(sizes.low_water),
            counts: Counts::default(),
            violations: Violations::default(),
        })))
    }

    /// The pmap.
    #[must_use]
    pub(crate) fn system(&self) -> &'static System {
        self.system
    }

    /// What has happened so far.
    #[must_use]
    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Everything that should not have happened.
    #[must_use]
    pub(crate) fn violations(&self) -> &Violations {
        &self.violations
    }

    /// With every space and object gone: checks that all frames and swap slots are free again and that no free frame was
    /// stored to, and returns the memory to the machine.
    pub(crate) fn retire(&self) {
        self.pool.drain(self.system, &self.violations);
        self.swap.drain(&self.violations);
    }
}
