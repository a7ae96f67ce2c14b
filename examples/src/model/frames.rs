//! Which page was last seen in which frame.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::cell::{Cell, Contents};
use crate::hash::Map;

const SHARDS: usize = 64;

/// Pages by frame.
pub(super) struct Frames(Vec<Mutex<Map<u64, Weak<Cell>>>>);

/// Why a page cannot be in a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clash {
    /// It is in this other one.
    Elsewhere(u64),
    /// Another page is there.
    Taken,
}

impl Default for Frames {
    fn default() -> Self {
        Self((0..SHARDS).map(|_| Mutex::default()).collect())
    }
}

impl Frames {
    fn shard(&self, frame: u64) -> std::sync::MutexGuard<'_, Map<u64, Weak<Cell>>> {
        self.0[frame as usize % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `cell`, whose contents are locked, was seen in `frame`.
    pub(super) fn bind(&self, frame: u64, cell: &Arc<Cell>, contents: &mut Contents) -> Result<(), Clash> {
        match contents.frame {
            Some(old) if old != frame => return Err(Clash::Elsewhere(old)),
            Some(_) => return Ok(()),
            None => {}
        }
        let mut shard = self.shard(frame);
        if shard.get(&frame).and_then(Weak::upgrade).is_some_and(|other| !Arc::ptr_eq(&other, cell)) {
            return Err(Clash::Taken);
        }
        shard.insert(frame, Arc::downgrade(cell));
        contents.frame = Some(frame);
        Ok(())
    }

    /// A page may have been copied to `frame`; if so, it is not where it was any more.
    pub(super) fn move_to(&self, frame: u64, contents: &mut Contents) {
        if let Some(old) = contents.frame.filter(|old| *old != frame) {
            self.shard(old).remove(&old);
            contents.frame = None;
        }
    }

    /// The page in `frame`.
    pub(super) fn at(&self, frame: u64) -> Option<Arc<Cell>> {
        self.shard(frame).get(&frame).and_then(Weak::upgrade)
    }

    /// The frame holds no page any more.
    pub(super) fn release(&self, frame: u64) {
        let cell = self.shard(frame).remove(&frame).and_then(|cell| cell.upgrade());
        if let Some(cell) = cell {
            let mut contents = cell.lock();
            if contents.frame == Some(frame) {
                contents.frame = None;
                // In its next frame it is as it was saved.
                contents.modified = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cell::Base;
    use super::*;

    #[test]
    fn two_pages_in_one_frame_and_one_page_in_two_are_noticed() {
        let frames = Frames::default();
        let (one, other) = (Arc::new(Cell::new(Base::Zero)), Arc::new(Cell::new(Base::Zero)));
        assert_eq!(frames.bind(5, &one, &mut one.lock()), Ok(()));
        assert_eq!(frames.bind(5, &one, &mut one.lock()), Ok(()), "the same again");
        assert_eq!(frames.bind(5, &other, &mut other.lock()), Err(Clash::Taken));
        assert_eq!(frames.bind(6, &one, &mut one.lock()), Err(Clash::Elsewhere(5)));
        assert!(frames.at(5).is_some_and(|cell| Arc::ptr_eq(&cell, &one)));
    }

    #[test]
    fn a_frame_that_was_given_back_may_hold_another_page() {
        let frames = Frames::default();
        let (one, other) = (Arc::new(Cell::new(Base::Zero)), Arc::new(Cell::new(Base::Zero)));
        frames.bind(5, &one, &mut one.lock()).unwrap();
        one.lock().store(3, 9);
        frames.release(5);
        let (frame, modified) = {
            let contents = one.lock();
            (contents.frame, contents.modified)
        };
        assert_eq!((frame, modified), (None, false));
        assert_eq!(frames.bind(5, &other, &mut other.lock()), Ok(()));
        assert_eq!(frames.bind(6, &one, &mut one.lock()), Ok(()), "it may come back elsewhere");
        drop(other);
        let third = Arc::new(Cell::new(Base::Zero));
        assert_eq!(frames.bind(5, &third, &mut third.lock()), Ok(()), "nobody holds the old page any more");
    }
}
