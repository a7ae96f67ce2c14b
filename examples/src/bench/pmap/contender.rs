//! The two who map, change and unmap the same pages: the pmap, and `OffsetPageTable` of the `x86_64` crate, which knows
//! nothing of locks, reverse maps, flushes or other CPUs.

use std::time::Instant;

use pmap::{Access, EnterFlags, Frame, Pmap, Protection, System, VirtAddr, VirtRange};
use x86_64::structures::paging::mapper::{CleanUp, OffsetPageTable};
use x86_64::structures::paging::{
    FrameAllocator, FrameDeallocator, Mapper, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};

use super::bare::Bare;

/// Pages of a run: 32 MiB.
pub(super) const PAGES: u64 = 8192;
const START: VirtAddr = VirtAddr(0x40_0000_0000);
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;

fn range() -> VirtRange {
    VirtRange::new(START, START.wrapping_add(PAGES << 12)).expect("aligned")
}

/// Nanoseconds for each page.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cost {
    /// All of it.
    pub(super) all: f64,
    /// Without what passed until the other CPU acknowledged, which depends on what else runs on this computer.
    pub(super) working: f64,
}

/// What `f` costs.
fn per_page(machine: &Bare, f: impl FnOnce()) -> Cost {
    let (start, waited) = (Instant::now(), machine.waited());
    f();
    let all = start.elapsed().as_nanos() as f64 / PAGES as f64;
    Cost { all, working: all - (machine.waited() - waited) as f64 / PAGES as f64 }
}

/// What hardware does when every page is stored to: sets both bits in each leaf of the run.
fn touch(machine: &Bare, root: Frame) {
    let word = |table: u64, index: u64| {
        let address = machine.offset() + table + index * 8;
        // SAFETY: the table is a frame of the machine, which everybody accesses by atomics or exclusively, and nobody else
        // does at this moment.
        unsafe { &*std::ptr::with_exposed_provenance::<std::sync::atomic::AtomicU64>(address as usize) }
    };
    // ORD: Relaxed, all: one thread.
    let load = |table, index| word(table, index).load(std::sync::atomic::Ordering::Relaxed);
    for va in range().iter() {
        let mut table = root.addr().0;
        for level in [4, 3, 2] {
            table = load(table, va.index(level) as u64) & 0x000f_ffff_ffff_f000;
        }
        let leaf = word(table, va.index(1) as u64);
        leaf.fetch_or(ACCESSED | DIRTY, std::sync::atomic::Ordering::Relaxed); // ORD: as above
    }
}

/// The operations that are compared.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sample {
    /// `enter_object`, beside `map_to` of read-only pages.
    pub(super) enter_object: Cost,
    /// Single `enter`, beside `map_to` of writable pages.
    pub(super) enter: Cost,
    /// `protect` to read-only of pages that were stored to, beside `update_flags`.
    pub(super) protect: Cost,
    /// `remove` of pages that were stored to, beside `unmap`.
    pub(super) remove: Cost,
}

impl Sample {
    pub(super) fn rows(&self) -> [Cost; 4] {
        [self.enter_object, self.enter, self.protect, self.remove]
    }
}

/// The pmap's turn. The address space is empty before and afterwards.
pub(super) fn pmap(system: &System<Bare>, space: &Pmap<'_, Bare>, frames: &[Frame]) -> Sample {
    let machine = system.machine();
    let frame_at = |va: VirtAddr| frames[((va.0 - START.0) >> 12) as usize];
    let rights = Protection::READ | Protection::WRITE;
    let enter_all = || {
        for va in range().iter() {
            let entered = space.enter(va, frame_at(va), rights, Access::Read, EnterFlags::empty());
            entered.expect("there is enough memory");
        }
    };
    let enter_object = per_page(machine, || {
        let made = space.enter_object(range(), Protection::READ, |va| Some(frame_at(va)));
        assert_eq!(made, PAGES);
    });
    space.remove(range());
    let enter = per_page(machine, enter_all);
    touch(machine, space.root());
    let protect = per_page(machine, || space.protect(range(), Protection::READ));
    space.remove(range());
    enter_all();
    touch(machine, space.root());
    let remove = per_page(machine, || space.remove(range()));
    Sample { enter_object, enter, protect, remove }
}

/// Frames for the peer's tables, from the same list; it zeroes them itself.
struct Frames<'a>(&'a Bare);

// SAFETY: frames come from a list in which each is once.
unsafe impl FrameAllocator<Size4KiB> for Frames<'_> {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        let frame = self.0.take()?;
        Some(PhysFrame::containing_address(x86_64::PhysAddr::new(frame.addr().0)))
    }
}

impl FrameDeallocator<Size4KiB> for Frames<'_> {
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        self.0.give(Frame(frame.start_address().as_u64() >> 12));
    }
}

/// The peer's turn, with a root of its own. No tables are there before and afterwards.
pub(super) fn offset_page_table(machine: &Bare, frames: &[Frame]) -> Sample {
    let root = machine.take().expect("there is enough memory");
    let address = machine.offset() + root.addr().0;
    // SAFETY: the frame is ours, page aligned, and 4096 bytes long: a table once it is zeroed.
    let table = unsafe {
        let table = std::ptr::with_exposed_provenance_mut::<PageTable>(address as usize);
        table.write(PageTable::new());
        &mut *table
    };
    // SAFETY: the offset is that of the machine's direct map, which covers all frames that the tables refer to.
    let mut mapper = unsafe { OffsetPageTable::new(table, x86_64::VirtAddr::new(machine.offset())) };
    let mut tables = Frames(machine);
    let page = |va: VirtAddr| Page::<Size4KiB>::containing_address(x86_64::VirtAddr::new(va.0));
    let frame_at = |va: VirtAddr| {
        let frame = frames[((va.0 - START.0) >> 12) as usize];
        PhysFrame::containing_address(x86_64::PhysAddr::new(frame.addr().0))
    };
    let read_only = PageTableFlags::PRESENT | PageTableFlags::USER_ACCESSIBLE | PageTableFlags::NO_EXECUTE;
    let map_all = |mapper: &mut OffsetPageTable<'_>, tables: &mut Frames<'_>, flags| {
        for va in range().iter() {
            // SAFETY: nobody executes or reads through these tables.
            let mapped = unsafe { mapper.map_to(page(va), frame_at(va), flags, tables) };
            mapped.expect("there is enough memory").ignore();
        }
    };
    let unmap_all = |mapper: &mut OffsetPageTable<'_>| {
        for va in range().iter() {
            mapper.unmap(page(va)).expect("mapped").1.ignore();
        }
    };
    let clean_up = |mapper: &mut OffsetPageTable<'_>, tables: &mut Frames<'_>| {
        // SAFETY: the tables were allocated by `tables`, and nobody else knows them.
        unsafe { mapper.clean_up(tables) };
    };

    let enter_object = per_page(machine, || map_all(&mut mapper, &mut tables, read_only));
    unmap_all(&mut mapper);
    clean_up(&mut mapper, &mut tables);
    let writable = read_only | PageTableFlags::WRITABLE;
    let enter = per_page(machine, || map_all(&mut mapper, &mut tables, writable));
    touch(machine, root);
    let protect = per_page(machine, || {
        for va in range().iter() {
            // SAFETY: as above.
            unsafe { mapper.update_flags(page(va), read_only) }.expect("mapped").ignore();
        }
    });
    unmap_all(&mut mapper);
    clean_up(&mut mapper, &mut tables);
    map_all(&mut mapper, &mut tables, writable);
    touch(machine, root);
    let remove = per_page(machine, || unmap_all(&mut mapper));
    clean_up(&mut mapper, &mut tables);
    machine.give(root);
    Sample { enter_object, enter, protect, remove }
}
