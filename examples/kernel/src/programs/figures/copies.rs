//! What a fork does to the page tables: write protection of the parent, a copy of its mappings, and the end of the copy.

use alloc::format;
use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use pmap::{Access, EnterFlags, PAGE_SIZE, Pmap, Protection, VirtAddr, VirtRange};

use super::meter::Meter;
use super::stage::READ_WRITE;
use crate::machine::{Board, System};
use crate::memory::frames;
use crate::programs::report::Report;

/// Pages that are copied.
const PAGES: u64 = 1000;
const AT: VirtAddr = VirtAddr(0x4000_0000);

/// Measures all of it.
///
/// # Errors
///
/// What is missing, in a sentence.
pub(super) fn measure(meter: &mut Meter, report: &mut Report, system: &'static System) -> Result<(), String> {
    let parent = system.create().map_err(|error| error.to_string())?;
    let memory: Vec<_> = (0..PAGES).map_while(|_| frames::allocate()).collect();
    let range = VirtRange::new(AT, AT.wrapping_add(memory.len() as u64 * PAGE_SIZE)).ok_or("no range")?;
    let enter = || {
        for (va, frame) in range.iter().zip(&memory) {
            let entered = parent.enter(va, *frame, READ_WRITE, Access::Write, EnterFlags::empty());
            entered.expect("there is memory for the tables");
        }
    };
    parent.activate();
    let protect = || parent.protect_ranges([range], Protection::READ);
    meter.measure("fork: protect the parent", (PAGES, 0), enter, protect, || {});
    // The copy, while there is one.
    let child = RefCell::new(None);
    let copied = Cell::new(0);
    let create = || *child.borrow_mut() = system.create().ok();
    let copy = || {
        let made =
            child.borrow().as_ref().map_or(0, |child: &Pmap<'_, Board>| child.copy_from(&parent, range));
        copied.set(copied.get() + made);
    };
    let destroy = || drop(child.take());
    let (_, rounds) = meter.measure("fork: copy the mappings", (PAGES, 0), create, copy, destroy);
    let complete = copied.get() == PAGES * (rounds + 1);
    report.check("all mappings are copied", complete, || format!("{} in {rounds} rounds", copied.get()));
    let create_and_copy = || {
        create();
        copy();
    };
    meter.measure("fork: destroy the copy", (PAGES, 0), create_and_copy, destroy, || {});
    system.activate_kernel();
    parent.destroy().map_err(|error| error.to_string())?;
    memory.into_iter().for_each(frames::free);
    Ok(())
}
