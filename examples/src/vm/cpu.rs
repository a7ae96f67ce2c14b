//! What the virtual-memory layer keeps per CPU: the space that is current there, where it has been, and
//! a source of decisions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

use pmap::{CpuId, Machine as _, PAGE_SIZE, VirtAddr};

use super::page::PageRef;
use super::{Machine, Space, Vm};
use crate::hash::Dice;

/// Places that a CPU remembers in order to go back to them: the last ones, which its TLB may still know.
const RECENT: usize = 64;
/// … and some of the earlier ones, which may be in swap by now.
const EARLIER: usize = 4096;
/// One in how many visits is remembered for long.
const KEPT_ONE_IN: u64 = 16;
/// Pages of the kernel window that each CPU has for itself.
const WINDOW_PAGES: u64 = 4;

/// A place where the CPU has been.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) space: u32,
    pub(super) va: VirtAddr,
    pub(super) page: PageRef,
    /// Stores to the page up to then.
    pub(super) stores: u64,
}

/// A simulated CPU, from the virtual-memory layer's side. Lives on the thread that runs the CPU.
pub struct Cpu<'s> {
    index: usize,
    current: Option<Arc<Space<'s>>>,
    /// Decisions that depend on the seed.
    pub dice: Dice,
    recent: VecDeque<Visit>,
    earlier: VecDeque<Visit>,
    window: Option<VirtAddr>,
    pub(super) stored_values: u64,
}

impl<'s> Cpu<'s> {
    /// The CPU that runs the calling thread.
    #[must_use]
    pub fn new(vm: &Vm<'s>, seed: u64) -> Self {
        let index = vm.machine().current_cpu().index();
        let window = vm.machine().kernel_window();
        let at = window.start().wrapping_add(index as u64 * WINDOW_PAGES * PAGE_SIZE);
        let fits = window.contains(at) && window.end().0 - at.0 >= WINDOW_PAGES * PAGE_SIZE;
        Self {
            index,
            current: None,
            dice: Dice::new(seed, index as u64),
            recent: VecDeque::with_capacity(RECENT),
            earlier: VecDeque::new(),
            window: fits.then_some(at),
            stored_values: 0,
        }
    }

    /// Its index.
    #[must_use]
    pub fn index(&self) -> usize {
        self.index
    }

    /// The space that is current.
    #[must_use]
    pub fn current(&self) -> Option<&Arc<Space<'s>>> {
        self.current.as_ref()
    }

    /// Addresses in the kernel half that are this CPU's own.
    pub(super) fn window(&self) -> Option<VirtAddr> {
        self.window
    }

    pub(super) fn remember(&mut self, visit: Visit) {
        if self.dice.one_in(KEPT_ONE_IN) {
            keep(&mut self.earlier, visit.clone(), EARLIER);
        }
        keep(&mut self.recent, visit, RECENT);
    }

    /// A place in the current space where the CPU has been.
    pub(super) fn recall(&mut self) -> Option<Visit> {
        let current = self.current.as_ref()?.number();
        let visits = if self.dice.one_in(4) { &self.earlier } else { &self.recent };
        let pick = self.dice.below(visits.len() as u64) as usize;
        visits.get(pick).filter(|visit| visit.space == current).cloned()
    }

    /// An address in the current space where the CPU has been.
    pub fn somewhere(&mut self) -> Option<(Arc<Space<'s>>, VirtAddr)> {
        let visit = self.recall()?;
        Some((self.current.clone()?, visit.va))
    }

    /// A value that no other store of the run writes.
    pub(super) fn fresh_value(&mut self) -> u64 {
        self.stored_values += 1;
        crate::hash::mix((self.index as u64 + 1) << 48 ^ self.stored_values)
    }
}

impl<'s> Vm<'s> {
    /// Makes `space` current on this CPU.
    pub fn activate(&self, cpu: &mut Cpu<'s>, space: &Arc<Space<'s>>) {
        if cpu.current.as_ref().is_some_and(|current| Arc::ptr_eq(current, space)) {
            return;
        }
        space.pmap().activate();
        let old = cpu.current.replace(space.clone());
        self.left(old);
    }

    /// Leaves user space: the kernel's own page tables become current on this CPU.
    pub fn deactivate(&self, cpu: &mut Cpu<'s>) {
        if let Some(old) = cpu.current.take() {
            self.system().activate_kernel();
            self.left(Some(old));
        }
    }

    /// Leaves the current space if it is being torn down. To be called between steps and while waiting.
    pub fn poll(&self, cpu: &mut Cpu<'s>) {
        if cpu.current.as_ref().is_some_and(|space| space.is_leaving()) {
            self.deactivate(cpu);
        }
    }

    /// Lets go of a space that is not current any more, and tells whoever waits for that.
    fn left(&self, old: Option<Arc<Space<'s>>>) {
        let Some(space) = old else { return };
        drop(space);
        // ORD: SeqCst fence pairs with the one in `wait_until_left`: either it sees our reference gone, or
        // we see it wait.
        fence(Ordering::SeqCst);
        // ORD: Relaxed; ordered by the fence.
        if self.waiting_exits.load(Ordering::Relaxed) > 0 {
            self.wake_others(cpu_of(self.machine()));
        }
    }

    /// Wakes every CPU but `me`.
    pub(super) fn wake_others(&self, me: usize) {
        for cpu in (0..self.machine().cpu_count()).filter(|cpu| *cpu != me).filter_map(CpuId::new) {
            self.machine().wake(cpu);
        }
    }

    /// Asks every CPU to leave `space` and returns, as the only one that still refers to it, when all have.
    pub(super) fn wait_until_left(&self, space: Arc<Space<'s>>) -> Result<Space<'s>, Arc<Space<'s>>> {
        space.ask_to_leave();
        // ORD: Relaxed; ordered by the fence.
        self.waiting_exits.fetch_add(1, Ordering::Relaxed);
        // ORD: SeqCst fence pairs with the one in `left`.
        fence(Ordering::SeqCst);
        self.wake_others(cpu_of(self.machine()));
        self.machine().wait_until(|| Arc::strong_count(&space) == 1 || self.is_stopped());
        // ORD: Relaxed; a wake-up too many does no harm.
        self.waiting_exits.fetch_sub(1, Ordering::Relaxed);
        Arc::try_unwrap(space)
    }
}

/// Number of the CPU that runs the calling thread.
pub(super) fn cpu_of(machine: &Machine) -> usize {
    machine.current_cpu().index()
}

/// Adds to a list of bounded length; the oldest goes.
fn keep(visits: &mut VecDeque<Visit>, visit: Visit, length: usize) {
    if visits.len() == length {
        visits.pop_front();
    }
    visits.push_back(visit);
}
