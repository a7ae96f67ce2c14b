//! How much physical memory a trace needs at most, found by going through it page by page.

use std::collections::BTreeMap;

use pmap::{PAGE_SHIFT, VirtAddr, VirtRange};

use crate::hash::{Map, Set};
use crate::trace::{Advice, Event, Op, Trace};
use crate::vm::{Backing, Vma, VmaMap};

/// PV entries that fit one page-sized chunk.
const PV_PER_CHUNK: u64 = 168;

/// Largest use of physical memory at any point, if nothing were ever reclaimed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// Frames in all.
    pub frames: u64,
    /// Frames among them that only page tables and PV entries use.
    pub tables: u64,
    /// Address spaces alive at the same time, at most.
    pub spaces: u64,
}

#[derive(Clone, Default)]
struct Space {
    vmas: VmaMap,
    /// Private pages: page → which.
    private: BTreeMap<u64, u32>,
    /// Mapped pages per 2 MiB, which is one page-table page each.
    tables: BTreeMap<u64, Set<u64>>,
}

#[derive(Default)]
struct Walk {
    spaces: Map<u32, Space>,
    /// Number of spaces that hold each private page.
    holders: Vec<u32>,
    private: u64,
    objects: Set<(u32, u64)>,
    tables: u64,
    mapped: u64,
    peak: Peak,
}

/// Goes through `trace` in file order and returns what it needs.
#[must_use]
pub fn peak(trace: &Trace) -> Peak {
    let mut walk = Walk::default();
    for event in &trace.events {
        walk.event(event.space, &event.op);
        walk.note();
    }
    walk.peak
}

/// How many of the first events of `trace` need no more than `frames` at any point.
#[must_use]
pub fn fitting(trace: &Trace, frames: u64) -> usize {
    let mut walk = Walk::default();
    let mut fits = |event: &Event| {
        walk.event(event.space, &event.op);
        walk.note();
        walk.peak.frames <= frames
    };
    trace.events.iter().position(|event| !fits(event)).unwrap_or(trace.events.len())
}

impl Walk {
    fn note(&mut self) {
        // A root, and about two upper tables, per space.
        let tables = self.tables + 3 * self.spaces.len() as u64 + self.mapped.div_ceil(PV_PER_CHUNK);
        let frames = tables + self.private + self.objects.len() as u64;
        if frames > self.peak.frames {
            self.peak = Peak { frames, tables, ..self.peak };
        }
        self.peak.spaces = self.peak.spaces.max(self.spaces.len() as u64);
    }

    fn event(&mut self, number: u32, op: &Op) {
        match op {
            Op::Exec(new) => {
                self.spaces.insert(*new, Space::default());
                return;
            }
            Op::Exit => {
                self.drop_pages(number, VirtRange::user());
                self.spaces.remove(&number);
                return;
            }
            _ => {}
        }
        let Some(space) = self.spaces.get_mut(&number) else { return };
        match op {
            Op::Map(args) => {
                let backing =
                    Backing { object: args.object, first_page: args.first_page, shared: args.shared };
                // A range that is taken already is the replay's to complain about.
                let _ = space.vmas.insert(Vma { range: args.range, protection: args.protection, backing });
            }
            Op::Unmap(range) => {
                space.vmas.remove(*range);
                self.drop_pages(number, *range);
            }
            Op::Protect(range, protection) => {
                space.vmas.protect(*range, *protection);
            }
            Op::Advise(range, Advice::DontNeed) => self.drop_pages(number, *range),
            Op::Fault(va, code) => self.fault(number, *va, code.access() == pmap::Access::Write),
            Op::Remap(old, new) => {
                // Only where things are matters here, not what: private pages move along.
                let pieces = space.vmas.remove(*old);
                let shift = new.start().0.wrapping_sub(old.start().0) >> PAGE_SHIFT;
                if let Some(piece) = pieces.first() {
                    let _ = space.vmas.insert(Vma { range: *new, ..*piece });
                }
                let moved: Vec<(u64, u32)> =
                    space.private.range(pages(*old)).map(|(p, id)| (*p, *id)).collect();
                for (page, id) in moved {
                    space.private.remove(&page);
                    space.private.insert(page.wrapping_add(shift), id);
                }
            }
            Op::Fork(child) => {
                let copy = space.clone();
                for id in copy.private.values() {
                    self.holders[*id as usize] += 1;
                }
                self.tables += copy.tables.len() as u64;
                self.mapped += copy.tables.values().map(|set| set.len() as u64).sum::<u64>();
                self.spaces.insert(*child, copy);
            }
            Op::Advise(..) | Op::Exec(_) | Op::Exit => {}
        }
    }

    fn fault(&mut self, number: u32, va: VirtAddr, write: bool) {
        let Some(space) = self.spaces.get_mut(&number) else { return };
        let Some(vma) = space.vmas.find(va) else { return };
        let page = va.0 >> PAGE_SHIFT;
        let table = space.tables.entry(page >> 9).or_insert_with(|| {
            self.tables += 1;
            Set::default()
        });
        self.mapped += u64::from(table.insert(page));
        let held = space.private.get(&page).copied();
        if vma.backing.object != 0 && (vma.backing.shared || held.is_none()) {
            self.objects.insert((vma.backing.object, vma.object_page(va)));
        }
        let private_wanted = vma.is_private() && (vma.backing.object == 0 || write);
        match held {
            Some(id) if write && self.holders[id as usize] > 1 => {
                self.holders[id as usize] -= 1;
            }
            Some(_) => return,
            None if private_wanted => {}
            None => return,
        }
        space.private.insert(page, self.holders.len() as u32);
        self.holders.push(1);
        self.private += 1;
    }

    fn drop_pages(&mut self, number: u32, range: VirtRange) {
        let Some(space) = self.spaces.get_mut(&number) else { return };
        let gone: Vec<(u64, u32)> = space.private.range(pages(range)).map(|(p, id)| (*p, *id)).collect();
        for (page, id) in gone {
            space.private.remove(&page);
            self.holders[id as usize] -= 1;
            self.private -= u64::from(self.holders[id as usize] == 0);
        }
        let span = pages(range);
        let (first, last) = (span.start >> 9, span.end.div_ceil(512));
        let tables: Vec<u64> = space.tables.range(first..last).map(|(t, _)| *t).collect();
        for table in tables {
            let Some(set) = space.tables.get_mut(&table) else { continue };
            let before = set.len();
            set.retain(|page| !span.contains(page));
            self.mapped -= (before - set.len()) as u64;
            if set.is_empty() {
                space.tables.remove(&table);
                self.tables -= 1;
            }
        }
    }
}

fn pages(range: VirtRange) -> std::ops::Range<u64> {
    range.start().0 >> PAGE_SHIFT..range.end().0 >> PAGE_SHIFT
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::bundled;

    #[test]
    fn the_bundled_trace_needs_a_plausible_amount() {
        let (trace, _) = bundled().unwrap();
        let peak = peak(&trace);
        assert!(peak.frames > 1000 && peak.frames < trace.totals.events, "{peak:?}");
        assert!(peak.tables > 10 && peak.tables < peak.frames / 4, "{peak:?}");
        assert!(peak.spaces >= 2, "{peak:?}");
        assert_eq!(fitting(&trace, peak.frames), trace.events.len());
        let fewer = fitting(&trace, peak.frames / 2);
        assert!(fewer > 100 && fewer < trace.events.len(), "{fewer}");
    }
}
