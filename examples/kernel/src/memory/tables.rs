//! The page tables that the kernel boots with: its half only, nothing both writable and executable.
//!
//! | what | rights |
//! |---|---|
//! | code | read, execute |
//! | constants | read |
//! | data | read, write |
//! | the direct map of RAM | read, write; read for the image |
//! | registers of devices | read, write, uncached |
//!
//! All entries are global where the processor has that, and accessed and dirty from the start: the pmap adopts
//! these tables and expects nothing of the kernel's to change behind its back. Large pages are used wherever
//! they fit.

use core::ops::Range;

use once_cell::race::OnceBox;
use pmap::bare::{CpuFeatures, Features, instructions};
use pmap::{Cr3, Frame, PAGE_SIZE, Pcid};
use x86_64::structures::paging::PageTableFlags as Flags;

use super::{frames, layout};
use crate::arch::cpu;

/// Root of the tables.
static ROOT: OnceBox<Frame> = OnceBox::new();

/// Bytes that one entry of each level maps, from level 1.
const SPAN: [u64; 4] = [PAGE_SIZE, layout::LARGE_PAGE, 1 << 30, 1 << 39];
/// Physical address in an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Tables that are being made.
struct Builder {
    root: Frame,
    /// Largest page, as a level.
    largest: usize,
    /// Flags that the processor has.
    possible: Flags,
}

impl Builder {
    /// Empty tables.
    fn new(features: &CpuFeatures) -> Self {
        let mut possible = Flags::all();
        possible.set(Flags::NO_EXECUTE, features.has(Features::NX));
        possible.set(Flags::GLOBAL, features.has(Features::PGE));
        let largest = if features.has(Features::GIB_PAGES) { 3 } else { 2 };
        Self { root: table(), largest, possible }
    }

    /// Maps the physical addresses `physical`, which are those of whole pages, from `va` on.
    ///
    /// # Panics
    ///
    /// If something is mapped there, or there is no memory.
    fn map(&mut self, mut va: u64, physical: Range<u64>, flags: Flags) {
        let mut at = physical.start;
        while at < physical.end {
            let fits = |level: &usize| {
                let span = SPAN[level - 1];
                va.is_multiple_of(span) && at.is_multiple_of(span) && at + span <= physical.end
            };
            let level = (1..=self.largest).rev().find(fits).expect("the bounds are those of pages");
            self.map_page(va, at, level, flags);
            va += SPAN[level - 1];
            at += SPAN[level - 1];
        }
    }

    fn map_page(&mut self, va: u64, physical: u64, level: usize, flags: Flags) {
        let mut entry = self.entry(self.root, va, 4);
        for below in (level..4).rev() {
            // SAFETY: an entry of tables that are ours and not in use yet.
            let bits = unsafe { entry.read() };
            let next = if bits & Flags::PRESENT.bits() == 0 {
                let next = table();
                let upper = Flags::PRESENT | Flags::WRITABLE | Flags::ACCESSED;
                // SAFETY: as above.
                unsafe { entry.write(next.addr().0 | upper.bits()) };
                next
            } else {
                assert_eq!(bits & Flags::HUGE_PAGE.bits(), 0, "{va:#x} is in a large page");
                Frame((bits & ADDRESS) / PAGE_SIZE)
            };
            entry = self.entry(next, va, below);
        }
        let mut leaf = flags | Flags::PRESENT | Flags::ACCESSED | Flags::DIRTY;
        leaf.set(Flags::HUGE_PAGE, level > 1);
        // SAFETY: as above.
        unsafe {
            assert_eq!(entry.read(), 0, "{va:#x} is mapped already");
            entry.write(physical | (leaf & self.possible).bits());
        }
    }

    /// The entry for `va` in the table `table` of level `level`.
    fn entry(&self, table: Frame, va: u64, level: usize) -> *mut u64 {
        let index = va / SPAN[level - 1] % 512;
        layout::direct_map(table.addr().0).cast::<u64>().wrapping_add(index as usize)
    }
}

/// An empty table.
fn table() -> Frame {
    let frame = frames::allocate().expect("memory for the kernel's page tables");
    // SAFETY: the frame is ours, and the direct map is valid for its 4096 bytes.
    unsafe { layout::direct_map(frame.addr().0).write_bytes(0, PAGE_SIZE as usize) };
    frame
}

/// Makes the kernel's tables and loads them. `device` is a page of registers to be mapped at [`layout::DEVICES`].
///
/// # Safety
///
/// Called once, on the boot CPU, on the temporary tables. What is used from here on lies in the image or in `ram`.
pub(super) unsafe fn init(ram: impl Iterator<Item = Range<u64>>, device: Option<u64>) {
    let mut tables = Builder::new(&CpuFeatures::current());
    let data = Flags::WRITABLE | Flags::NO_EXECUTE | Flags::GLOBAL;
    let constant = Flags::NO_EXECUTE | Flags::GLOBAL;
    let image = layout::image();
    for (part, flags) in layout::image_parts().into_iter().zip([Flags::GLOBAL, constant, data]) {
        tables.map(layout::KERNEL_BASE + part.start, part, flags);
    }
    let direct = |tables: &mut Builder, part: Range<u64>, flags| {
        tables.map(layout::DIRECT_MAP + part.start, part, flags);
    };
    for region in ram {
        let inside = region.start.max(image.start)..region.end.min(image.end);
        if inside.is_empty() {
            direct(&mut tables, region, data);
        } else {
            direct(&mut tables, region.start..inside.start, data);
            direct(&mut tables, inside.clone(), constant);
            direct(&mut tables, inside.end..region.end, data);
        }
    }
    if let Some(page) = device {
        let uncached = data | Flags::NO_CACHE | Flags::WRITE_THROUGH;
        tables.map(layout::DEVICES, page..page + PAGE_SIZE, uncached);
    }
    ROOT.set(alloc::boxed::Box::new(tables.root)).unwrap_or_else(|_| panic!("the tables are made twice"));
    // SAFETY: image and direct map are in the tables, and with them all that is used.
    unsafe { load() };
}

/// The root of the kernel's tables.
pub(crate) fn root() -> Frame {
    *ROOT.get().expect("the tables are made before anybody asks for them")
}

/// Enables what the tables use, and loads them on this CPU.
///
/// # Safety
///
/// What is used from here on lies in the image or in RAM.
pub(crate) unsafe fn load() {
    cpu::enable_no_execute();
    // SAFETY: valid tables, which map what the caller says.
    unsafe { instructions::load_cr3(Cr3 { root: root(), pcid: Pcid::KERNEL, no_flush: false }) };
}
