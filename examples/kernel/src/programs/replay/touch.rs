//! Accesses through the processor's translations, and what they must show.

use alloc::vec::Vec;

use pmap::{Access, Protection, VirtAddr};

use super::lane::Lane;
use super::shadow::{Owner, SLOTS, Shown, View, Words};
use super::spaces::Living;
use super::tally::What;
use crate::vm::visit::{self, Refusal};

/// How many pages are looked at where looking at all would take too long.
const FEW: usize = 16;
/// What is stored where no store must come through.
const FORBIDDEN: u64 = 0xbad_5704e;

/// Address of one of the words of a page that are looked at.
fn slot(va: VirtAddr, index: usize) -> VirtAddr {
    VirtAddr(va.page().0 + 8 * SLOTS[index])
}

/// Whether the rights permit the access. On this processor every right includes reading.
fn permits(protection: Protection, access: Access) -> bool {
    match access {
        Access::Read => !protection.is_empty(),
        other => protection.contains(other.needs()),
    }
}

impl Lane {
    fn view(&self, living: &Living, va: VirtAddr) -> View {
        living.shadow.lock().view(va, &self.replay.objects.lock())
    }

    /// Makes the access that faulted in the recorded program. The thread is in the space. Nobody else changes what is at this address
    /// meanwhile, except for the contents of objects.
    pub(super) fn access(&mut self, living: &Living, va: VirtAddr, access: Access) -> Result<(), What> {
        let view = self.view(living, va);
        let (protection, reason) = match view.shown {
            Shown::Page { protection, .. } => (protection, What::FaultNotPermitted),
            Shown::Nothing => (Protection::empty(), What::FaultNotMapped),
        };
        if !permits(protection, access) {
            self.must_refuse(living, va, access);
            return Err(reason);
        }
        match access {
            Access::Write => self.store(living, va),
            Access::Read => self.load(living, va),
            Access::Execute => {
                // The kernel cannot execute what the program would. The page comes as for an instruction fetch, and is read.
                if living.space.resolve(va, access).is_err() {
                    self.wrong(living, va, format_args!("cannot be executed"));
                }
                self.load(living, va);
            }
        }
        self.visits.note(living.number, va);
        Ok(())
    }

    /// The access must not come through.
    fn must_refuse(&self, living: &Living, va: VirtAddr, access: Access) {
        let refused = match access {
            Access::Read => visit::load(slot(va, 0)).is_err(),
            Access::Write => visit::store(slot(va, 0), FORBIDDEN).is_err(),
            Access::Execute => living.space.resolve(va, access).is_err(),
        };
        if !refused {
            self.wrong(living, va, format_args!("{access:?} comes through, which is not permitted"));
        }
    }

    /// Loads both words, with page faults.
    fn load_words(va: VirtAddr) -> Result<Words, Refusal> {
        Ok([visit::load(slot(va, 0))?, visit::load(slot(va, 1))?])
    }

    /// Loads, and compares with what must be there.
    fn load(&self, living: &Living, va: VirtAddr) {
        // Other spaces may store to an object's page at any time: then once more.
        for _ in 0..3 {
            let before = self.view(living, va);
            let found = Self::load_words(va);
            if before.is_unstored_until(&self.view(living, va)) {
                self.compare(living, va, &before, found);
                return;
            }
        }
    }

    fn compare(&self, living: &Living, va: VirtAddr, view: &View, found: Result<Words, Refusal>) {
        let Shown::Page { words, .. } = view.shown else { return };
        match found {
            Ok(found) if found == words => self.replay.tally.add(What::Loads),
            Ok(found) => self.wrong(living, va, format_args!("holds {found:x?} instead of {words:x?}")),
            Err(Refusal) => self.wrong(living, va, format_args!("cannot be read")),
        }
    }

    /// Stores a new stamp, and looks whether the rest of the page has stayed.
    fn store(&self, living: &Living, va: VirtAddr) {
        let is_own = matches!(self.view(living, va).shown, Shown::Page { owner: Owner::Space, .. });
        // Spaces store to pages of objects, or copy them, one after the other, or nobody would know what is there.
        let _turn = (!is_own).then(|| self.replay.turn.lock());
        let begun = living.shadow.lock().begin_store(va, &mut self.replay.objects.lock());
        let Some(store) = begun else { return };
        let done = visit::store(slot(va, store.slot), store.stamp);
        let found = Self::load_words(va);
        let other = found.map_or(0, |found| found[1 - store.slot]);
        living.shadow.lock().end_store(va, &store, other, &mut self.replay.objects.lock());
        let wanted = store.other.unwrap_or(other);
        match found {
            _ if done.is_err() => self.wrong(living, va, format_args!("cannot be stored to")),
            Err(Refusal) => self.wrong(living, va, format_args!("cannot be read after a store")),
            Ok(found) if found[store.slot] != store.stamp => {
                let (found, stamp) = (found[store.slot], store.stamp);
                self.wrong(living, va, format_args!("shows {found:#x} after a store of {stamp:#x}"));
            }
            Ok(_) if other != wanted => {
                self.wrong(
                    living,
                    va,
                    format_args!("holds {other:#x} beside a store instead of {wanted:#x}"),
                );
            }
            Ok(_) => self.replay.tally.add(What::Stores),
        }
    }

    /// Goes back to a place where this thread has been, with whatever translation there is and ordered against nobody.
    pub(super) fn peek(&mut self, living: &Living) {
        if let Some(va) = self.visits.recall(living.number) {
            self.peek_at(living, va);
        }
    }

    /// Looks at one such place.
    pub(super) fn peek_at(&mut self, living: &Living, va: VirtAddr) {
        let index = usize::from(self.visits.one_in(2));
        let before = self.view(living, va);
        let found = visit::peek(slot(va, index));
        self.replay.tally.add(What::Peeks);
        if !before.holds_until(&self.view(living, va)) {
            return;
        }
        self.replay.tally.add(What::PeeksJudged);
        match (before.shown, found) {
            // The page daemon may have it, or it was protected and not touched since.
            (Shown::Page { .. }, Err(Refusal)) => {}
            (Shown::Page { protection, words, .. }, Ok(found)) => {
                if protection.is_empty() {
                    self.wrong(living, va, format_args!("can be read, and must not be"));
                } else if found != words[index] {
                    let wanted = words[index];
                    self.wrong(living, va, format_args!("still shows {found:#x} instead of {wanted:#x}"));
                }
            }
            (Shown::Nothing, Err(Refusal)) => self.replay.tally.add(What::PeeksOfNothing),
            (Shown::Nothing, Ok(found)) => {
                self.wrong(living, va, format_args!("shows {found:#x}, and nothing is mapped there"));
            }
        }
    }

    /// Goes back to such a place with page faults, as a program would.
    pub(super) fn reload(&mut self, living: &Living) {
        let Some(va) = self.visits.recall(living.number) else { return };
        let before = self.view(living, va);
        let found = Self::load_words(va);
        if before.holds_until(&self.view(living, va)) {
            match before.shown {
                Shown::Page { protection, .. } if !protection.is_empty() => {
                    self.compare(living, va, &before, found);
                }
                _ if found.is_ok() => self.wrong(living, va, format_args!("can be read, and must not be")),
                _ => {}
            }
        }
    }

    /// Tries to store where no store must come through: no right to, or somebody else's page.
    pub(super) fn poke(&mut self, living: &Living) {
        let Some(va) = self.visits.recall(living.number) else { return };
        // With the lock held nobody gets rights, or a page of his own, in between; and a poke waits for nobody.
        let shadow = living.shadow.lock();
        let view = shadow.view(va, &self.replay.objects.lock());
        let forbidden = match view.shown {
            Shown::Nothing => true,
            Shown::Page { protection, owner, .. } => {
                owner == Owner::Foreign || !protection.contains(Protection::WRITE)
            }
        };
        if view.is_settled() && forbidden {
            let poked = visit::poke(slot(va, 0), FORBIDDEN);
            drop(shadow);
            match poked {
                Err(Refusal) => self.replay.tally.add(What::Pokes),
                Ok(()) => self.wrong(living, va, format_args!("could be stored to, and must not be")),
            }
        }
    }

    /// The space has been copied, and nobody has used either since: no store must get through to what both see.
    pub(super) fn poke_shared_pages(&self, living: &Living) {
        let pages: Vec<(VirtAddr, View)> = {
            let (shadow, objects) = (living.shadow.lock(), self.replay.objects.lock());
            let some = shadow.own_pages(shadow.own_count() / FEW);
            some.map(|va| (va, shadow.view(va, &objects))).collect()
        };
        for (va, view) in pages {
            // What is there already, so that nothing else goes wrong if it does come through.
            let Shown::Page { words, .. } = view.shown else { continue };
            match visit::poke(slot(va, 0), words[0]) {
                Err(Refusal) => self.replay.tally.add(What::Pokes),
                Ok(()) => self.wrong(living, va, format_args!("can be stored to after a copy was made")),
            }
        }
    }

    /// Looks at some of the space's own pages before it ends.
    pub(super) fn sweep(&self, living: &Living) {
        let pages: Vec<VirtAddr> = {
            let shadow = living.shadow.lock();
            shadow.own_pages(shadow.own_count().div_ceil(4 * FEW)).collect()
        };
        for va in pages {
            let view = self.view(living, va);
            if matches!(view.shown, Shown::Page { protection, .. } if !protection.is_empty()) {
                self.compare(living, va, &view, Self::load_words(va));
                self.replay.tally.add(What::Swept);
            }
        }
    }
}
