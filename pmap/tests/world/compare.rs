//! Everything that can be asked, compared with the model.

use std::sync::atomic::Ordering;

use pmap::entry::{ACCESSED, DIRTY, Entry, MANAGED, PRESENT, WIRED, X86};
use pmap::sim::SimMachine;
use pmap::{Protection, System, VirtAddr};

use super::World;
use super::model::Mapping;
use super::op::{KERNEL_PAGES, PAGES, PLACES, SPACES, UNMANAGED};

/// Fails if the machine saw a translation that it should not have seen, or the structure is inconsistent.
pub(super) fn assert_clean(system: &System<SimMachine>) {
    let mut errors = Vec::new();
    system.audit(|error| errors.push(error.to_string()));
    assert!(errors.is_empty(), "audit: {errors:?}");
    let report = system.machine().report();
    assert!(report.is_clean(), "{:?}", report.first_failures);
}

impl World<'_> {
    pub(super) fn compare(&self, cpu: usize) {
        for space in 0..SPACES {
            PLACES.iter().for_each(|va| self.compare_place(space, VirtAddr(va + 0x10)));
            self.compare_space(space, cpu);
        }
        (0..PAGES).for_each(|page| self.compare_page(page));
        for at in 0..KERNEL_PAGES {
            let found = self.system.kextract(self.kernel_va(at)).map(|pa| pa.frame());
            assert_eq!(found, self.model.kernel[at].map(|page| self.frames[page]));
        }
        let statistics = self.system.statistics();
        assert_eq!(statistics.pv_entries, self.model.managed());
        let tables: u64 = (0..SPACES).map(|space| self.model.tables(space)).sum();
        assert_eq!(statistics.pt_pages, self.before.pt_pages + tables);
        assert_clean(self.system);
    }

    fn compare_place(&self, index: usize, at: VirtAddr) {
        let expected = self.model.at(index, at);
        let space = self.space(index);
        let found = space.extract(at).map(|pa| (pa.frame(), pa.0 & 0xfff));
        assert_eq!(found, expected.map(|m| (self.frames[m.page], 0x10)), "space {index}, {at}");
        assert_eq!(space.protection(at), expected.map(|m| m.prot), "space {index}, {at}");
        let free = expected.is_none() && self.model.has_table(index, at);
        assert_eq!(space.is_prefaultable(at), free, "space {index}, {at}");
        let seen = space.mincore(at);
        assert_eq!(seen.is_some(), expected.is_some());
        let walk = space.get_mapping(at);
        assert_eq!(walk.len() == 4, self.model.has_table(index, at), "{walk:?}");
        let (Some(m), Some(seen)) = (expected, seen) else { return };
        assert_eq!(seen.modified, m.dirty, "space {index}, {at}: {m:?}");
        assert!(seen.referenced || !m.accessed, "space {index}, {at}: {m:?}");
        assert!(!self.setting.tame || seen.referenced == m.accessed, "space {index}, {at}: {m:?}");
        let asks = m.is_managed() && !(seen.modified && seen.referenced);
        assert_eq!(seen.ask_others, asks.then(|| self.frames[m.page]));
        self.compare_leaf(walk[3], m);
    }

    /// The raw entry, by the format's own bits.
    fn compare_leaf(&self, word: u64, m: Mapping) {
        let has = |bits| Entry::<X86>::from_word(word).has(bits);
        assert!(has(PRESENT));
        assert_eq!(has(MANAGED), m.is_managed());
        assert_eq!(has(WIRED), m.wired);
        assert_eq!(has(DIRTY) && m.prot.contains(Protection::WRITE), m.dirty);
        assert!(has(ACCESSED) || !m.accessed);
    }

    fn compare_space(&self, index: usize, cpu: usize) {
        let space = self.space(index);
        let model = &self.model.spaces[index];
        assert_eq!(space.wired_count(), model.values().filter(|m| m.wired).count() as u64);
        assert_eq!(space.resident_count(), model.len() as u64 + self.model.tables(index));
        let active: Vec<usize> = space.active_cpus().iter().map(|cpu| cpu.index()).collect();
        assert_eq!(active, self.model.active(index));
        assert_eq!(space.is_current(), active.contains(&cpu));
        for (page, state) in self.model.pages.iter().enumerate() {
            let first = state.list.iter().take(16);
            if state.list.len() <= 16 || !state.shuffled {
                let expected = first.into_iter().any(|(space, _)| *space == index);
                assert_eq!(space.page_exists_quick(self.record(page)), expected, "page {page}");
            }
        }
    }

    fn compare_page(&self, page: usize) {
        let state = &self.model.pages[page];
        let record = self.record(page);
        let mappings = || state.list.iter().map(|(space, va)| self.model.spaces[*space][va]);
        assert_eq!(record.is_managed(), page != UNMANAGED);
        assert_eq!(record.is_writeable(), state.writeable, "page {page}");
        assert_eq!(record.is_dirty(), state.dirty, "page {page}");
        assert!(record.is_referenced_flag() || !state.referenced, "page {page}");
        assert_eq!(record.wire_count(), state.holds, "page {page}");
        assert_eq!(self.system.page_is_mapped(record), !state.list.is_empty(), "page {page}");
        assert_eq!(self.system.is_modified(record), mappings().any(|m| m.dirty), "page {page}");
        let referenced = self.system.is_referenced(record);
        assert!(referenced || !mappings().any(|m| m.accessed), "page {page}");
        if self.setting.tame {
            assert_eq!(referenced, mappings().any(|m| m.accessed), "page {page}");
            assert_eq!(record.is_referenced_flag(), state.referenced, "page {page}");
        }
        let wired = mappings().filter(|m| m.wired).count() as u64;
        assert_eq!(self.system.page_wired_mappings(record), wired, "page {page}");
        let words = self.system.machine().frame_words(self.frames[page]);
        for (word, expected) in words.iter().zip(state.words) {
            // ORD: Relaxed; no CPU runs but this one.
            assert_eq!(word.load(Ordering::Relaxed), expected, "the contents of page {page}");
        }
    }
}
