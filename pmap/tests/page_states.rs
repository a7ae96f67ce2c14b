//! What each operation does to a page's marks: dirty, referenced, possibly writable.

mod support;

use pmap::sim::{Adversary, Config, SimMachine};
use pmap::{Access, Advice, EnterFlags, Frame, PageRecord, Pmap, Protection, System, VirtAddr, VirtRange};
use support::{READ_WRITE, on_cpu, small};

const VA: VirtAddr = VirtAddr(0x1234_5000);

/// How the page was used through its one mapping, made by `enter` for a load unless it says otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Use {
    /// Mapped speculatively: read-only, not accessed.
    Untouched,
    /// Mapped with the right to write; read.
    Read,
    /// Mapped with the right to write; stored to.
    Written,
}
use Use::{Read, Untouched, Written};

/// A page mapped once, on one CPU.
struct Scene<'a> {
    system: &'a System<SimMachine>,
    space: &'a Pmap<'a, SimMachine>,
    page: &'a PageRecord,
    other: Frame,
}

impl Scene<'_> {
    fn all(&self) -> VirtRange {
        VirtRange::page_of(VA)
    }

    fn enter(&self, frame: Frame, prot: Protection, access: Access) {
        self.space.enter(VA, frame, prot, access, EnterFlags::empty()).expect("memory");
    }
}

/// Dirty, referenced, writeable.
type Marks = (bool, bool, bool);

fn marks(page: &PageRecord) -> Marks {
    (page.is_dirty(), page.is_referenced_flag(), page.is_writeable())
}

/// Plays `event` after `how`, and compares the page's marks, and whether the mapping that is left, if any, says that
/// it was modified and accessed.
fn check(name: &str, how: Use, event: impl FnOnce(&Scene<'_>), after: Marks, mapping: Option<(bool, bool)>) {
    on_cpu(Config { adversary: Adversary::tame(), ..small() }, |system| {
        let machine = system.machine();
        let space = system.create().unwrap();
        space.activate();
        let frames = [(); 2].map(|()| machine.allocate_data_frame(true).unwrap());
        let page = system.page(frames[0]).unwrap();
        let scene = Scene { system, space: &space, page, other: frames[1] };
        match how {
            Untouched => assert!(space.enter_quick(VA, frames[0], READ_WRITE)),
            Read => scene.enter(frames[0], READ_WRITE, Access::Read),
            Written => {
                scene.enter(frames[0], READ_WRITE, Access::Read);
                machine.write(VA, 1).unwrap();
            }
        }
        assert_eq!(marks(page), (false, false, how != Untouched), "{name}: before");
        event(&scene);
        assert_eq!(marks(page), after, "{name} after {how:?}");
        let left = space.extract(VA).filter(|pa| pa.frame() == frames[0]).and_then(|_| space.mincore(VA));
        assert_eq!(left.map(|m| (m.modified, m.referenced)), mapping, "{name} after {how:?}: the mapping");
        support::assert_clean(system);
        system.activate_kernel();
        space.destroy().unwrap();
        frames.into_iter().for_each(|frame| machine.free_data_frame(frame));
    });
}

#[test]
fn removals_take_what_the_mapping_knew_to_the_page() {
    type Event = fn(&Scene<'_>);
    let removals: [(&str, Event); 7] = [
        ("remove", |s| s.space.remove(s.all())),
        ("map_delete", |s| s.space.map_delete(s.all())),
        ("protect without rights", |s| s.space.protect(s.all(), Protection::empty())),
        ("remove_all", |s| s.system.remove_all(s.page)),
        // H-86: accessed bits go to the pages here, too.
        ("remove_pages", |s| s.space.remove_pages().expect("current here only")),
        ("enter of another page", |s| s.enter(s.other, READ_WRITE, Access::Read)),
        ("enter of another page for a store", |s| s.enter(s.other, READ_WRITE, Access::Write)),
    ];
    for (name, event) in removals {
        check(name, Untouched, event, (false, false, false), None);
        check(name, Read, event, (false, true, false), None);
        check(name, Written, event, (true, true, false), None);
    }
}

/// H-86: pages of a process that exits look used, as those of any other removal do.
#[test]
fn the_exit_of_a_process_does_not_make_its_pages_look_idle() {
    check("remove_pages", Read, |s| s.space.remove_pages().unwrap(), (false, true, false), None);
}

#[test]
fn rights_that_go_take_the_dirty_bit_along() {
    let read_only = |s: &Scene<'_>| s.space.protect(s.all(), Protection::READ);
    check("protect", Untouched, read_only, (false, false, false), Some((false, false)));
    check("protect", Read, read_only, (false, false, true), Some((false, true)));
    check("protect", Written, read_only, (true, false, true), Some((false, true)));
    let no_execute = |s: &Scene<'_>| s.space.protect(s.all(), READ_WRITE);
    check("protect against execution", Written, no_execute, (false, false, true), Some((true, true)));
    let remove_write = |s: &Scene<'_>| s.system.remove_write(s.page);
    check("remove_write", Untouched, remove_write, (false, false, false), Some((false, false)));
    check("remove_write", Read, remove_write, (false, false, false), Some((false, true)));
    check("remove_write", Written, remove_write, (true, false, false), Some((false, true)));
    let narrower = |s: &Scene<'_>| s.enter(s.page.frame(), Protection::READ, Access::Read);
    check("enter with fewer rights", Read, narrower, (false, false, true), Some((false, true)));
    check("enter with fewer rights", Written, narrower, (true, false, true), Some((false, true)));
    let wider = |s: &Scene<'_>| s.enter(s.page.frame(), READ_WRITE, Access::Read);
    check("enter with more rights", Untouched, wider, (false, false, true), Some((false, true)));
    check("enter again", Written, wider, (false, false, true), Some((true, true)));
}

#[test]
fn aging_and_advice_change_the_mapping_and_the_dirty_mark() {
    let clear_modify = |s: &Scene<'_>| s.system.clear_modify(s.page);
    check("clear_modify", Read, clear_modify, (false, false, true), Some((false, true)));
    check("clear_modify", Written, clear_modify, (false, false, true), Some((false, true)));
    let age = |expected| move |s: &Scene<'_>| assert_eq!(s.system.ts_referenced(s.page), expected);
    check("ts_referenced", Untouched, age(0), (false, false, false), Some((false, false)));
    check("ts_referenced", Read, age(1), (false, false, true), Some((false, false)));
    check("ts_referenced", Written, age(1), (true, false, true), Some((true, false)));
    let dont_need = |s: &Scene<'_>| s.space.advise(s.all(), Advice::DontNeed);
    check("advise DontNeed", Untouched, dont_need, (false, false, false), Some((false, false)));
    check("advise DontNeed", Read, dont_need, (false, false, true), Some((false, false)));
    check("advise DontNeed", Written, dont_need, (true, false, true), Some((false, false)));
    let free = |s: &Scene<'_>| s.space.advise(s.all(), Advice::Free);
    check("advise Free", Untouched, free, (false, false, false), Some((false, false)));
    check("advise Free", Read, free, (false, false, true), Some((false, false)));
    check("advise Free", Written, free, (false, false, true), Some((false, false)));
    let freed_and_used = |s: &Scene<'_>| {
        s.space.advise(s.all(), Advice::Free);
        s.system.machine().write(VA, 2).unwrap();
    };
    check("a store after advise", Written, freed_and_used, (false, false, true), Some((true, true)));
}

#[test]
fn what_is_not_about_use_leaves_the_marks_alone() {
    let unwire = |s: &Scene<'_>| {
        s.space.enter(VA, s.page.frame(), READ_WRITE, Access::Write, EnterFlags::WIRED).unwrap();
        s.space.unwire(s.all()).unwrap();
    };
    check("unwire", Written, unwire, (false, false, true), Some((true, true)));
    let hold = |s: &Scene<'_>| {
        assert!(s.space.extract_and_hold(VA, Protection::READ).is_some());
        assert!(s.system.unhold(s.page));
    };
    check("extract_and_hold", Written, hold, (false, false, true), Some((true, true)));
    let fork = |s: &Scene<'_>| {
        let child = s.system.create().unwrap();
        assert_eq!(child.copy_from(s.space, VirtRange::user()), 1);
        let copied = child.mincore(VA).unwrap();
        assert!(!copied.modified && !copied.referenced);
        s.space.remove(s.all());
        assert!(s.page.is_writeable(), "the copy is writable");
        child.destroy().unwrap();
    };
    check("copy_from, and both mappings go", Written, fork, (true, true, false), None);
}

/// Unmanaged mappings are nobody's business.
#[test]
fn advice_and_removal_leave_unmanaged_pages_alone() {
    let event = |s: &Scene<'_>| {
        s.space.remove(s.all());
        s.page.clear_dirty();
        s.page.clear_referenced_flag();
        s.system.set_unmanaged(s.page, true).unwrap();
        s.enter(s.page.frame(), READ_WRITE, Access::Write);
        s.space.advise(s.all(), Advice::DontNeed);
        let left = s.space.mincore(VA).unwrap();
        assert!(left.modified && left.referenced);
        s.space.remove(s.all());
        s.system.set_unmanaged(s.page, false).unwrap();
    };
    check("an unmanaged mapping", Written, event, (false, false, false), None);
}

/// H-59: a copy has the rights of its source, and no other bit that software or hardware put into the entry.
#[test]
fn a_copy_carries_nothing_but_frame_and_rights() {
    use pmap::entry::{ACCESSED, DIRTY, Entry, WIRED, X86};
    use std::sync::atomic::Ordering;
    let event = |s: &Scene<'_>| {
        let machine = s.system.machine();
        let walk = s.space.get_mapping(VA);
        let table = Frame((walk[2] & 0x000f_ffff_ffff_f000) >> 12);
        let word = &machine.frame_words(table)[VA.index(1)];
        // What a promotion would leave, and the bits that others use.
        let stray = 1 << 54 | 1 << 52 | 1 << 9;
        word.fetch_or(stray, Ordering::SeqCst);
        let child = s.system.create().unwrap();
        assert_eq!(child.copy_from(s.space, VirtRange::user()), 1);
        let copied = child.get_mapping(VA)[3];
        assert_eq!(copied, Entry::<X86>::from_word(walk[3]).without(ACCESSED | DIRTY | WIRED).word());
        word.fetch_and(!stray, Ordering::SeqCst);
        child.destroy().unwrap();
    };
    check("copy_from", Written, event, (false, false, true), Some((true, true)));
}
