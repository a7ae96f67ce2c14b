//! What the pmap should be, as plainly as possible.

use std::collections::{BTreeMap, BTreeSet};

use pmap::{Protection, VirtAddr, VirtRange};

use super::op::{CPUS, KERNEL_PAGES, PAGES, PLACES, SPACES, UNMANAGED};

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Mapping {
    pub(crate) page: usize,
    pub(crate) prot: Protection,
    pub(crate) wired: bool,
    pub(crate) dirty: bool,
    /// Known to be accessed; speculation may set the bit in the entry without us.
    pub(crate) accessed: bool,
}

impl Mapping {
    pub(crate) fn new(page: usize, prot: Protection) -> Self {
        Self { page, prot, wired: false, dirty: false, accessed: false }
    }

    pub(crate) fn is_managed(&self) -> bool {
        self.page != UNMANAGED
    }
}

/// A page and its marks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    pub(crate) dirty: bool,
    /// Known to be set; see [`Mapping::accessed`].
    pub(crate) referenced: bool,
    pub(crate) writeable: bool,
    pub(crate) holds: u32,
    pub(crate) holds_refused: bool,
    /// The PV list: space and address.
    pub(crate) list: Vec<(usize, u64)>,
    /// The order of the list is not known: aging went as far as hardware's bits made it.
    pub(crate) shuffled: bool,
    /// One word for each place, at eight times its index.
    pub(crate) words: [u64; PLACES.len()],
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Cpu {
    pub(crate) in_service: bool,
    pub(crate) current: Option<usize>,
}

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) spaces: [BTreeMap<u64, Mapping>; SPACES],
    pub(crate) pages: [Page; PAGES],
    pub(crate) cpus: [Cpu; CPUS],
    pub(crate) kernel: [Option<usize>; KERNEL_PAGES],
}

impl Model {
    pub(crate) fn at(&self, space: usize, va: VirtAddr) -> Option<Mapping> {
        self.spaces[space].get(&va.page().0).copied()
    }

    /// A new mapping where none is.
    pub(crate) fn insert(&mut self, space: usize, va: VirtAddr, new: Mapping) {
        let page = &mut self.pages[new.page];
        if new.is_managed() {
            page.list.push((space, va.0));
            page.writeable |= new.prot.contains(Protection::WRITE);
        }
        let old = self.spaces[space].insert(va.0, new);
        assert!(old.is_none(), "the model itself is wrong");
    }

    /// A mapping goes, and its page learns what it knew.
    pub(crate) fn take(&mut self, space: usize, va: u64) -> Mapping {
        let old = self.spaces[space].remove(&va).expect("a mapping");
        if old.is_managed() {
            let page = &mut self.pages[old.page];
            page.dirty |= old.dirty;
            page.referenced |= old.accessed;
            page.list.retain(|entry| *entry != (space, va));
            if page.list.is_empty() {
                page.writeable = false;
                page.shuffled = false;
            }
        }
        old
    }

    pub(crate) fn remove(&mut self, space: usize, range: VirtRange, goes: impl Fn(&Mapping) -> bool) {
        let inside = self.spaces[space].iter().filter(|(va, m)| range.contains(VirtAddr(**va)) && goes(m));
        let gone: Vec<u64> = inside.map(|(va, _)| *va).collect();
        for va in gone {
            self.take(space, va);
        }
    }

    /// Calls `f` with each managed mapping of a page, and the page.
    pub(crate) fn each(&mut self, page: usize, mut f: impl FnMut(&mut Mapping, &mut Page)) {
        for (space, va) in self.pages[page].list.clone() {
            let mapping = self.spaces[space].get_mut(&va).expect("the list and the spaces agree");
            f(mapping, &mut self.pages[page]);
        }
    }

    /// Calls `f` with each mapping in a range, and its page.
    pub(crate) fn each_in(
        &mut self,
        space: usize,
        range: VirtRange,
        mut f: impl FnMut(&mut Mapping, &mut Page),
    ) {
        for (va, mapping) in &mut self.spaces[space] {
            if range.contains(VirtAddr(*va)) {
                f(mapping, &mut self.pages[mapping.page]);
            }
        }
    }

    /// CPUs on which a space is current.
    pub(crate) fn active(&self, space: usize) -> Vec<usize> {
        (0..CPUS).filter(|cpu| self.cpus[*cpu].current == Some(space)).collect()
    }

    /// Page-table pages of a space, its root included: one for each region that has a mapping.
    pub(crate) fn tables(&self, space: usize) -> u64 {
        let regions =
            |shift: u32| self.spaces[space].keys().map(|va| va >> shift).collect::<BTreeSet<_>>().len();
        1 + (regions(21) + regions(30) + regions(39)) as u64
    }

    /// Whether a leaf table covers the address.
    pub(crate) fn has_table(&self, space: usize, va: VirtAddr) -> bool {
        self.spaces[space].keys().any(|mapped| mapped >> 21 == va.0 >> 21)
    }

    /// Managed mappings of all spaces.
    pub(crate) fn managed(&self) -> u64 {
        self.pages.iter().map(|page| page.list.len() as u64).sum()
    }
}
