//! What a thread knows of its stamped pages, and the operations on them. Everything is checked before and after.

use crate::abi::{Backing, Finding, Hint, READ, WRITE};
use crate::access::{load_if_possible, store_if_possible};
use crate::call;
use crate::dice::Dice;
use crate::lane::{self, PAGES};
use crate::stamp::{PAGE, Stamp};

/// What is known of one page.
#[derive(Clone, Copy)]
struct Note {
    mapped: bool,
    rights: u64,
    stamp: Stamp,
}

const UNMAPPED: Note = Note { mapped: false, rights: 0, stamp: Stamp::Zero };
const NEW: Note = Note { mapped: true, rights: READ | WRITE, stamp: Stamp::Zero };

/// The pages of a lane, as their owner knows them.
pub(crate) struct Notes {
    first: u64,
    owner: u64,
    version: u64,
    pages: [Note; PAGES as usize],
    /// Pages compared.
    pub(crate) checked: u64,
}

/// Some pages in a row.
#[derive(Clone, Copy)]
pub(crate) struct Part {
    from: u64,
    count: u64,
}

impl Part {
    pub(crate) const ALL: Self = Self { from: 0, count: PAGES };

    /// A random one.
    pub(crate) fn random(dice: &mut Dice) -> Self {
        let from = dice.below(PAGES);
        Self { from, count: 1 + dice.below(PAGES - from) }
    }

    fn iter(self) -> core::ops::Range<u64> {
        self.from..self.from + self.count
    }
}

impl Notes {
    /// The lane of a thread, in which nothing is mapped.
    pub(crate) fn new(thread: u64, owner: u64) -> Self {
        Self { first: lane::pages(thread), owner, version: 0, pages: [UNMAPPED; PAGES as usize], checked: 0 }
    }

    /// Somebody else owns the pages from now on: a copy of the process.
    pub(crate) fn set_owner(&mut self, owner: u64) {
        self.owner = owner;
    }

    fn address(&self, page: u64) -> u64 {
        self.first + page * PAGE
    }

    /// Whether each page holds what it should, and can be used as it should and no more.
    pub(crate) fn check(&mut self, part: Part) {
        for page in part.iter() {
            let (note, at) = (self.pages[page as usize], self.address(page));
            if note.mapped && note.rights & READ != 0 {
                note.stamp.check(at);
                self.checked += 1;
            } else if let Some(word) = load_if_possible(at) {
                call::report(Finding::Rights, at, 0, word);
            }
            if note.rights & WRITE == 0 && store_if_possible(at, load_if_possible(at).unwrap_or(0)) {
                call::report(Finding::Rights, at, note.rights, WRITE);
            }
        }
    }

    /// Stamps those pages anew that may be written.
    pub(crate) fn stamp(&mut self, part: Part) {
        for page in part.iter() {
            if self.pages[page as usize].rights & WRITE != 0 {
                self.version += 1;
                let stamp = Stamp::Made { owner: self.owner, version: self.version };
                stamp.put(self.address(page));
                self.pages[page as usize].stamp = stamp;
            }
        }
    }

    /// Unmaps the part, and maps new memory there unless told to leave it.
    pub(crate) fn replace(&mut self, part: Part, map: bool) {
        let at = self.address(part.from);
        let unmapped = call::unmap(at, part.count);
        self.note(part, |note| *note = UNMAPPED);
        self.check(part);
        let mapped =
            if map { call::map(at, part.count, READ | WRITE, Backing::Anonymous, 0) } else { Ok(()) };
        if unmapped.and(mapped).is_err() {
            return call::fail();
        }
        if map {
            self.note(part, |note| *note = NEW);
        }
    }

    /// Changes the rights of what is mapped in the part.
    pub(crate) fn protect(&mut self, part: Part, rights: u64) {
        if call::protect(self.address(part.from), part.count, rights).is_err() {
            return call::fail();
        }
        self.note(part, |note| note.rights = if note.mapped { rights } else { 0 });
    }

    /// Gives a hint about the part.
    pub(crate) fn advise(&mut self, part: Part, hint: Hint) {
        if call::advise(self.address(part.from), part.count, hint).is_err() {
            call::fail();
        }
    }

    fn note(&mut self, part: Part, change: impl FnMut(&mut Note)) {
        self.pages[part.from as usize..(part.from + part.count) as usize].iter_mut().for_each(change);
    }
}
