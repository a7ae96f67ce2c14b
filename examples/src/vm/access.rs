//! Making a simulated CPU touch an address.

use std::sync::Arc;

use lock_api::MutexGuard;
use pmap::sim::PageFault;
use pmap::{Access, Machine as _, PAGE_SHIFT, VirtAddr};

use super::cpu::Visit;
use super::page::{HeldPage, PageRef, Residence};
use super::space::Shard;
use super::table::count;
use super::{Cpu, Machine, Seen, Shortage, Space, Vm, VmError, Vma};

/// Faults that one access may take in a row. Two are normal (a private copy after a swap-in takes one); a
/// machine that faults spuriously, or a pmap that reclaims the mapping at once, takes more.
const FAULTS_PER_ACCESS: usize = 64;
/// Rounds of letting go, reclaiming and trying again.
const ROUNDS: usize = 200;

/// How an access ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Touch {
    /// It was made.
    Done,
    /// Nothing is mapped there.
    NotMapped,
    /// The mapping does not permit it.
    NotPermitted,
    /// The range is being thrown away at this moment.
    Busy,
}

/// The page that shows at an address while it is being accessed.
pub(super) struct Shown<'a> {
    pub(super) vma: Vma,
    pub(super) va: VirtAddr,
    pub(super) access: Access,
    pub(super) shard: MutexGuard<'a, <Machine as pmap::Machine>::RawMutex, Shard>,
    /// The page, locked; none before the first access to anonymous memory.
    pub(super) page: Option<HeldPage>,
    /// Whether nobody is taking rights away here.
    pub(super) settled: bool,
    /// Whether `page` is in the space's table of private pages.
    pub(super) own: bool,
    /// The page whose place a private copy has taken; the space still holds it if the flag is set.
    pub(super) replaced: Option<(HeldPage, bool)>,
}

impl<'s> Vm<'s> {
    /// Makes this CPU access `va` in `space`, resolving page faults. The value is a fresh one for a store.
    ///
    /// # Errors
    /// If there is not enough memory for it.
    pub fn access(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        va: VirtAddr,
        access: Access,
    ) -> Result<Touch, VmError> {
        // Accesses are of whole words.
        let va = VirtAddr(va.0 & !7);
        self.activate(cpu, space);
        for _ in 0..ROUNDS {
            match self.access_once(cpu, space, va, access) {
                Ok(touch) => return Ok(touch),
                Err(Shortage) => self.reclaim_or_fail(cpu, "a page, its page tables and its PV entry")?,
            }
        }
        Err(VmError::OutOfMemory("a page, its page tables and its PV entry"))
    }

    fn access_once(
        &self,
        cpu: &mut Cpu<'s>,
        space: &Arc<Space<'s>>,
        va: VirtAddr,
        access: Access,
    ) -> Result<Touch, Shortage> {
        let layout = space.layout.read();
        let Some(vma) = layout.vmas.find(va).copied() else { return Ok(Touch::NotMapped) };
        if !permits(&vma, access) {
            return Ok(Touch::NotPermitted);
        }
        if layout.is_busy(va) {
            return Ok(Touch::Busy);
        }
        let shard = space.shard(va).lock();
        let own = shard.get(&(va.0 >> PAGE_SHIFT)).cloned();
        let held = match &own {
            Some(page) => Some(page.clone()),
            None if vma.backing.object != 0 => {
                Some(self.objects.page(vma.backing.object, vma.object_page(va)))
            }
            None => None,
        };
        let mut shown = Shown {
            vma,
            va,
            access,
            shard,
            settled: layout.is_settled(va),
            page: held.map(|page| page.lock_arc()),
            own: own.is_some(),
            replaced: None,
        };
        let wanted = cpu.fresh_value();
        let mut resolved = false;
        for _ in 0..FAULTS_PER_ACCESS {
            match touch(self.machine(), va, access, wanted) {
                Ok(value) => {
                    self.made(cpu, space, &mut shown, value);
                    return Ok(Touch::Done);
                }
                Err(_) => {
                    count(&self.counts.page_faults, 1);
                    if let Err(shortage) = self.fault(cpu, space, &layout, &mut shown) {
                        if resolved {
                            self.not_made(space, &mut shown);
                        }
                        return Err(shortage);
                    }
                    resolved = true;
                }
            }
        }
        self.observer.broken("an access faults again and again although it was resolved");
        Ok(Touch::Done)
    }

    /// A fault was resolved, but the mapping was taken away for its PV entry before the access, and there is no memory for
    /// another one: what the fault has changed stays so.
    fn not_made(&self, space: &Arc<Space<'s>>, shown: &mut Shown<'_>) {
        if shown.access == Access::Write
            && let Some(Residence::In(frame)) = shown.page.as_ref().map(|page| page.residence)
        {
            self.observer.prepared(space.number(), shown.va, frame);
        }
        self.drop_replaced(shown);
    }

    /// Gives up the page that a copy has replaced, if one has.
    fn drop_replaced(&self, shown: &mut Shown<'_>) {
        if let Some((mut old, held)) = shown.replaced.take()
            && held
        {
            self.let_go(&mut old);
        }
    }

    /// An access was made: lets the observer look, and gives up a page that a copy has replaced.
    fn made(&self, cpu: &mut Cpu<'s>, space: &Arc<Space<'s>>, shown: &mut Shown<'_>, value: u64) {
        let Some(page) = shown.page.as_mut() else {
            self.observer.broken("an address shows a page although none was ever there");
            return;
        };
        let Residence::In(frame) = page.residence else {
            self.observer.broken("an address shows a page that is in no frame");
            return;
        };
        if shown.access == Access::Write {
            page.disposable = false;
            page.stores += 1;
        }
        if let Some(record) = self.record(frame) {
            let (va, access) = (shown.va, shown.access);
            let wild = self.settings.wild_stores;
            let (number, settled) = (space.number(), shown.settled);
            let seen =
                Seen { space: number, pmap: space.pmap(), va, access, value, frame, record, settled, wild };
            self.observer.accessed(self.system, &seen);
        }
        let stores = page.stores;
        let page: PageRef = HeldPage::mutex(page).clone();
        cpu.remember(Visit { space: space.number(), va: shown.va, page, stores });
        self.drop_replaced(shown);
    }

    /// Whether a store at `va` would be permitted and make no private copy of a file's page.
    #[must_use]
    pub fn may_store_in_place(&self, space: &Arc<Space<'s>>, va: VirtAddr) -> bool {
        let layout = space.layout.read();
        layout.vmas.find(va).is_some_and(|vma| {
            permits(vma, Access::Write)
                && (vma.backing.shared
                    || vma.backing.object == 0
                    || space.shard(va).lock().contains_key(&(va.0 >> PAGE_SHIFT)))
        })
    }

    /// Goes back to an address where this CPU has been in the current space, with no lock held: whatever
    /// translation its TLB still has is used. A page fault means that the page is gone, which is
    /// as good.
    pub fn revisit(&self, cpu: &mut Cpu<'s>) {
        let Some(visit) = cpu.recall() else { return };
        let Some(space) = cpu.current().cloned() else { return };
        let before = space.version();
        let execute = cpu.dice.one_in(4);
        let read = if execute { self.machine().fetch(visit.va) } else { self.machine().read(visit.va) };
        let Ok(value) = read else { return };
        count(&self.counts.revisits, 1);
        // The value can be judged only if the same page has shown there all the time, unwritten.
        let layout = space.layout.read();
        let Some(vma) = layout.vmas.find(visit.va) else { return };
        let shard = space.shard(visit.va).lock();
        let now = match shard.get(&(visit.va.0 >> PAGE_SHIFT)) {
            Some(page) => Some(page.clone()),
            None if vma.backing.object != 0 => {
                self.objects.existing(vma.backing.object, vma.object_page(visit.va))
            }
            None => None,
        };
        let Some(now) = now.filter(|now| Arc::ptr_eq(now, &visit.page)) else { return };
        let page = now.lock();
        if space.version() == before && page.stores == visit.stores && !page.disposable {
            self.observer.reread(space.number(), visit.va, value);
        }
    }

    /// Stores through whatever translation this CPU's TLB still has for a place where it has been, with no
    /// lock held, to a word that nothing else uses. Only where [`Settings::wild_stores`](super::Settings::wild_stores) is set.
    pub fn wild_store(&self, cpu: &mut Cpu<'s>) {
        let Some(visit) = cpu.recall() else { return };
        let value = cpu.fresh_value();
        let va = VirtAddr(visit.va.page().0 + WILD_WORD as u64 * 8);
        if self.machine().write(va, value).is_ok() {
            count(&self.counts.revisits, 1);
        }
    }
}

/// The word of each page that [`Vm::wild_store`] writes to.
pub const WILD_WORD: usize = 510;

/// Whether the mapped range permits the access. On this processor every right includes reading.
pub(super) fn permits(vma: &Vma, access: Access) -> bool {
    match access {
        Access::Read => !vma.protection.is_empty(),
        other => vma.protection.contains(other.needs()),
    }
}

/// The access itself.
fn touch(machine: &Machine, word: VirtAddr, access: Access, value: u64) -> Result<u64, PageFault> {
    machine.point();
    match access {
        Access::Read => machine.read(word),
        Access::Write => machine.write(word, value).map(|()| value),
        Access::Execute => machine.fetch(word),
    }
}
