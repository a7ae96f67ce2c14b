//! A small but honest virtual-memory layer above the pmap: file objects with shared frames, private
//! copy-on-write, anonymous memory, fork, exec, exit, and a page daemon with a swap store.
//!
//! Where things are: `vma` says what is mapped where; `page` is one page of memory, wherever it is
//! at the moment; `object` holds the pages of files and shared memory; `space` is an address space
//! with its private pages; `access` makes a simulated CPU touch an address and `fault` resolves what
//! it runs into; `range` has unmap, protect and advice, `fork`, `remap` and `exit` what their
//! names say; `pageout` takes frames back. `observer` is where a checker looks on.
//!
//! An unmap goes: `replay/event.rs` → `range` (the mapped range disappears, `Pmap::remove`
//! runs with no lock of this layer held, the frames are given back) → the pmap's `remove` (delayed
//! invalidation begins, entries and PV entries go, one flush) → `pmap::shootdown` → an interrupt per CPU
//! that runs the space.
//!
//! # Locks
//!
//! All are the software machine's, whose waiters serve shootdowns, because the pmap is called with them
//! held. Order, outermost first:
//!
//! 1. a space's layout (`Space::layout`; shared for faults, exclusive for changes of what is mapped);
//! 2. a shard of a space's private pages (`Space::shards`);
//! 3. a page (`Page` behind `PageRef`). A second page is locked with one held only if nobody else can
//!    hold it (a new one) or with `try_lock` (prefaulted neighbours).
//!
//! `std` mutexes guard the rest (object tables, the reclaim queue, the checker): leaves, under which nothing
//! of the pmap or the machine is called. Whoever is out of memory lets go of everything before reclaiming.
//!
//! # Why races come out right
//!
//! *Fault against unmap or protect.* A fault holds the layout shared until its mapping is entered. Unmap
//! changes the layout under the exclusive lock and calls the pmap afterwards: a mapping entered by an earlier
//! fault is seen by `Pmap::remove`, a later fault finds nothing mapped (or the lesser rights).
//!
//! *Fault against DONTNEED.* The range stays mapped, so a fault could enter a new page while the old ones
//! go. The private pages are taken out under the exclusive lock and the range is marked busy until
//! `Pmap::remove` has returned; accesses that nothing orders against the advice step back meanwhile.
//!
//! *Freeing.* A frame goes back only when no space holds its page, and a space lets go of a page only after
//! `Pmap::remove` for its range, or `Pmap::enter` of the page's replacement, has returned.
//!
//! *Page daemon against everything.* The daemon locks the page, so nobody enters it meanwhile. It takes no lock of
//! a space. Between its `remove_all` and an unmap of the same page on another CPU there is no lock of this layer
//! at all: that the frame is not reused under a stale translation is the work of delayed invalidation.
//!
//! *Fork.* Runs under the parent's exclusive layout lock. Private ranges lose write permission before
//! they are copied; a mapping that the daemon is removing either is still seen by `copy_from` (then its copy
//! joins the PV list that the daemon is emptying) or is not copied.
//!
//! *In-place write to a private page.* Allowed if the page has one holder. Only a fork of that holder could
//! add one, and fork needs the layout lock that the fault holds shared.

mod access;
mod cpu;
mod exit;
mod fault;
mod fork;
mod frames;
mod gauges;
mod object;
mod observer;
mod page;
mod pageout;
mod prefault;
mod range;
mod remap;
mod space;
mod swap;
mod table;
mod vma;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

pub use access::{Touch, WILD_WORD};
pub use cpu::Cpu;
pub use object::file_word;
pub use observer::{Nobody, Observer, Seen};
pub use page::{Page, PageRef, Residence};
pub use pageout::Evict;
pub use remap::RemapError;
pub use space::Space;
pub use table::Counts;
pub use vma::{Backing, Occupied, Vma, VmaMap};

use crate::trace::ObjectInfo;

/// The machine that everything here runs on.
pub type Machine = pmap::sim::SimMachine;
/// The pmap of that machine.
pub type System = pmap::System<Machine>;
/// One address space of that pmap.
pub type SpacePmap<'s> = pmap::Pmap<'s, Machine>;

/// There was no frame. Let go of all locks, reclaim, try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortage;

/// Why the virtual-memory layer gave up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmError {
    /// Nothing more can be reclaimed.
    OutOfMemory(&'static str),
    /// The run was stopped by another CPU.
    Stopped,
    /// A promise was broken; the observer has the details.
    Broken(&'static str),
}

/// How the virtual-memory layer behaves.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// A read fault on a file maps resident neighbours once in this many times; 0 is never.
    pub prefault_one_in: u64,
    /// A fault wires its page for a moment once in this many times; 0 is never.
    pub wire_one_in: u64,
    /// The page daemon starts below this many free frames; 0 is never.
    pub low_water: u64,
    /// CPUs also store through whatever translation they still have, with no lock held
    /// ([`Vm::wild_store`]); "modified" then has no exact answer.
    pub wild_stores: bool,
}

/// The virtual-memory layer of one run.
pub struct Vm<'s> {
    system: &'s System,
    objects: object::Objects,
    spaces: table::SpaceTable<'s>,
    reclaim: pageout::Reclaim,
    observer: &'s dyn Observer,
    settings: Settings,
    counts: Counts,
    gauges: gauges::Gauges,
    /// CPUs that wait until all others have left an address space.
    waiting_exits: AtomicUsize,
    /// The run is being given up.
    stopped: AtomicBool,
}

impl<'s> Vm<'s> {
    /// A virtual-memory layer without any address space.
    #[must_use]
    pub fn new(
        system: &'s System,
        objects: BTreeMap<u32, ObjectInfo>,
        observer: &'s dyn Observer,
        settings: Settings,
    ) -> Self {
        Self {
            system,
            objects: object::Objects::new(objects),
            spaces: table::SpaceTable::default(),
            reclaim: pageout::Reclaim::default(),
            observer,
            settings,
            counts: Counts::default(),
            gauges: gauges::Gauges::default(),
            waiting_exits: AtomicUsize::new(0),
            stopped: AtomicBool::new(false),
        }
    }

    /// Makes every wait end, because the run is being given up.
    pub fn stop(&self) {
        // ORD: SeqCst; before the wake-ups that make the others look.
        self.stopped.store(true, Ordering::SeqCst);
        self.wake_others(usize::MAX);
    }

    /// Whether the run is being given up.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        // ORD: Relaxed; looked at again and again.
        self.stopped.load(Ordering::Relaxed)
    }

    /// The pmap.
    #[must_use]
    pub fn system(&self) -> &'s System {
        self.system
    }

    /// The machine.
    #[must_use]
    pub fn machine(&self) -> &'s Machine {
        self.system.machine()
    }

    /// Who looks on.
    #[must_use]
    pub fn observer(&self) -> &'s dyn Observer {
        self.observer
    }

    /// What has been done so far.
    #[must_use]
    pub fn counts(&self) -> &Counts {
        &self.counts
    }
}
