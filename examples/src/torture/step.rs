//! One random step of one CPU.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pmap::sim::RwLock;
use pmap::{Access, Protection, VirtAddr};

use super::Limit;
use super::lane::{self, Kind, PAGES};
use crate::vm::{Cpu, Evict, PageRef, Space, Vm, VmError};

/// Places for address spaces: fewer than CPUs, so that each is run by several.
const PLACES: usize = 3;

/// What all CPUs work on.
pub(super) struct World {
    lanes: usize,
    /// The number of the space in each place; 0 is none. A CPU that works in the space holds the lock shared,
    /// who copies or replaces it exclusively.
    places: Vec<RwLock<u32>>,
    next_number: AtomicU32,
    /// Pages that some CPU is about to remove from its page tables: what the others evict by preference, since
    /// a page that looks unmapped and is not yet flushed is where delayed invalidation has to hold.
    aimed: Mutex<Vec<PageRef>>,
}

impl World {
    pub(super) fn new(cpus: usize) -> Self {
        Self {
            lanes: cpus,
            places: (0..PLACES).map(|_| RwLock::new(0)).collect(),
            next_number: AtomicU32::new(1),
            aimed: Mutex::default(),
        }
    }

    /// Steps until the limit is reached.
    pub(super) fn work<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, limit: &Limit) -> Result<(), VmError> {
        let mut steps = 0;
        while limit.goes_on(steps, || failed(vm)) {
            steps += 1;
            vm.poll(cpu);
            self.step(vm, cpu)?;
            for _ in 0..3 {
                vm.revisit(cpu);
                if cpu.dice.one_in(2) {
                    vm.wild_store(cpu);
                }
            }
            vm.balance(cpu);
            vm.look_at_gauges(cpu);
        }
        vm.deactivate(cpu);
        Ok(())
    }

    fn step<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>) -> Result<(), VmError> {
        let place = cpu.dice.below(PLACES as u64) as usize;
        match cpu.dice.below(1000) {
            0..5 => return self.replace_by_empty(vm, cpu, place),
            5..12 => return self.replace_by_copy(vm, cpu, place),
            12..30 => {
                vm.reclaim_some(cpu, Evict::Anyway, 6);
                return Ok(());
            }
            30..330 => {
                self.evict_aimed(vm, cpu);
                return Ok(());
            }
            _ => {}
        }
        let number = self.places[place].read();
        match vm.space(*number) {
            Some(space) => self.inside(vm, cpu, &space),
            None => {
                drop(number);
                self.replace_by_empty(vm, cpu, place)
            }
        }
    }

    /// A step inside a space.
    fn inside<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, space: &Arc<Space<'s>>) -> Result<(), VmError> {
        vm.activate(cpu, space);
        let own = cpu.index();
        let kind = Kind::MAPPED[cpu.dice.below(4) as usize];
        match cpu.dice.below(100) {
            0..30 => {
                for _ in 0..4 {
                    self.touch(vm, cpu, space)?;
                }
            }
            30..55 => self.sweep(vm, cpu, space)?,
            55..80 => {
                let kind = if cpu.dice.one_in(2) { Kind::Anonymous } else { kind };
                let (first, range) = lane::some_part(&mut cpu.dice, own, kind);
                self.aim(vm.private_pages(space, range));
                vm.unmap(space, range);
                // The range is this CPU's own, and empty now.
                let _ = vm.map(space, lane::vma(kind, first, range));
            }
            80..90 => {
                let (_, range) = lane::some_part(&mut cpu.dice, own, kind);
                let rights = Protection::from_bits_truncate(cpu.dice.below(8) as u8);
                vm.protect(space, range, rights);
            }
            90..94 => {
                let (_, range) = lane::some_part(&mut cpu.dice, own, kind);
                self.aim(vm.private_pages(space, range));
                vm.discard(space, range);
            }
            94..96 => {
                let (_, range) = lane::some_part(&mut cpu.dice, own, Kind::Anonymous);
                vm.offer(space, range);
            }
            96..98 => vm.sync(space, lane::range(own, Kind::File)),
            _ => self.shift(vm, space, own),
        }
        Ok(())
    }

    /// An access anywhere, in any CPU's lane.
    fn touch<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, space: &Arc<Space<'s>>) -> Result<(), VmError> {
        let lane = cpu.dice.below(self.lanes as u64) as usize;
        let kind = match cpu.dice.below(5) {
            4 => Kind::Spare,
            n => Kind::MAPPED[n as usize],
        };
        let page = lane::part(lane, kind, cpu.dice.below(PAGES), 1).start();
        let va = VirtAddr(page.0 + 8 * cpu.dice.below(500));
        let access = match cpu.dice.below(8) {
            0..4 => Access::Write,
            4..7 => Access::Read,
            _ => Access::Execute,
        };
        vm.access(cpu, space, va, access)?;
        Ok(())
    }

    /// Stores to neighbouring pages of one lane, so that ranges are full when they are unmapped.
    fn sweep<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, space: &Arc<Space<'s>>) -> Result<(), VmError> {
        let lane = cpu.dice.below(self.lanes as u64) as usize;
        let (_, range) = lane::some_part(&mut cpu.dice, lane, Kind::Anonymous);
        for page in range.iter().take(10) {
            let va = VirtAddr(page.0 + 8 * cpu.dice.below(500));
            vm.access(cpu, space, va, Access::Write)?;
        }
        Ok(())
    }

    fn aim(&self, pages: Vec<PageRef>) {
        *self.aimed.lock().unwrap_or_else(PoisonError::into_inner) = pages;
    }

    /// Evicts a page that another CPU is unmapping, or has just unmapped.
    fn evict_aimed<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>) {
        let page = {
            let mut aimed = self.aimed.lock().unwrap_or_else(PoisonError::into_inner);
            let pick = cpu.dice.below(aimed.len() as u64) as usize;
            if pick < aimed.len() { Some(aimed.swap_remove(pick)) } else { None }
        };
        if let Some(page) = page {
            vm.evict_page(&page);
        }
    }

    /// Moves the anonymous mapping of the lane to the spare place, and a new one takes its place.
    fn shift<'s>(&self, vm: &Vm<'s>, space: &Arc<Space<'s>>, own: usize) {
        let (from, to) = (lane::range(own, Kind::Anonymous), lane::range(own, Kind::Spare));
        vm.unmap(space, to);
        if vm.remap(space, from, to).is_ok() {
            let _ = vm.map(space, lane::vma(Kind::Anonymous, 0, from));
        }
    }

    fn number(&self) -> u32 {
        // ORD: Relaxed; only uniqueness matters.
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    /// A new space takes the place, as exec makes one; the old one ends.
    fn replace_by_empty<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, place: usize) -> Result<(), VmError> {
        let number = self.number();
        let Some(space) = vm.create(cpu, number)? else { return Ok(()) };
        for lane in 0..self.lanes {
            for kind in Kind::MAPPED {
                let _ = vm.map(&space, lane::vma(kind, 0, lane::range(lane, kind)));
            }
        }
        drop(space);
        self.put(vm, cpu, place, number)
    }

    /// A copy of the space in one place takes another place; the one that was there ends.
    fn replace_by_copy<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, place: usize) -> Result<(), VmError> {
        let child = {
            let number = self.places[place].write();
            match vm.space(*number) {
                Some(parent) => vm.fork(cpu, &parent, self.number())?.map(|child| child.number()),
                None => None,
            }
        };
        let Some(child) = child else { return Ok(()) };
        let to = (place + 1 + cpu.dice.below(PLACES as u64 - 1) as usize) % PLACES;
        self.put(vm, cpu, to, child)
    }

    /// Puts a space in a place. The old one ends after the lock is let go: other CPUs must be able to leave it.
    fn put<'s>(&self, vm: &Vm<'s>, cpu: &mut Cpu<'s>, place: usize, number: u32) -> Result<(), VmError> {
        let old = std::mem::replace(&mut *self.places[place].write(), number);
        if old != 0 {
            vm.exit(cpu, old)?;
        }
        Ok(())
    }
}

/// Whether any check has failed so far.
fn failed(vm: &Vm<'_>) -> bool {
    !vm.machine().report().is_clean() || vm.observer().has_objections()
}
