//! An address space to measure with: its frames, and the CPUs that have it loaded.

use alloc::boxed::Box;
use alloc::string::{String, ToString as _};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::hint::spin_loop;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use pmap::{Access, CpuId, EnterFlags, Frame, PAGE_SIZE, Pmap, Protection, VirtAddr, VirtRange};
use turnstile::Priority;

use crate::machine::{Board, System};
use crate::memory::frames;
use crate::sched::{self, Handle, Space, spawn_on};

/// Where pages are mapped: all but the last of 512 under one leaf table.
const AT: VirtAddr = VirtAddr(0x4000_0000 + PAGE_SIZE);
/// Pages that stay mapped, so that the tables stay: before the others and behind them.
const ANCHORS: [VirtAddr; 2] = [VirtAddr(AT.0 - PAGE_SIZE), VirtAddr(AT.0 + MOST_PAGES * PAGE_SIZE)];
/// Most pages.
pub(super) const MOST_PAGES: u64 = 512;
/// Rights to read and write.
pub(super) const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// What other CPUs do while the address space is loaded there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Others {
    /// Wait for an interrupt.
    Halt,
    /// Run a thread of the address space, in the kernel.
    Spin,
}

/// See the module documentation.
pub(super) struct Stage {
    pub(super) system: &'static System,
    /// In a box because CPUs know where it is.
    space: Box<Pmap<'static, Board>>,
    frames: Vec<Frame>,
    /// Of threads that spin.
    stop: Arc<AtomicBool>,
    spinning: Vec<Handle>,
}

impl Stage {
    /// An address space with frames for `pages` pages, not loaded anywhere, with the anchors mapped.
    ///
    /// # Errors
    ///
    /// What is missing, in a sentence.
    pub(super) fn new(system: &'static System, pages: u64) -> Result<Self, String> {
        let space = Box::new(system.create().map_err(|error| error.to_string())?);
        let mut stage =
            Self { system, space, frames: Vec::new(), stop: Arc::default(), spinning: Vec::new() };
        for _ in 0..pages + ANCHORS.len() as u64 {
            stage.frames.push(frames::allocate().ok_or("no memory for the pages: give the machine more")?);
        }
        for (anchor, frame) in ANCHORS.into_iter().zip(&stage.frames[pages as usize..]) {
            let entered = stage.space.enter(anchor, *frame, READ_WRITE, Access::Write, EnterFlags::empty());
            entered.map_err(|error| error.to_string())?;
        }
        Ok(stage)
    }

    pub(super) fn space(&self) -> &Pmap<'static, Board> {
        &self.space
    }

    /// The first `pages` of its pages.
    pub(super) fn range(&self, pages: u64) -> VirtRange {
        VirtRange::new(AT, AT.wrapping_add(pages * PAGE_SIZE)).expect("page addresses in order")
    }

    /// The frame for a page.
    pub(super) fn frame(&self, va: VirtAddr) -> Frame {
        self.frames[((va.0 - AT.0) / PAGE_SIZE) as usize]
    }

    /// Enters a range, each page accessed and dirty.
    pub(super) fn enter(&self, range: VirtRange) {
        for va in range.iter() {
            self.space
                .enter(va, self.frame(va), READ_WRITE, Access::Write, EnterFlags::empty())
                .expect("there are tables and frames");
        }
    }

    /// The address space, for another thread to load.
    pub(super) fn handle(&self) -> Loadable {
        Loadable(NonNull::from(&*self.space))
    }

    /// Has the calling thread run in the address space.
    pub(super) fn load(&self) {
        self.handle().load();
    }

    /// Has CPUs 1 to `count` load it, too.
    pub(super) fn load_elsewhere(&mut self, count: usize, others: Others) {
        let loaded = Arc::new(AtomicUsize::new(0));
        for cpu in (1..=count).filter_map(CpuId::new) {
            let (loaded, stop, space) = (loaded.clone(), self.stop.clone(), self.handle());
            let body = move || {
                space.load();
                // ORD: Release pairs with the Acquire below: it is loaded.
                loaded.fetch_add(1, Ordering::Release);
                // ORD: Relaxed: looked at again and again.
                while others == Others::Spin && !stop.load(Ordering::Relaxed) {
                    spin_loop();
                }
            };
            let thread = spawn_on(cpu, "target", Priority::NORMAL, body).expect("memory for a thread");
            match others {
                Others::Spin => self.spinning.push(thread),
                // The CPU keeps what the thread has loaded.
                Others::Halt => thread.join(),
            }
        }
        // ORD: Acquire, as above.
        while loaded.load(Ordering::Acquire) < count {
            sched::yield_now();
            spin_loop();
        }
    }

    /// CPUs beside the calling one that have it loaded.
    pub(super) fn targets(&self) -> u64 {
        let here = sched::without_preemption(crate::arch::percpu::current_cpu);
        self.space.active_cpus().iter().filter(|cpu| *cpu != here).count() as u64
    }

    /// Takes everything down.
    pub(super) fn end(self) {
        leave();
        self.stop.store(true, Ordering::Relaxed); // ORD: Relaxed: as in `load_elsewhere`
        self.spinning.into_iter().for_each(Handle::join);
        while !self.space.active_cpus().is_empty() {
            sched::leave_address_spaces();
            spin_loop();
        }
        // With no CPU left its drop removes all mappings.
        drop(self.space);
        self.frames.into_iter().for_each(frames::free);
    }
}

/// An address space on its way to another thread. Its stage ends when no CPU has it loaded, and after the threads that load it.
pub(super) struct Loadable(Space);

// SAFETY: an address space may be used from all CPUs.
unsafe impl Send for Loadable {}

impl Loadable {
    /// Has the calling thread run in the address space.
    pub(super) fn load(self) {
        // SAFETY: the stage outlives the thread, or the thread leaves it before (`leave`), see above.
        unsafe { sched::set_address_space(Some(self.0)) };
    }
}

/// Has the calling thread run in no address space.
pub(super) fn leave() {
    // SAFETY: none.
    unsafe { sched::set_address_space(None) };
}
