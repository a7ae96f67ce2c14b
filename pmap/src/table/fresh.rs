//! Page-table pages that are linked nowhere yet.

use super::ROOT_LEVEL;
use crate::addr::Frame;
use crate::error::Shortage;
use crate::machine::{FrameUse, Machine};
use crate::system::System;

/// Zeroed pages for tables, as many as an operation needs, or none at all. Nobody else knows them, neither
/// software nor hardware, so those that are still here when the value is dropped go straight back, without a
/// flush (H-15), and a failure never leaves a table without an entry behind (H-14).
pub(super) struct FreshTables<'s, M: Machine> {
    system: &'s System<M>,
    frames: [Option<Frame>; ROOT_LEVEL as usize - 1],
}

impl<'s, M: Machine> FreshTables<'s, M> {
    /// Allocates `count` pages; a path has at most one for each level below the root.
    pub(super) fn allocate(system: &'s System<M>, count: usize) -> Result<Self, Shortage> {
        let mut fresh = Self { system, frames: [None; ROOT_LEVEL as usize - 1] };
        for place in &mut fresh.frames[..count] {
            *place = Some(system.allocate_frame(FrameUse::PageTable).ok_or(Shortage)?);
        }
        Ok(fresh)
    }

    /// Hands all pages out, to be linked.
    pub(super) fn take_all(mut self) -> impl Iterator<Item = Frame> {
        core::mem::take(&mut self.frames).into_iter().flatten()
    }
}

impl<M: Machine> Drop for FreshTables<'_, M> {
    fn drop(&mut self) {
        for frame in self.frames.iter_mut().filter_map(Option::take) {
            // SAFETY: allocated for this purpose by `allocate`, not handed out, so linked nowhere.
            unsafe { self.system.free_frame(frame, FrameUse::PageTable) };
        }
    }
}
