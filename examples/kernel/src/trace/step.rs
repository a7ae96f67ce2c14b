//! One step, decoded.

use pmap::{PAGE_SHIFT, Protection, VirtAddr, VirtRange};

use super::cursor::Cursor;
use super::{SHARED, Stream, StreamError, kind};

/// What a CPU does next, once all of `waits` have been done.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    /// Steps of other CPUs that come before.
    pub(crate) waits: Waits<'a>,
    /// What to do.
    pub(crate) action: Action,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Run the space with this number from now on; 0 is none.
    Activate(u32),
    /// Do what was recorded.
    Event(Event),
}

/// A recorded event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// Its place in the recording, from 0.
    pub(crate) index: u32,
    /// The space that it is done to; 0 is outside the recording.
    pub(crate) space: u32,
    /// What is done.
    pub(crate) op: Op,
}

/// What an event does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    /// A new mapping, in a range that is empty at this point.
    Map {
        /// Where.
        range: VirtRange,
        /// Rights.
        protection: Protection,
        /// Whether stores are seen by others.
        shared: bool,
        /// Object mapped; 0 is private anonymous memory.
        object: u32,
        /// Page of the object at the start of the range.
        first_page: u64,
    },
    /// Removal of whatever is mapped in the range; holes are allowed.
    Unmap(VirtRange),
    /// New rights for a range.
    Protect(VirtRange, Protection),
    /// A page fault at an exact address, with the hardware's error code (Intel SDM vol. 3, 4.7).
    Fault(VirtAddr, u8),
    /// Advice for a range.
    Advise(VirtRange, Advice),
    /// The mapping at the first range, which may be empty, moves to, or is resized to, the second.
    Remap(VirtRange, VirtRange),
    /// The space is copied into a new one with this number.
    Fork(u32),
    /// The thread leaves the space and enters a new, empty one with this number.
    Exec(u32),
    /// The space is torn down.
    Exit,
}

/// What the kernel was told about a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Throw the pages away now.
    DontNeed,
    /// The pages may be thrown away instead of being written to swap.
    Free,
    /// Anything else.
    Other,
}

/// A step of another CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wait {
    /// The CPU.
    pub(crate) cpu: u32,
    /// The step's place in that CPU's list, from 0: it is done when the CPU has done more than this many.
    pub(crate) position: u32,
}

/// The waits of a step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waits<'a> {
    cursor: Cursor<'a>,
    left: u32,
}

impl Iterator for Waits<'_> {
    type Item = Wait;

    fn next(&mut self) -> Option<Wait> {
        self.left = self.left.checked_sub(1)?;
        // They were found in order when the step was decoded.
        let cpu = self.cursor.up_to(u32::MAX, "a CPU").ok()?;
        let position = self.cursor.up_to(u32::MAX, "a step").ok()?;
        Some(Wait { cpu, position })
    }
}

impl<'a> Step<'a> {
    /// Decodes the step at `cursor`, one of `cpu`'s.
    pub(super) fn decode(
        stream: &Stream<'a>,
        cpu: u32,
        cursor: &mut Cursor<'a>,
    ) -> Result<Self, StreamError> {
        let kind = cursor.byte()?;
        let left = cursor.up_to(stream.cpus(), "a step waits for more CPUs than there are")?;
        let waits = Waits { cursor: *cursor, left };
        for _ in 0..left {
            let other = cursor.up_to(stream.cpus() - 1, "a step waits for a CPU that is not there")?;
            if other == cpu {
                return Err(cursor.wrong("a step waits for its own CPU"));
            }
            let steps = stream.step_count(other);
            let last = steps.checked_sub(1).ok_or(cursor.wrong("a step waits for an idle CPU"))?;
            cursor.up_to(last, "a step waits for a step that is not there")?;
        }
        let action = if kind == kind::ACTIVATE {
            Action::Activate(space(stream, cursor)?)
        } else {
            let index = cursor.up_to(u32::MAX, "the place in the recording is too large")?;
            let space = space(stream, cursor)?;
            Action::Event(Event { index, space, op: op(stream, kind, cursor)? })
        };
        Ok(Self { waits, action })
    }
}

fn op(stream: &Stream<'_>, kind: u8, cursor: &mut Cursor<'_>) -> Result<Op, StreamError> {
    Ok(match kind {
        kind::MAP => {
            let range = range(cursor, false)?;
            let rights = cursor.varint()?;
            let object = cursor.up_to(stream.object_count(), "there is no such object")?;
            let first_page = cursor.varint()?;
            let pages = stream.object(object).map_or(u64::MAX, |object| object.pages);
            if first_page.checked_add(range.pages()).is_none_or(|end| end > pages) {
                return Err(cursor.wrong("a mapping goes beyond the end of its object"));
            }
            let protection = protection(rights & !SHARED, cursor)?;
            Op::Map { range, protection, shared: rights & SHARED != 0, object, first_page }
        }
        kind::UNMAP => Op::Unmap(range(cursor, false)?),
        kind::PROTECT => {
            let range = range(cursor, false)?;
            let rights = cursor.varint()?;
            Op::Protect(range, protection(rights, cursor)?)
        }
        kind::FAULT => {
            let va = VirtAddr(cursor.varint()?);
            if !va.is_user() {
                return Err(cursor.wrong("a fault is not in the user half"));
            }
            let code = cursor.up_to(u8::MAX.into(), "the error code of a fault is too large")?;
            Op::Fault(va, code as u8)
        }
        kind::ADVISE => {
            let range = range(cursor, false)?;
            let advice = match cursor.varint()? {
                0 => Advice::DontNeed,
                1 => Advice::Free,
                2 => Advice::Other,
                _ => return Err(cursor.wrong("an advice is not known")),
            };
            Op::Advise(range, advice)
        }
        kind::REMAP => Op::Remap(range(cursor, true)?, range(cursor, false)?),
        kind::FORK => Op::Fork(new_space(stream, cursor)?),
        kind::EXEC => Op::Exec(new_space(stream, cursor)?),
        kind::EXIT => Op::Exit,
        _ => return Err(cursor.wrong("a kind of step is not known")),
    })
}

fn space(stream: &Stream<'_>, cursor: &mut Cursor<'_>) -> Result<u32, StreamError> {
    cursor.up_to(stream.space_count(), "there is no such space")
}

fn new_space(stream: &Stream<'_>, cursor: &mut Cursor<'_>) -> Result<u32, StreamError> {
    match space(stream, cursor)? {
        0 => Err(cursor.wrong("0 cannot be a new space")),
        space => Ok(space),
    }
}

fn protection(rights: u64, cursor: &Cursor<'_>) -> Result<Protection, StreamError> {
    let bits = u8::try_from(rights).ok();
    bits.and_then(Protection::from_bits).ok_or(cursor.wrong("there are no such rights"))
}

fn range(cursor: &mut Cursor<'_>, may_be_empty: bool) -> Result<VirtRange, StreamError> {
    let (first, pages) = (cursor.varint()?, cursor.varint()?);
    if pages == 0 && !may_be_empty {
        return Err(cursor.wrong("a range is empty"));
    }
    let bytes = |pages: u64| pages.checked_mul(1 << PAGE_SHIFT).map(VirtAddr);
    let end = first.checked_add(pages).and_then(bytes);
    bytes(first)
        .zip(end)
        .and_then(|(start, end)| VirtRange::new(start, end))
        .filter(|range| range.is_user())
        .ok_or(cursor.wrong("a range leaves the user half"))
}
