//! Mappings that are taken away for their PV entries, when there may be no more of those.

use pmap::{Shortage, VirtAddr};

use super::World;
use super::op::SPACES;

impl World<'_> {
    pub(super) fn is_limited(&self) -> bool {
        self.setting.pv_chunk_limit.is_some()
    }

    /// Tells the model which mappings are gone.
    pub(super) fn take_in_reclaimed(&mut self) {
        let mut gone = 0;
        for space in 0..SPACES {
            let mapped: Vec<u64> = self.model.spaces[space].keys().copied().collect();
            for va in mapped {
                if self.space(space).extract(VirtAddr(va)).is_none() {
                    let old = self.model.take(space, va);
                    assert!(old.is_managed() && !old.wired, "{old:?} was taken away");
                    gone += 1;
                }
            }
        }
        let now = self.system.statistics().pv_reclaimed;
        assert_eq!(now - self.reclaimed, gone, "what is gone was reclaimed");
        self.reclaimed = now;
    }

    /// A shortage is an answer only if there was nothing left to take.
    pub(super) fn assert_exhausted(&self) {
        assert!(self.is_limited(), "there is enough memory");
        let all = self.model.spaces.iter().flat_map(|s| s.values());
        assert!(all.into_iter().all(|m| m.wired || !m.is_managed()), "there was something to take");
    }

    pub(super) fn reserve(&mut self, space: usize, mappings: usize) {
        let result = self.space(space).reserve(mappings);
        self.take_in_reclaimed();
        match result {
            Ok(()) => {
                let used = self.model.spaces[space].values().filter(|m| m.is_managed()).count();
                assert!(self.system.statistics().pv_chunks as usize * 168 >= used + mappings);
            }
            Err(Shortage) => self.assert_exhausted(),
        }
    }
}
