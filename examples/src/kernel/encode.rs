//! From a planned trace to the stream that the kernel reads. The format is described in `format`, which is the kernel's.

use pmap::{PAGE_SHIFT, Protection, VirtRange};

use super::format::{CPU, HEADER, MAGIC, OBJECT, SHARED, VERSION, kind, sum};
use crate::hash::Map;
use crate::plan::{Action, Plan, Queue};
use crate::trace::{Advice, Event, ObjectKind, Op, Trace};

/// Encodes `trace` as the CPUs of `plan` are to work through it.
pub(super) fn encode(trace: &Trace, plan: &Plan) -> Vec<u8> {
    let encoder = Encoder::new(trace);
    let cpus: Vec<Vec<u8>> = plan.queues.iter().map(|queue| encoder.queue(queue)).collect();
    let mut out = Vec::new();
    out.extend(MAGIC);
    for number in [VERSION, cpus.len() as u32, encoder.spaces.len() as u32, encoder.objects.len() as u32] {
        out.extend(number.to_le_bytes());
    }
    out.extend((trace.events.len() as u64).to_le_bytes());
    for (pages, kind) in &encoder.objects {
        out.extend(pages.to_le_bytes());
        out.extend(kind.to_le_bytes());
        out.extend([0; 4]);
    }
    let mut offset = (HEADER + encoder.objects.len() * OBJECT + cpus.len() * CPU) as u64;
    for (steps, queue) in cpus.iter().zip(&plan.queues) {
        out.extend(offset.to_le_bytes());
        out.extend((steps.len() as u64).to_le_bytes());
        out.extend((queue.len() as u32).to_le_bytes());
        out.extend([0; 4]);
        offset += steps.len() as u64;
    }
    out.extend(cpus.concat());
    out.extend(sum(&out).to_le_bytes());
    out
}

struct Encoder<'a> {
    trace: &'a Trace,
    /// Dense numbers of the spaces that events name, in the order of the recording.
    spaces: Map<u32, u32>,
    /// Dense numbers of the objects that events map.
    object_numbers: Map<u32, u32>,
    /// Their sizes in pages, and their kinds.
    objects: Vec<(u64, u32)>,
}

impl<'a> Encoder<'a> {
    fn new(trace: &'a Trace) -> Self {
        let (spaces, object_numbers) = (Map::default(), Map::default());
        let mut encoder = Self { trace, spaces, object_numbers, objects: Vec::new() };
        let mut growth = 0;
        for event in &trace.events {
            encoder.note_space(event.space);
            match &event.op {
                Op::Fork(new) | Op::Exec(new) => encoder.note_space(*new),
                Op::Map(args) if args.object != 0 => {
                    encoder.note_object(args.object, args.first_page + args.range.pages());
                }
                Op::Remap(old, new) => growth += new.pages().saturating_sub(old.pages()),
                _ => {}
            }
        }
        // A mapping that grows goes beyond what was mapped; whose it is only the replay finds out.
        for (pages, _) in &mut encoder.objects {
            *pages = pages.saturating_add(growth);
        }
        encoder
    }

    fn note_space(&mut self, space: u32) {
        let next = self.spaces.len() as u32 + 1;
        if space != 0 {
            self.spaces.entry(space).or_insert(next);
        }
    }

    fn note_object(&mut self, object: u32, pages: u64) {
        let next = self.objects.len() as u32 + 1;
        let number = *self.object_numbers.entry(object).or_insert(next);
        if number == next {
            let kind = match self.trace.header.objects.get(&object).map(|info| info.kind) {
                None | Some(ObjectKind::File) => 0,
                Some(ObjectKind::Anonymous) => 1,
                Some(ObjectKind::Kernel) => 2,
            };
            self.objects.push((0, kind));
        }
        let size = &mut self.objects[number as usize - 1].0;
        *size = pages.max(*size);
    }

    fn queue(&self, queue: &Queue) -> Vec<u8> {
        let mut out = Vec::new();
        for (action, waits) in queue.steps() {
            let event = match action {
                Action::Activate(_) => None,
                Action::Event(index) => Some((index, &self.trace.events[index as usize])),
            };
            out.push(event.map_or(kind::ACTIVATE, |(_, event)| kind_of(&event.op)));
            varint(&mut out, waits.len() as u64);
            for point in waits {
                varint(&mut out, point.cpu.into());
                varint(&mut out, point.position.into());
            }
            if let Action::Activate(space) = action {
                // One that no event names has no life here.
                varint(&mut out, self.space(space));
            }
            if let Some((index, event)) = event {
                varint(&mut out, index.into());
                self.event(&mut out, event);
            }
        }
        out
    }

    fn event(&self, out: &mut Vec<u8>, event: &Event) {
        varint(out, self.space(event.space));
        match &event.op {
            Op::Map(args) => {
                range(out, args.range);
                varint(out, rights(args.protection) | if args.shared { SHARED } else { 0 });
                varint(out, self.object_numbers.get(&args.object).copied().unwrap_or(0).into());
                varint(out, args.first_page);
            }
            Op::Unmap(place) => range(out, *place),
            Op::Protect(place, protection) => {
                range(out, *place);
                varint(out, rights(*protection));
            }
            Op::Fault(va, code) => {
                varint(out, va.0);
                varint(out, code.0.into());
            }
            Op::Advise(place, advice) => {
                range(out, *place);
                let advice = match advice {
                    Advice::DontNeed => 0,
                    Advice::Free => 1,
                    Advice::Other => 2,
                };
                varint(out, advice);
            }
            Op::Remap(old, new) => {
                range(out, *old);
                range(out, *new);
            }
            Op::Fork(new) | Op::Exec(new) => varint(out, self.space(*new)),
            Op::Exit => {}
        }
    }

    fn space(&self, space: u32) -> u64 {
        self.spaces.get(&space).copied().unwrap_or(0).into()
    }
}

fn kind_of(op: &Op) -> u8 {
    match op {
        Op::Map(_) => kind::MAP,
        Op::Unmap(_) => kind::UNMAP,
        Op::Protect(..) => kind::PROTECT,
        Op::Fault(..) => kind::FAULT,
        Op::Advise(..) => kind::ADVISE,
        Op::Remap(..) => kind::REMAP,
        Op::Fork(_) => kind::FORK,
        Op::Exec(_) => kind::EXEC,
        Op::Exit => kind::EXIT,
    }
}

fn rights(protection: Protection) -> u64 {
    protection.bits().into()
}

fn range(out: &mut Vec<u8>, range: VirtRange) {
    varint(out, range.start().0 >> PAGE_SHIFT);
    varint(out, range.pages());
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::format::{self, Stream, StreamError};
    use crate::plan::{Placement, plan};
    use crate::trace::bundled;

    /// The bundled trace's first events, for three CPUs: planned, and encoded.
    fn example(events: usize) -> (Trace, Plan, Vec<u8>) {
        let (mut trace, _) = bundled().unwrap();
        trace.events.truncate(events);
        let plan = plan(&trace, 3, Placement::ByThread);
        let bytes = encode(&trace, &plan);
        (trace, plan, bytes)
    }

    /// Every step of every CPU.
    fn read(bytes: &[u8]) -> Result<Vec<Vec<format::Step<'_>>>, StreamError> {
        let stream = Stream::open(bytes)?;
        (0..stream.cpus()).map(|cpu| stream.steps(cpu).collect()).collect()
    }

    /// Makes the sum right again.
    fn seal(bytes: &mut [u8]) {
        let end = bytes.len() - format::TRAILER;
        let right = sum(&bytes[..end]).to_le_bytes();
        bytes[end..].copy_from_slice(&right);
    }

    #[test]
    fn what_is_written_is_read() {
        let (trace, plan, bytes) = example(3000);
        let read = read(&bytes).unwrap();
        let encoder = Encoder::new(&trace);
        assert_eq!(read.len(), 3);
        let mut events = 0;
        for (queue, steps) in plan.queues.iter().zip(&read) {
            assert_eq!(queue.len(), steps.len());
            for ((action, waits), step) in queue.steps().zip(steps) {
                let found: Vec<_> = step.waits.map(|w| (w.cpu, w.position)).collect();
                let planned: Vec<_> = waits.iter().map(|p| (u32::from(p.cpu), p.position)).collect();
                assert_eq!(found, planned);
                let (Action::Event(index), format::Action::Event(event)) = (action, step.action) else {
                    panic!("by thread there are only events: {action:?} {:?}", step.action);
                };
                events += 1;
                let recorded = &trace.events[index as usize];
                assert_eq!((event.index, u64::from(event.space)), (index, encoder.space(recorded.space)));
                assert!(same(&encoder, &recorded.op, &event.op), "{recorded:?} {event:?}");
            }
        }
        assert_eq!(events, trace.events.len());
        assert_eq!(Stream::open(&bytes).unwrap().events(), 3000);
    }

    fn same(encoder: &Encoder<'_>, recorded: &Op, read: &format::Op) -> bool {
        match (recorded, *read) {
            (Op::Map(args), format::Op::Map { range, protection, shared, object, first_page }) => {
                let number = encoder.object_numbers.get(&args.object).copied().unwrap_or(0);
                (args.range, args.protection, args.shared, number, args.first_page)
                    == (range, protection, shared, object, first_page)
            }
            (Op::Unmap(a), format::Op::Unmap(b)) => *a == b,
            (Op::Protect(a, p), format::Op::Protect(b, q)) => (*a, *p) == (b, q),
            (Op::Fault(a, code), format::Op::Fault(b, read)) => (*a, code.0) == (b, read),
            (Op::Advise(a, x), format::Op::Advise(b, y)) => *a == b && *x as u8 == y as u8,
            (Op::Remap(a, b), format::Op::Remap(c, d)) => (*a, *b) == (c, d),
            (Op::Fork(a), format::Op::Fork(b)) | (Op::Exec(a), format::Op::Exec(b)) => {
                encoder.space(*a) == u64::from(b)
            }
            (Op::Exit, format::Op::Exit) => true,
            _ => false,
        }
    }

    #[test]
    fn activations_are_kept() {
        let (mut trace, switches) = bundled().unwrap();
        trace.events.truncate(2000);
        let cpus = trace.header.cpus;
        let plan = plan(&trace, cpus, Placement::Recorded(&switches));
        let bytes = encode(&trace, &plan);
        let steps = read(&bytes).unwrap();
        let activations =
            steps.iter().flatten().filter(|s| matches!(s.action, format::Action::Activate(1..)));
        assert!(activations.count() > 5);
    }

    #[test]
    fn remaps_make_room_in_objects() {
        let (mut trace, _, _) = example(3000);
        let map = trace.events.iter().find_map(|event| match &event.op {
            Op::Map(args) if args.object != 0 => Some((event.clone(), *args)),
            _ => None,
        });
        let (event, args) = map.expect("programs map files");
        let larger =
            VirtRange::new(args.range.start(), pmap::VirtAddr(args.range.end().0 + (7 << 12))).unwrap();
        trace.events = vec![event.clone(), Event { op: Op::Remap(args.range, larger), ..event }];
        let bytes = encode(&trace, &plan(&trace, 1, Placement::ByThread));
        let stream = Stream::open(&bytes).unwrap();
        let pages = args.first_page + args.range.pages() + 7;
        assert_eq!((stream.object_count(), stream.object(1).unwrap().pages), (1, pages));
    }

    #[test]
    fn damage_is_noticed() {
        let (_, _, bytes) = example(500);
        assert!((0..bytes.len()).step_by(7).all(|n| read(&bytes[..n]).is_err()), "cut anywhere");
        for at in (0..bytes.len()).step_by(11) {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(read(&bad).is_err(), "byte {at}");
        }
        let mut other = bytes.clone();
        other[8] = 2;
        assert_eq!(read(&other).unwrap_err(), StreamError::Version(2));
        assert_eq!(read(b"something else").unwrap_err(), StreamError::NoStream);
        let mut bad = bytes;
        *bad.last_mut().unwrap() ^= 1;
        assert_eq!(read(&bad).unwrap_err(), StreamError::Damaged);
    }

    /// What the sum does not notice the reader either reads or refuses; it neither panics nor leaves the user half.
    #[test]
    fn nonsense_with_a_right_sum_is_refused_or_harmless() {
        let (_, _, bytes) = example(500);
        let mut refused = 0;
        for at in format::MAGIC.len()..bytes.len() - format::TRAILER {
            for value in [0, 0x7f, 0xff] {
                let mut bad = bytes.clone();
                bad[at] = value;
                seal(&mut bad);
                let Ok(steps) = read(&bad) else {
                    refused += 1;
                    continue;
                };
                for step in steps.iter().flatten() {
                    if let format::Action::Event(format::Event { op: format::Op::Fault(va, _), .. }) =
                        step.action
                    {
                        assert!(va.is_user());
                    }
                }
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
