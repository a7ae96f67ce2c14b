//! Compares the pmap's answers with the model's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pmap::sim::CpuModel;
use pmap::{Access, Frame, PAGE_SHIFT, PageRecord, Protection, VirtAddr, VirtRange};

use super::cell::{Base, Cell};
use super::frames::{Clash, Frames};
use super::mismatch::Mismatches;
use super::ranges::{Run, pages};
use super::space::ModelSpace;
use crate::hash::Map;
use crate::trace::{ObjectInfo, ObjectKind};
use crate::vm::{Observer, Seen, SpacePmap, System, Vma, WILD_WORD};

/// How much is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Verify {
    /// Every answer.
    Full,
    /// One answer in 64; the model itself follows everything.
    Sample,
    /// Nothing; there is no model then.
    Off,
}

/// One in how many answers is compared in [`Verify::Sample`].
const SAMPLE: u64 = 64;
/// Ranges up to this many pages are looked at page by page, longer ones where something was seen, and
/// at every sixteenth page.
const EVERY_PAGE: u64 = 64;

type SharedSpace = Arc<Mutex<ModelSpace>>;

/// The model, and the comparison.
pub struct Checker {
    verify: Verify,
    objects: BTreeMap<u32, ObjectInfo>,
    /// What every mapping permits besides what it is for.
    implied: Protection,
    spaces: Mutex<Map<u32, SharedSpace>>,
    files: Mutex<Map<(u32, u64), Arc<Cell>>>,
    frames: Frames,
    mismatches: Mismatches,
    asked: AtomicU64,
    compared: AtomicU64,
}

/// What the pmap says about an access. Asked before the model is locked: the pmap may wait.
struct Answers {
    extract: Option<Frame>,
    rights: Option<Protection>,
    held: bool,
    managed: bool,
    modified: bool,
    referenced: bool,
    mapped: bool,
    /// Another CPU took the mapping away meanwhile, because it needed a PV entry.
    taken_away: bool,
    contents: Box<[u64; 512]>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Checker {
    /// A model without any space, of what happens on processors of a kind.
    #[must_use]
    pub fn new(verify: Verify, objects: BTreeMap<u32, ObjectInfo>, cpu_model: CpuModel) -> Self {
        // Without the no-execute bit, what can be read can be executed.
        let implied = if cpu_model.has_no_execute() { Protection::empty() } else { Protection::EXECUTE };
        Self {
            verify,
            objects,
            implied,
            spaces: Mutex::default(),
            files: Mutex::default(),
            frames: Frames::default(),
            mismatches: Mismatches::default(),
            asked: AtomicU64::new(0),
            compared: AtomicU64::new(0),
        }
    }

    /// What differed.
    #[must_use]
    pub fn mismatches(&self) -> &Mismatches {
        &self.mismatches
    }

    /// Number of comparisons made.
    #[must_use]
    pub fn compared(&self) -> u64 {
        // ORD: Relaxed; a count.
        self.compared.load(Ordering::Relaxed)
    }

    /// Whether to compare this time.
    fn due(&self) -> bool {
        // ORD: Relaxed; a count.
        let due = match self.verify {
            Verify::Full => true,
            Verify::Sample => self.asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(SAMPLE),
            Verify::Off => false,
        };
        if due {
            self.compared.fetch_add(1, Ordering::Relaxed); // ORD: a count
        }
        due
    }

    fn space(&self, number: u32) -> SharedSpace {
        locked(&self.spaces).entry(number).or_default().clone()
    }

    fn edit(&self, space: u32, change: impl FnOnce(&mut ModelSpace)) {
        if self.verify != Verify::Off {
            change(&mut locked(&self.space(space)));
        }
    }

    fn file(&self, object: u32, page: u64) -> Arc<Cell> {
        let base = match self.objects.get(&object).map(|info| info.kind) {
            Some(ObjectKind::Anonymous) => Base::Zero,
            _ => Base::File { object, page },
        };
        locked(&self.files).entry((object, page)).or_insert_with(|| Arc::new(Cell::new(base))).clone()
    }

    fn differs(&self, space: u32, va: VirtAddr, what: impl FnOnce() -> String) {
        self.mismatches.add(|| format!("space {space}, address {va}: {}", what()));
    }

    fn ask(system: &System, seen: &Seen<'_, '_>) -> Answers {
        let page = seen.va.page();
        let managed = seen.record.is_managed();
        let held = seen.pmap.extract_and_hold(page, Protection::READ);
        // Only pages that the pmap manages can be held.
        let held_here = !managed || (held == Some(seen.frame) && seen.record.wire_count() > 0);
        if let Some(record) = held.and_then(|frame| system.page(frame)) {
            system.unhold(record);
        }
        // ORD: Relaxed; the page is locked, and its contents were published by the lock.
        let words = system.machine().frame_words(seen.frame);
        let contents = Box::new(std::array::from_fn(|i| words[i].load(Ordering::Relaxed))); // ORD: as above
        Answers {
            extract: seen.pmap.extract(page).map(pmap::PhysAddr::frame),
            rights: seen.pmap.protection(page),
            held: held_here,
            managed,
            // Mappings first, then the mark: a mapping that goes away in between leaves its mark.
            modified: managed && (system.is_modified(seen.record) || seen.record.is_dirty()),
            referenced: managed && (system.is_referenced(seen.record) || seen.record.is_referenced_flag()),
            mapped: system.page_is_mapped(seen.record),
            contents,
            // Last. The page is locked, so a mapping that is gone does not come back.
            taken_away: seen.pmap.extract(page).is_none() && system.statistics().pv_reclaims > 0,
        }
    }

    /// The page that must show at `va`, after what an access did to it.
    fn shown(&self, space: &mut ModelSpace, run: &Run, va: VirtAddr, write: bool) -> Arc<Cell> {
        let page = va.0 >> PAGE_SHIFT;
        if run.shared {
            return self.file(run.object, run.object_page(page));
        }
        match space.private.get(&page) {
            // Another space holds it too: the store went to a copy.
            Some(cell) if write && Arc::strong_count(cell) > 1 => {
                let copy = Arc::new(cell.copy());
                space.private.insert(page, copy.clone());
                copy
            }
            Some(cell) => cell.clone(),
            None if run.object != 0 && !write => self.file(run.object, run.object_page(page)),
            None => {
                let cell = Arc::new(match run.object {
                    0 => Cell::new(Base::Zero),
                    object => self.file(object, run.object_page(page)).copy(),
                });
                space.private.insert(page, cell.clone());
                cell
            }
        }
    }

    fn compare_access(&self, seen: &Seen<'_, '_>, answers: Option<&Answers>) {
        let differs = |what: String| self.differs(seen.space, seen.va, || what);
        let shared = self.space(seen.space);
        let mut space = locked(&shared);
        let number = seen.va.0 >> PAGE_SHIFT;
        let Some(&run) = space.runs.at(number) else { return differs("accessed although unmapped".into()) };
        let permitted = match seen.access {
            Access::Read => !run.rights.is_empty(),
            other => !run.rights.is_empty() && (run.rights | self.implied).contains(other.needs()),
        };
        if !permitted {
            differs(format!("{:?} although only {:?} is permitted", seen.access, run.rights));
        }
        space.seen.insert(number);
        let cell = self.shown(&mut space, &run, seen.va, seen.access == Access::Write);
        let private = space.private.contains_key(&number);
        // One reference is ours, one the space's.
        let others_hold_it = private && Arc::strong_count(&cell) > 2;
        let mut contents = cell.lock();
        let index = (seen.va.page_offset() / 8) as usize;
        if contents.maybe_zero
            && let Some(answers) = answers
        {
            let zero = answers.contents.iter().enumerate().all(|(i, word)| {
                *word == 0 || i == WILD_WORD || (i == index && seen.access == Access::Write)
            });
            if zero {
                contents.become_zero();
            }
        }
        if seen.access == Access::Write {
            if std::mem::take(&mut contents.forked) {
                self.frames.move_to(seen.frame.0, &mut contents);
            }
            contents.store(index, seen.value);
            contents.maybe_zero = false;
        } else if seen.value != contents.word(index)
            && !contents.maybe_zero
            && !(seen.wild && index == WILD_WORD)
        {
            differs(format!("read {:#x} where {:#x} was stored", seen.value, contents.word(index)));
        }
        match self.frames.bind(seen.frame.0, &cell, &mut contents) {
            Ok(()) => {}
            Err(Clash::Elsewhere(old)) => {
                differs(format!("in {:?}, but it is in frame {old:#x}", seen.frame))
            }
            Err(Clash::Taken) => differs(format!("in {:?}, where another page is", seen.frame)),
        }
        let Some(answers) = answers else { return };
        let stayed = !answers.taken_away;
        if stayed && (answers.extract != Some(seen.frame) || !answers.held) {
            differs(format!("extract says {:?}, but it is in {:?}", answers.extract, seen.frame));
        }
        let all = run.rights | Protection::READ | self.implied;
        let most = if run.shared || (private && !others_hold_it) { all } else { all - Protection::WRITE };
        if stayed && seen.settled && !answers.rights.is_some_and(|rights| most.contains(rights)) {
            differs(format!("mapped {:?} where at most {most:?} is permitted", answers.rights));
        }
        if stayed && answers.mapped != answers.managed {
            differs(format!("page_is_mapped says {}", answers.mapped));
        }
        if answers.managed && !answers.referenced {
            differs("accessed but not referenced".into());
        }
        let modified_too_much = answers.modified && !contents.modified && !seen.wild;
        if answers.managed && (modified_too_much || (contents.modified && !answers.modified)) {
            differs(format!("modified: {}, but stored to: {}", answers.modified, contents.modified));
        }
        let image = contents.image();
        let wrong = image
            .iter()
            .zip(answers.contents.iter())
            .enumerate()
            .find(|(i, (expected, word))| expected != word && !(seen.wild && *i == WILD_WORD));
        if let Some((at, (expected, word))) = wrong {
            differs(format!("word {at} holds {word:#x} instead of {expected:#x}"));
        }
    }

    /// Whether the model cannot know what the page holds without looking.
    fn is_uncertain(&self, seen: &Seen<'_, '_>) -> bool {
        let space = self.space(seen.space);
        let space = locked(&space);
        space.private.get(&(seen.va.0 >> PAGE_SHIFT)).is_some_and(|cell| cell.lock().maybe_zero)
    }

    /// Pages of a range that are worth a look.
    fn pages_to_look_at(&self, space: Option<u32>, range: VirtRange) -> Vec<VirtAddr> {
        let numbers = pages(range);
        let mut look: Vec<u64> = match space {
            Some(space) => locked(&self.space(space)).take_going(&numbers),
            None => Vec::new(),
        };
        if range.pages() <= EVERY_PAGE {
            look = numbers.collect();
        } else if range.pages() <= 1 << 20 {
            look.extend(numbers.step_by(16));
        }
        look.into_iter().map(|page| VirtAddr(page << PAGE_SHIFT)).collect()
    }
}

impl Observer for Checker {
    fn created(&self, space: u32) {
        self.edit(space, |s| *s = ModelSpace::default());
    }

    fn mapped(&self, space: u32, vma: &Vma) {
        let at = pages(vma.range);
        let backing = vma.backing;
        let run = Run::new(&at, vma.protection, backing.object, backing.first_page, backing.shared);
        self.edit(space, |s| s.runs.put(&at, run));
    }

    fn unmapped(&self, space: u32, range: VirtRange) {
        self.edit(space, |s| s.unmap(&pages(range)));
    }

    fn protected(&self, space: u32, range: VirtRange, protection: Protection) {
        self.edit(space, |s| s.runs.set_rights(&pages(range), protection));
    }

    fn discarded(&self, space: u32, range: VirtRange) {
        self.edit(space, |s| s.discard(&pages(range)));
    }

    fn disposable(&self, space: u32, va: VirtAddr) {
        self.edit(space, |s| {
            if let Some(cell) = s.private.get(&(va.0 >> PAGE_SHIFT)) {
                cell.lock().maybe_zero = true;
            }
        });
    }

    fn prepared(&self, space: u32, va: VirtAddr, frame: Frame) {
        self.edit(space, |s| {
            let Some(&run) = s.runs.at(va.0 >> PAGE_SHIFT) else { return };
            let cell = self.shown(s, &run, va, true);
            let mut contents = cell.lock();
            if std::mem::take(&mut contents.forked) {
                self.frames.move_to(frame.0, &mut contents);
            }
            // The mapping was made for a store, and so counts as stored through.
            contents.modified = true;
            if self.frames.bind(frame.0, &cell, &mut contents).is_err() {
                self.differs(space, va, || format!("in {frame:?}, where it cannot be"));
            }
        });
    }

    fn moved(&self, space: u32, old: VirtRange, new: VirtRange) {
        self.edit(space, |s| s.remap(&pages(old), &pages(new)));
    }

    fn forked(&self, parent: u32, child: u32) {
        if self.verify != Verify::Off {
            let copy = locked(&self.space(parent)).clone();
            copy.private.values().for_each(|cell| cell.lock().forked = true);
            *locked(&self.space(child)) = copy;
        }
    }

    fn gone(&self, space: u32) {
        locked(&self.spaces).remove(&space);
    }

    fn cleaned(&self, frame: Frame) {
        if let Some(cell) = self.frames.at(frame.0) {
            cell.lock().modified = false;
        }
    }

    fn frame_released(&self, frame: Frame) {
        if self.verify != Verify::Off {
            self.frames.release(frame.0);
        }
    }

    fn broken(&self, what: &'static str) {
        self.mismatches.add(|| what.to_owned());
    }

    fn has_objections(&self) -> bool {
        self.mismatches.count() > 0
    }

    fn accessed(&self, system: &System, seen: &Seen<'_, '_>) {
        if self.verify == Verify::Off {
            return;
        }
        // A page that may have become zero is always looked at: its contents are only known by that.
        let answers = (self.due() || self.is_uncertain(seen)).then(|| Self::ask(system, seen));
        self.compare_access(seen, answers.as_ref());
    }

    fn reread(&self, space: u32, va: VirtAddr, value: u64) {
        if self.verify == Verify::Off || !self.due() {
            return;
        }
        let page = va.0 >> PAGE_SHIFT;
        let index = (va.page_offset() / 8) as usize;
        let shared = self.space(space);
        let model = locked(&shared);
        let Some(&run) = model.runs.at(page) else { return };
        let cell = match model.private.get(&page) {
            Some(cell) if !run.shared => cell.clone(),
            _ if run.object != 0 => self.file(run.object, run.object_page(page)),
            _ => return,
        };
        let contents = cell.lock();
        if !contents.maybe_zero && index != WILD_WORD && contents.word(index) != value {
            self.differs(space, va, || {
                format!("read {value:#x} again where {:#x} was stored", contents.word(index))
            });
        }
    }

    fn range_removed(&self, space: u32, pmap: &SpacePmap<'_>, range: VirtRange) {
        if self.verify == Verify::Off {
            return;
        }
        let look = self.pages_to_look_at(Some(space), range);
        if self.due() {
            for va in look {
                if let Some(at) = pmap.extract(va) {
                    self.differs(space, va, || format!("still mapped to {at:?} after remove"));
                }
            }
        }
    }

    fn rights_taken(&self, system: &System, pmap: &SpacePmap<'_>, range: VirtRange, protection: Protection) {
        if protection.contains(Protection::WRITE) || !self.due() {
            return;
        }
        for va in self.pages_to_look_at(None, range) {
            if let Some(frame) = pmap.extract_and_hold(va, Protection::WRITE) {
                if let Some(record) = system.page(frame) {
                    system.unhold(record);
                }
                self.mismatches.add(|| format!("{va} is still writable after protect"));
            }
            if protection.is_empty() && pmap.extract(va).is_some() {
                self.mismatches.add(|| format!("{va} is still mapped after all rights were taken"));
            }
        }
    }

    fn tables_copied(&self, _system: &System, parent: &SpacePmap<'_>, child: &SpacePmap<'_>, vma: &Vma) {
        if !self.due() {
            return;
        }
        for va in self.pages_to_look_at(None, vma.range) {
            let Some(copied) = child.extract(va) else { continue };
            // The page daemon may have taken the parent's mapping, or both, since.
            if parent.extract(va).is_some_and(|original| original != copied) {
                self.mismatches.add(|| format!("{va} shows another frame in the child of a fork"));
            }
            let writable =
                |pmap: &SpacePmap<'_>| pmap.protection(va).is_some_and(|p| p.contains(Protection::WRITE));
            if vma.is_private() && (writable(child) || writable(parent)) {
                self.mismatches.add(|| format!("{va} is private but writable after a fork"));
            }
        }
    }

    fn page_emptied(&self, system: &System, record: &PageRecord) {
        if self.due() && system.page_is_mapped(record) {
            self.mismatches.add(|| format!("{:?} is still mapped after remove_all", record.frame()));
        }
    }
}
