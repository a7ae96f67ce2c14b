//! What must come before the next event of one address space.

use std::collections::BTreeMap;

use pmap::{PAGE_SHIFT, VirtRange};

/// A step, by its CPU and its place in that CPU's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Point {
    /// CPU.
    pub cpu: u16,
    /// Place in the queue, from 0.
    pub position: u32,
}

/// The last events of one address space, by page.
///
/// One event per page is enough: it waited for the one before it on that page, and so on back.
#[derive(Clone, Debug, Default)]
pub(super) struct SpaceOrder {
    /// First page → (page after the last, last event there). Disjoint.
    last: BTreeMap<u64, (u64, Point)>,
    /// The last event of each CPU since `floor`.
    by_cpu: Vec<Point>,
    /// The last barrier.
    floor: Option<Point>,
}

impl SpaceOrder {
    /// The event after which the space exists.
    pub(super) fn made_at(&self) -> Option<Point> {
        self.floor
    }

    /// Records `me`, an event on `range`, and adds to `after` what it must follow.
    pub(super) fn overlap(&mut self, range: VirtRange, me: Point, after: &mut Vec<Point>) {
        after.extend(self.floor);
        let (start, end) = (range.start().0 >> PAGE_SHIFT, range.end().0 >> PAGE_SHIFT);
        self.cut(start);
        self.cut(end);
        let inside: Vec<u64> = self.last.range(start..end).map(|(at, _)| *at).collect();
        for at in inside {
            after.extend(self.last.remove(&at).map(|(_, point)| point));
        }
        self.last.insert(start, (end, me));
        self.note(me);
    }

    /// Records `me`, which concerns the whole space, and adds to `after` what it must follow.
    pub(super) fn barrier(&mut self, me: Point, after: &mut Vec<Point>) {
        after.extend(self.floor);
        after.append(&mut self.by_cpu);
        self.last.clear();
        self.floor = Some(me);
    }

    fn cut(&mut self, at: u64) {
        let Some((&start, &(end, point))) = self.last.range(..at).next_back() else { return };
        if end > at {
            self.last.insert(start, (at, point));
            self.last.insert(at, (end, point));
        }
    }

    fn note(&mut self, me: Point) {
        match self.by_cpu.iter_mut().find(|p| p.cpu == me.cpu) {
            Some(point) => *point = me,
            None => self.by_cpu.push(me),
        }
    }
}
