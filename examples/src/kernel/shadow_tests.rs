//! The model of the kernel's replay against the same thing page by page. The kernel itself has no tests that run on the host.

use std::collections::BTreeMap;

use pmap::{Protection, VirtAddr, VirtRange};
use proptest::prelude::*;

#[allow(dead_code, unused_imports, reason = "the kernel uses all of it")]
#[path = "../../kernel/src/programs/replay/shadow/mod.rs"]
mod shadow;

use shadow::{Objects, Owner, Region, Shadow, Shown, Source};

const PAGES: u64 = 24;
const RW: Protection = Protection::READ.union(Protection::WRITE);

fn initial(object: u32, page: u64, index: u64) -> u64 {
    u64::from(object) << 40 | page << 16 | index | 1 << 63
}

/// What is known of a page without any ranges.
#[derive(Clone, Copy, Debug)]
struct Plain {
    protection: Protection,
    is_shared: bool,
    source: Option<(u32, u64)>,
    own: Option<[u64; 2]>,
}

#[derive(Clone, Debug)]
enum Op {
    Map { at: u64, pages: u64, is_shared: bool, source: Option<(u32, u64)> },
    Unmap { at: u64, pages: u64 },
    Protect { at: u64, pages: u64, protection: Protection },
    Discard { at: u64, pages: u64 },
    Remap { at: u64, pages: u64, to: u64, new_pages: u64 },
    Store { at: u64 },
    Fork,
}

fn op() -> impl Strategy<Value = Op> {
    let place = || (0..PAGES - 8, 1..8_u64);
    let source = prop_oneof![Just(None), (1..3_u32, 0..4_u64).prop_map(Some)];
    prop_oneof![
        4 => (place(), any::<bool>(), source).prop_map(|((at, pages), is_shared, source)| {
            Op::Map { at, pages, is_shared: is_shared && source.is_some(), source }
        }),
        1 => place().prop_map(|(at, pages)| Op::Unmap { at, pages }),
        1 => (place(), any::<bool>()).prop_map(|((at, pages), write)| {
            Op::Protect { at, pages, protection: if write { RW } else { Protection::READ } }
        }),
        1 => place().prop_map(|(at, pages)| Op::Discard { at, pages }),
        1 => (place(), place()).prop_map(|((at, pages), (to, new_pages))| Op::Remap { at, pages, to, new_pages }),
        12 => (0..PAGES).prop_map(|at| Op::Store { at }),
        1 => Just(Op::Fork),
    ]
}

fn range(at: u64, pages: u64) -> VirtRange {
    VirtRange::new(VirtAddr(at << 12), VirtAddr((at + pages) << 12)).unwrap()
}

type Pages = BTreeMap<u64, Plain>;

/// What both say of a page.
fn compare(shadow: &Shadow, objects: &Objects, pages: &Pages, stored: &BTreeMap<(u32, u64), [u64; 2]>) {
    for at in 0..PAGES {
        let shown = shadow.view(VirtAddr((at << 12) + 77), objects).shown;
        let wanted = match pages.get(&at) {
            None => Shown::Nothing,
            Some(page) => {
                let of_object = page.source.map(|(object, number)| {
                    let new = || [initial(object, number, 1), initial(object, number, 510)];
                    stored.get(&(object, number)).copied().unwrap_or_else(new)
                });
                let (words, owner) = match (page.own, of_object) {
                    (Some(own), _) => (own, Owner::Space),
                    (None, Some(words)) if page.is_shared => (words, Owner::Object),
                    (None, Some(words)) => (words, Owner::Foreign),
                    (None, None) => ([0; 2], Owner::Space),
                };
                Shown::Page { protection: page.protection, owner, words }
            }
        };
        assert_eq!(shown, wanted, "page {at}");
    }
}

proptest! {
    #[test]
    fn ranges_and_pages_agree(ops in prop::collection::vec(op(), 1..80)) {
        let mut objects = Objects::new(initial);
        let mut shadow = Shadow::new(1);
        let mut pages = Pages::new();
        let mut stored: BTreeMap<(u32, u64), [u64; 2]> = BTreeMap::new();
        let mut parent: Option<(Shadow, Pages)> = None;
        for op in ops {
            match op {
                Op::Map { at, pages: count, is_shared, source } => {
                    let region = Region {
                        protection: RW,
                        is_shared,
                        source: source.map(|(object, page)| Source { object, page }),
                    };
                    let free = (at..at + count).all(|page| !pages.contains_key(&page));
                    prop_assert_eq!(shadow.map(range(at, count), region), free);
                    for page in (at..at + count).filter(|_| free) {
                        let source = source.map(|(object, first)| (object, first + page - at));
                        pages.insert(page, Plain { protection: RW, is_shared, source, own: None });
                    }
                }
                Op::Unmap { at, pages: count } => {
                    let there = pages.range(at..at + count).next().is_some();
                    prop_assert_eq!(shadow.unmap(range(at, count)), there);
                    pages.retain(|page, _| !(at..at + count).contains(page));
                }
                Op::Protect { at, pages: count, protection } => {
                    let there = pages.range(at..at + count).next().is_some();
                    prop_assert_eq!(shadow.protect(range(at, count), protection), there);
                    pages.range_mut(at..at + count).for_each(|(_, page)| page.protection = protection);
                }
                Op::Discard { at, pages: count } => {
                    let there = pages.range(at..at + count).next().is_some();
                    prop_assert_eq!(shadow.discard(range(at, count)), there);
                    pages.range_mut(at..at + count).for_each(|(_, page)| page.own = None);
                }
                Op::Remap { at, pages: count, to, new_pages } => {
                    let (old, new) = (range(at, count), range(to, new_pages));
                    let Some(&first) = pages.get(&at) else {
                        prop_assert!(!shadow.has_mapping(old.start()));
                        continue;
                    };
                    let is_one = |(page, plain): (&u64, &Plain)| {
                        let source = first.source.map(|(object, number)| (object, number + page - at));
                        (plain.protection, plain.is_shared, plain.source)
                            == (first.protection, first.is_shared, source)
                    };
                    // A mapping is moved, and neither several nor holes.
                    let whole = pages.range(at..at + count).filter(|page| is_one(*page)).count() as u64 == count;
                    let has_room = (to..to + new_pages)
                        .all(|page| (at..at + count).contains(&page) || !pages.contains_key(&page));
                    if !whole {
                        continue;
                    }
                    prop_assert_eq!(shadow.has_room(old, new), has_room);
                    if has_room {
                        shadow.remap(old, new);
                        let gone: Vec<Option<Plain>> = (at..at + count).map(|page| pages.remove(&page)).collect();
                        for offset in 0..new_pages {
                            let source = first.source.map(|(object, number)| (object, number + offset));
                            let own = gone.get(offset as usize).copied().flatten().and_then(|page| page.own);
                            pages.insert(to + offset, Plain { source, own, ..first });
                        }
                    }
                }
                Op::Store { at } => {
                    let Some(page) = pages.get_mut(&at).filter(|page| page.protection == RW) else { continue };
                    let va = VirtAddr(at << 12);
                    let store = shadow.begin_store(va, &mut objects).unwrap();
                    prop_assert!(!shadow.view(va, &objects).is_settled());
                    let new = |(object, number)| [initial(object, number, 1), initial(object, number, 510)];
                    let now = |source| stored.get(&source).copied().unwrap_or_else(|| new(source));
                    let mut words = page.own.or_else(|| page.source.map(now)).unwrap_or_default();
                    if let Some(other) = store.other {
                        prop_assert_eq!(other, words[1 - store.slot]);
                    }
                    let other = words[1 - store.slot];
                    prop_assert_ne!(store.stamp, words[store.slot]);
                    words[store.slot] = store.stamp;
                    match page.source {
                        Some(source) if page.is_shared => {
                            stored.insert(source, words);
                        }
                        _ => page.own = Some(words),
                    }
                    shadow.end_store(va, &store, other, &mut objects);
                    prop_assert!(shadow.view(va, &objects).is_settled());
                }
                Op::Fork => {
                    let child = shadow.fork(2);
                    parent = Some((std::mem::replace(&mut shadow, child), pages.clone()));
                }
            }
            compare(&shadow, &objects, &pages, &stored);
            if let Some((shadow, pages)) = &parent {
                compare(shadow, &objects, pages, &stored);
            }
        }
    }
}

#[test]
fn a_look_during_a_change_proves_nothing() {
    let objects = Objects::new(initial);
    let mut shadow = Shadow::new(1);
    let before = shadow.view(VirtAddr(0), &objects);
    assert!(before.holds_until(&shadow.view(VirtAddr(0), &objects)));
    shadow.begin_change();
    let during = shadow.view(VirtAddr(0), &objects);
    assert!(!during.is_settled() && !before.holds_until(&during));
    shadow.end_change(range(3, 2));
    assert!(!before.holds_until(&shadow.view(VirtAddr(0), &objects)), "something has happened in between");
    assert_eq!(shadow.changed_since(0).collect::<Vec<_>>(), [range(3, 2)]);
    assert_eq!(shadow.changed_since(shadow.changes()).count(), 0);
}
