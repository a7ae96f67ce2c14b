//! The store on real systems: against a plain map in every format, under the audit, and when address spaces go.

mod audit;
mod lifetime;
mod model;

use std::mem::ManuallyDrop;
use std::vec::Vec;

use super::*;
use crate::audit::AuditError;
use crate::entry::{ACCESSED, DIRTY, Entry};
use crate::protection::{Access, EnterFlags, Protection};
use crate::sim::{Adversary, Config, SimMachine};
use crate::{CpuId, Pmap};

type Sys = System<SimMachine>;

const READ_WRITE: Protection = Protection::READ.union(Protection::WRITE);

/// Runs `f` on the only CPU of a system with that many frames; the caller judges.
fn on_system<R>(frames: u64, f: impl FnOnce(&Sys) -> R) -> R {
    let config = Config { cpus: 1, frames, adversary: Adversary::tame(), ..Config::default() };
    let system = System::new(SimMachine::new(config).unwrap()).unwrap();
    system.machine().run_cpu(CpuId::new(0).unwrap(), || {
        system.start_cpu();
        f(&system)
    })
}

fn complaints(system: &Sys) -> Vec<AuditError> {
    let mut errors = Vec::new();
    system.audit(|error| errors.push(error));
    errors
}

fn is_clean(system: &Sys) -> bool {
    let report = system.machine().report();
    complaints(system).is_empty() && (report.forbidden_entries, report.stale_accesses) == (0, 0)
}

fn address(directory: u64, index: u64) -> VirtAddr {
    VirtAddr((directory << 30) | (index << 21))
}

fn directory_of(system: &Sys, space: &Pmap<'_, SimMachine>, va: VirtAddr) -> Frame {
    let above = system.slot(space.root(), va.index(4)).load().frame();
    system.slot(above, va.index(3)).load().frame()
}

/// Index that no test uses otherwise: an ordinary mapping there keeps the directory in use.
const KEEPER: u64 = 511;

/// One that is not taken down after a panic, which would panic again.
type Space<'s> = ManuallyDrop<Pmap<'s, SimMachine>>;

fn destroy(space: Space<'_>) {
    ManuallyDrop::into_inner(space).destroy().unwrap();
}

/// An address space with directories in use, of which only the last region is mapped.
fn space_with(system: &Sys, directories: u64) -> Space<'_> {
    let space = ManuallyDrop::new(system.create().unwrap());
    let page = system.machine().allocate_data_frame(true).unwrap();
    for directory in 0..directories {
        let va = address(directory, KEEPER);
        space.enter(va, page, READ_WRITE, Access::Read, EnterFlags::empty()).unwrap();
    }
    space
}

/// A leaf table of the region of `va` that has been displaced: no entry names it.
fn displaced<F: Format>(
    system: &Sys,
    space: &Pmap<'_, SimMachine>,
    va: VirtAddr,
    contents: Contents,
) -> Saved {
    let table = system.ensure_leaf_table(space.core(), va).unwrap();
    let directory = directory_of(system, space, va);
    assert_eq!(system.slot(directory, va.index(2)).take().frame(), table);
    system.page(directory).unwrap().drop_table_entry();
    let leaf = |i: u64| {
        let leaf = Entry::<F>::leaf(Frame((va.0 >> 12) + i), READ_WRITE).with(DIRTY | ACCESSED);
        if contents == Contents::Uniform && i == va.0 >> 21 & 511 { leaf.without(ACCESSED) } else { leaf }
    };
    if contents != Contents::Empty {
        (0..512).for_each(|i| system.slot_of::<F>(table, i as usize).create(leaf(i)));
    }
    Saved { table, contents }
}

/// An address space with one saved table of each kind in each of two directories.
fn with_saved(system: &Sys) -> Space<'_> {
    let space = space_with(system, 2);
    for va in [(0, 3), (0, 4), (0, 302), (1, 0), (1, 1), (1, 2)].map(|(d, i)| address(d, i)) {
        let contents = match va.index(2) % 3 {
            0 => Contents::Accessed,
            1 => Contents::Uniform,
            _ => Contents::Empty,
        };
        let saved = displaced::<X86>(system, &space, va, contents);
        let mut state = space.core().lock();
        SavedTables::<_, X86>::new(system, directory_of(system, &space, va)).save(&mut state, va, saved);
    }
    assert_eq!(complaints(system), []);
    space
}

/// Runs `f` with such an address space, which must come down afterwards.
fn with_six_saved(f: impl FnOnce(&Sys, &Pmap<'_, SimMachine>)) {
    on_system(128, |system| {
        let space = with_saved(system);
        f(system, &space);
        destroy(space);
    });
}

fn saved_at(system: &Sys, space: &Pmap<'_, SimMachine>, va: VirtAddr) -> Saved {
    let state = space.core().lock();
    SavedTables::<_, X86>::new(system, directory_of(system, space, va)).peek(&state, va).unwrap()
}
