//! The stream as a whole: its tables, and the steps of each CPU.

use super::cursor::Cursor;
use super::{CPU, HEADER, MAGIC, OBJECT, Step, StreamError, TRAILER, VERSION, sum};

/// A stream in memory, whose tables have been checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stream<'a> {
    bytes: &'a [u8],
    cpus: u32,
    spaces: u32,
    objects: u32,
    events: u64,
}

/// Something that can be mapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// Its size.
    pub(crate) pages: u64,
    /// What its pages hold.
    pub(crate) kind: ObjectKind,
}

/// What the pages of an object hold, and where they go when memory is short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ObjectKind {
    /// A file: pages have contents from the start and are written back to it.
    File,
    /// Shared anonymous memory: zero from the start, kept in swap.
    Anonymous,
    /// Pages that the kernel supplies: never reclaimed.
    Kernel,
}

impl<'a> Stream<'a> {
    /// Checks the header, the tables and the sum. Steps are checked as they are decoded.
    ///
    /// # Errors
    /// What is wrong.
    pub(crate) fn open(bytes: &'a [u8]) -> Result<Self, StreamError> {
        if !bytes.starts_with(&MAGIC) {
            return Err(StreamError::NoStream);
        }
        let mut header = Cursor::new(bytes, MAGIC.len(), HEADER);
        let version = header.u32()?;
        if version != VERSION {
            return Err(StreamError::Version(version));
        }
        let (cpus, spaces, objects) = (header.u32()?, header.u32()?, header.u32()?);
        let stream = Self { bytes, cpus, spaces, objects, events: header.u64()? };
        let (steps, trailer) = (stream.steps_start(), bytes.len() as u64 - TRAILER as u64);
        if steps > trailer {
            return Err(StreamError::Short);
        }
        let trailer = trailer as usize;
        if Cursor::new(bytes, trailer, bytes.len()).u64()? != sum(&bytes[..trailer]) {
            return Err(StreamError::Damaged);
        }
        if cpus == 0 {
            return Err(header.wrong("there are no CPUs"));
        }
        for object in 1..=objects {
            if stream.object(object).is_none() {
                return Err(stream.object_entry(object).wrong("a kind of object is not known"));
            }
        }
        for cpu in 0..cpus {
            let entry = stream.cpu_entry(cpu);
            let Some((offset, length, _)) = stream.cpu(cpu) else { return Err(StreamError::Short) };
            let inside =
                offset >= steps && offset.checked_add(length).is_some_and(|end| end <= trailer as u64);
            if !inside {
                return Err(entry.wrong("the steps of a CPU are not inside"));
            }
        }
        Ok(stream)
    }

    /// CPUs that the steps are for.
    pub(crate) fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Largest number of a space.
    pub(crate) fn space_count(&self) -> u32 {
        self.spaces
    }

    /// Largest number of an object.
    pub(crate) fn object_count(&self) -> u32 {
        self.objects
    }

    /// Events in all.
    pub(crate) fn events(&self) -> u64 {
        self.events
    }

    /// The object with this number, from 1.
    pub(crate) fn object(&self, number: u32) -> Option<Object> {
        if number == 0 || number > self.objects {
            return None;
        }
        let mut entry = self.object_entry(number);
        let pages = entry.u64().ok()?;
        let kind = match entry.u32().ok()? {
            0 => ObjectKind::File,
            1 => ObjectKind::Anonymous,
            2 => ObjectKind::Kernel,
            _ => return None,
        };
        Some(Object { pages, kind })
    }

    /// Number of steps of a CPU.
    pub(crate) fn step_count(&self, cpu: u32) -> u32 {
        self.cpu(cpu).map_or(0, |(_, _, steps)| steps)
    }

    /// The steps of a CPU, in order. After an error there are no more.
    pub(crate) fn steps(&self, cpu: u32) -> Steps<'a> {
        let (offset, length, left) = self.cpu(cpu).unwrap_or((0, 0, 0));
        // Both are inside the stream, which is in memory.
        let cursor = Cursor::new(self.bytes, offset as usize, (offset + length) as usize);
        Steps { stream: *self, cpu, cursor, left }
    }

    /// Offset, length and number of a CPU's steps.
    fn cpu(&self, cpu: u32) -> Option<(u64, u64, u32)> {
        if cpu >= self.cpus {
            return None;
        }
        let mut entry = self.cpu_entry(cpu);
        Some((entry.u64().ok()?, entry.u64().ok()?, entry.u32().ok()?))
    }

    fn object_entry(&self, number: u32) -> Cursor<'a> {
        let at = HEADER + (number as usize - 1) * OBJECT;
        Cursor::new(self.bytes, at, at + OBJECT)
    }

    fn cpu_entry(&self, cpu: u32) -> Cursor<'a> {
        let at = HEADER + self.objects as usize * OBJECT + cpu as usize * CPU;
        Cursor::new(self.bytes, at, at + CPU)
    }

    /// Where the tables end.
    fn steps_start(&self) -> u64 {
        HEADER as u64 + u64::from(self.objects) * OBJECT as u64 + u64::from(self.cpus) * CPU as u64
    }
}

/// The steps of one CPU.
#[derive(Clone, Debug)]
pub(crate) struct Steps<'a> {
    stream: Stream<'a>,
    cpu: u32,
    cursor: Cursor<'a>,
    left: u32,
}

impl<'a> Iterator for Steps<'a> {
    type Item = Result<Step<'a>, StreamError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.cursor.is_at_end() {
                return None;
            }
            let error = self.cursor.wrong("something follows the last step of a CPU");
            self.cursor = Cursor::new(&[], 0, 0);
            return Some(Err(error));
        }
        let step = Step::decode(&self.stream, self.cpu, &mut self.cursor);
        self.left = if step.is_ok() { self.left - 1 } else { 0 };
        if step.is_err() {
            self.cursor = Cursor::new(&[], 0, 0);
        }
        Some(step)
    }
}
