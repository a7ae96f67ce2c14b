//! The frames of RAM that nothing of the kernel's own lies in: a bit for each that is free.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use once_cell::race::OnceBox;
use pmap::{Frame, FrameRange, PAGE_SIZE};

use crate::arch::interrupt_lock::InterruptLock;

struct Frames {
    ranges: Vec<FrameRange>,
    free: InterruptLock<Free>,
}

static FRAMES: OnceBox<Frames> = OnceBox::new();

/// Which frames are free, by number.
struct Free {
    /// A bit is set for each that is free.
    bits: Vec<u64>,
    count: u64,
    /// No word before this one has a bit set.
    first: usize,
}

impl Free {
    fn take(&mut self) -> Option<Frame> {
        let skipped = self.bits[self.first..].iter().position(|word| *word != 0)?;
        self.first += skipped;
        let word = &mut self.bits[self.first];
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        self.count -= 1;
        Some(Frame(self.first as u64 * 64 + u64::from(bit)))
    }

    /// Puts a frame back. Says whether it was taken.
    fn put(&mut self, frame: Frame) -> bool {
        let (index, bit) = ((frame.0 / 64) as usize, 1 << (frame.0 % 64));
        let was_taken = self.bits[index] & bit == 0;
        self.bits[index] |= bit;
        self.count += u64::from(was_taken);
        self.first = self.first.min(index);
        was_taken
    }
}

/// Takes all of `ram` that is not in one of `reserved` (in bytes).
pub(super) fn init(ram: impl Iterator<Item = Range<u64>>, reserved: &[Range<u64>]) {
    let mut ranges = Vec::new();
    for region in ram {
        cut(region, reserved, &mut ranges);
    }
    ranges.sort_unstable_by_key(|range| range.start);
    let end = ranges.last().map_or(0, |range: &FrameRange| range.start.0 + range.count);
    let mut free = Free { bits: vec![0; end.div_ceil(64) as usize], count: 0, first: 0 };
    for range in &ranges {
        (range.start.0..range.start.0 + range.count).for_each(|number| {
            free.put(Frame(number));
        });
    }
    let frames = Frames { ranges, free: InterruptLock::new(free) };
    FRAMES.set(Box::new(frames)).unwrap_or_else(|_| panic!("frames are set up twice"));
}

/// Adds what is left of `region` without all of `reserved`, in whole pages.
fn cut(region: Range<u64>, reserved: &[Range<u64>], ranges: &mut Vec<FrameRange>) {
    if region.is_empty() {
        return;
    }
    if let Some(taken) = reserved.iter().find(|taken| taken.start < region.end && region.start < taken.end) {
        let before = region.start..taken.start.max(region.start) & !(PAGE_SIZE - 1);
        let after = taken.end.next_multiple_of(PAGE_SIZE).min(region.end)..region.end;
        cut(before, reserved, ranges);
        cut(after, reserved, ranges);
    } else {
        let count = (region.end - region.start) / PAGE_SIZE;
        ranges.push(FrameRange { start: Frame(region.start / PAGE_SIZE), count });
    }
}

fn frames() -> &'static Frames {
    FRAMES.get().expect("frames are set up before anybody asks for one")
}

/// The memory that frames come from, ascending.
pub(crate) fn ranges() -> &'static [FrameRange] {
    &frames().ranges
}

/// A frame for the caller alone, with anything in it; the lowest that is free.
pub(crate) fn allocate() -> Option<Frame> {
    frames().free.with(Free::take)
}

/// Takes a frame back.
///
/// # Panics
///
/// If it is free already.
pub(crate) fn free(frame: Frame) {
    let was_taken = frames().free.with(|free| free.put(frame));
    assert!(was_taken, "frame {frame:?} is given back twice");
}

/// How many frames are free.
pub(crate) fn free_count() -> u64 {
    frames().free.with(|free| free.count)
}
