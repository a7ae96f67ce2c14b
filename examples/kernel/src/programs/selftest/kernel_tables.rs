//! The page tables that the CPUs use, entry by entry: in the kernel's half nothing is for programs, and nothing that can be written
//! can be executed.

use alloc::format;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering};

use pmap::bare::{CpuFeatures, Features};
use pmap::{Frame, PAGE_SIZE};
use x86_64::registers::control::Cr3;
use x86_64::structures::paging::PageTableFlags as Flags;

use crate::memory::{frames, layout};
use crate::programs::report::Report;

/// Level of a root table.
const ROOT: usize = 4;
/// Entries of a root table that are the kernel's.
const KERNEL_HALF: RangeInclusive<usize> = 256..=511;
/// Physical address in an entry.
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// What was found.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// Entries that map pages.
    pages: u64,
    /// Those whose pages can be written and executed.
    writable_code: u64,
    /// Those that are open to user mode. The pmap's tables above are: it decides rights in the last entry.
    user: u64,
}

/// Runs the checks.
pub(super) fn run(report: &mut Report) {
    let root = Frame(Cr3::read_raw().0.start_address().as_u64() / PAGE_SIZE);
    let has_nx = CpuFeatures::current().has(Features::NX);
    let found = walk(root);
    report.check("the kernel's pages are found", found.pages > 0, || format!("{found:?}"));
    report.check("no page of the kernel is for programs", found.user == 0, || format!("{found:?}"));
    if has_nx {
        report.check("no page is writable and executable", found.writable_code == 0, || format!("{found:?}"));
    }
    let expected = Found { pages: 2, writable_code: 1, user: 1 };
    let noticed = bad_tables();
    report.check("tables that permit both are noticed", noticed.as_ref() == Some(&expected), || {
        format!("{noticed:?} instead of {expected:?}")
    });
}

/// Looks through the kernel's half of the tables.
fn walk(root: Frame) -> Found {
    let mut found = Found::default();
    visit(root, ROOT, KERNEL_HALF, Flags::WRITABLE, &mut found);
    found
}

/// Looks through a table. `above`: what the entries on the way to it leave of the rights, and the prohibition to execute if one has it.
fn visit(table: Frame, level: usize, entries: RangeInclusive<usize>, above: Flags, found: &mut Found) {
    for index in entries {
        let entry = Flags::from_bits_retain(entry(table, index).load(Ordering::Relaxed)); // ORD: Relaxed; the tables stay
        if !entry.contains(Flags::PRESENT) {
            continue;
        }
        let rights = above & entry & Flags::WRITABLE | (above | entry) & Flags::NO_EXECUTE;
        if level == 1 || entry.contains(Flags::HUGE_PAGE) {
            found.pages += 1;
            found.user += u64::from(entry.contains(Flags::USER_ACCESSIBLE));
            found.writable_code += u64::from(rights == Flags::WRITABLE);
        } else {
            let below = Frame((entry.bits() & ADDRESS) / PAGE_SIZE);
            visit(below, level - 1, 0..=511, rights, found);
        }
    }
}

/// An entry of a table.
fn entry(table: Frame, index: usize) -> &'static AtomicU64 {
    let entry = layout::direct_map(table.addr().0).cast::<AtomicU64>().wrapping_add(index);
    // SAFETY: in a frame of RAM that is a page table, and the kernel's tables are never freed; or one of `bad_tables`.
    unsafe { &*entry }
}

/// What is found in tables, never loaded, of one page that can be written and executed and one that can be read by programs.
fn bad_tables() -> Option<Found> {
    let (root, below) = (frames::allocate()?, frames::allocate()?);
    let large = Flags::PRESENT | Flags::HUGE_PAGE;
    for index in 0..512 {
        let (upper, page) = match index {
            511 => (Flags::PRESENT | Flags::WRITABLE, large | Flags::WRITABLE),
            510 => (Flags::empty(), large | Flags::USER_ACCESSIBLE),
            _ => (Flags::empty(), Flags::empty()),
        };
        let upper = if upper.is_empty() { 0 } else { below.addr().0 | upper.bits() };
        entry(root, index).store(upper, Ordering::Relaxed); // ORD: Relaxed; one thread
        entry(below, index).store(page.bits(), Ordering::Relaxed); // ORD: as above
    }
    let found = walk(root);
    frames::free(root);
    frames::free(below);
    Some(found)
}
