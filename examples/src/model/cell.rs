//! What one page must hold.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::vm::file_word;

/// What a page held before anybody stored to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    Zero,
    File { object: u32, page: u64 },
}

/// A page's contents and state.
#[derive(Clone, Debug)]
pub(super) struct Contents {
    base: Base,
    /// Words stored to, by index; few.
    words: Vec<(u16, u64)>,
    /// Stored to since it was last saved, or since it came into its frame.
    pub(super) modified: bool,
    /// It may have become zero (advice FREE), or not.
    pub(super) maybe_zero: bool,
    /// Frame in which it was last seen.
    pub(super) frame: Option<u64>,
    /// Two spaces had it, by a fork, and nobody has stored to it since. Whether the next store finds it shared
    /// still, and so makes a copy, depends on how far the other space's end has come.
    pub(super) forked: bool,
}

/// A page of memory, shared by the spaces that see the same one.
#[derive(Debug)]
pub(super) struct Cell(Mutex<Contents>);

impl Cell {
    pub(super) fn new(base: Base) -> Self {
        Self(Mutex::new(Contents {
            base,
            words: Vec::new(),
            modified: false,
            maybe_zero: false,
            frame: None,
            forked: false,
        }))
    }

    /// Another page with the same contents, seen in no frame yet.
    pub(super) fn copy(&self) -> Self {
        Self(Mutex::new(Contents { modified: false, frame: None, forked: false, ..self.lock().clone() }))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Contents {
    /// What word `index` must hold, unless the page became zero.
    pub(super) fn word(&self, index: usize) -> u64 {
        match self.words.iter().find(|(at, _)| usize::from(*at) == index) {
            Some((_, value)) => *value,
            None => match self.base {
                Base::Zero => 0,
                Base::File { object, page } => file_word(object, page, index),
            },
        }
    }

    pub(super) fn store(&mut self, index: usize, value: u64) {
        match self.words.iter_mut().find(|(at, _)| usize::from(*at) == index) {
            Some((_, old)) => *old = value,
            None => self.words.push((index as u16, value)),
        }
        self.modified = true;
    }

    /// The whole page. Cheaper than `word` for each.
    pub(super) fn image(&self) -> [u64; 512] {
        let mut image = match self.base {
            Base::Zero => [0; 512],
            Base::File { object, page } => std::array::from_fn(|index| file_word(object, page, index)),
        };
        for (at, value) in &self.words {
            image[usize::from(*at)] = *value;
        }
        image
    }

    pub(super) fn become_zero(&mut self) {
        (self.base, self.maybe_zero) = (Base::Zero, false);
        self.words.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_holds_what_was_stored_and_its_base_elsewhere() {
        let cell = Cell::new(Base::File { object: 3, page: 9 });
        cell.lock().store(7, 1);
        cell.lock().store(7, 2);
        let copy = cell.copy();
        copy.lock().store(8, 5);
        let (first, second) = (cell.lock(), copy.lock());
        assert_eq!((first.word(7), first.word(8)), (2, file_word(3, 9, 8)));
        assert_eq!((second.word(7), second.word(8)), (2, 5));
        let image = second.image();
        assert!((0..512).all(|i| image[i] == second.word(i)));
    }

    #[test]
    fn a_page_that_was_thrown_away_is_zero() {
        let cell = Cell::new(Base::File { object: 3, page: 9 });
        cell.lock().store(7, 1);
        cell.lock().become_zero();
        assert_eq!(cell.lock().image(), [0; 512]);
    }
}
