//! Frames, the direct map and memory domains.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, Ordering};

use super::rule::Rule;
use crate::addr::{Frame, PAGE_SIZE};
use crate::cpuset::CpuId;
use crate::machine::{FrameUse, MAX_DOMAINS, Machine};
use crate::translation::Pcid;

/// Frames held at once.
const HELD: usize = 16;
/// Most frames that are allocated in all, however much memory there is.
const MOST: u64 = 1 << 18;

/// Checks what needs one CPU only.
pub(super) fn check<M: Machine>(machine: &M) -> Result<(), Rule> {
    constants(machine)?;
    direct_map(machine)?;
    frames(machine)
}

fn constants<M: Machine>(machine: &M) -> Result<(), Rule> {
    let all = || (machine.memory(), machine.cpu_count(), machine.kernel_window(), machine.tlb_features());
    if all() != all() || machine.domain_count() != machine.domain_count() {
        return Err(Rule::Changing);
    }
    let domains = machine.domain_count();
    let frames = machine.memory().iter().flat_map(|r| [r.start, Frame(r.start.0 + r.count - 1)]);
    let of_frames = frames.into_iter().all(|frame| machine.domain_of_frame(frame) < domains);
    let mut cpus = (0..machine.cpu_count()).filter_map(CpuId::new);
    if !(1..=MAX_DOMAINS).contains(&domains)
        || !of_frames
        || cpus.any(|cpu| machine.domain_of_cpu(cpu) >= domains)
    {
        return Err(Rule::Domains);
    }
    let pcids = machine.tlb_features().pcids;
    if pcids == 1 || pcids > Pcid::COUNT { Err(Rule::TlbFeatures) } else { Ok(()) }
}

/// The words of a frame.
fn words<M: Machine>(machine: &M, frame: Frame) -> &[AtomicU64; 512] {
    // SAFETY: the direct map is valid for the frame's 4096 bytes and page aligned, which `at` has checked; the frame was
    // allocated, so nobody else accesses it.
    unsafe { machine.direct_map(frame).cast().as_ref() }
}

/// Where the frame is in the direct map.
fn at<M: Machine>(machine: &M, frame: Frame) -> Result<NonNull<u8>, Rule> {
    let address = machine.direct_map(frame);
    if machine.direct_map(frame) != address || !(address.addr().get() as u64).is_multiple_of(PAGE_SIZE) {
        return Err(Rule::DirectMapMoves);
    }
    if machine.frame_at(address) == frame { Ok(address) } else { Err(Rule::FrameAt) }
}

/// The direct map of memory that is somebody's: nothing of it is touched.
fn direct_map<M: Machine>(machine: &M) -> Result<(), Rule> {
    for range in machine.memory() {
        let step = (range.count / 64).max(1);
        let mut last: Option<(u64, u64)> = None;
        for index in (0..range.count).step_by(step as usize).chain([range.count - 1]) {
            let address = at(machine, Frame(range.start.0 + index))?.addr().get() as u64;
            if last.is_some_and(|(before, there)| before != index && address.abs_diff(there) < PAGE_SIZE) {
                return Err(Rule::DirectMapOverlaps);
            }
            last = Some((index, address));
        }
    }
    Ok(())
}

/// Allocates frames and gives them back, until all memory might have been through our hands.
fn frames<M: Machine>(machine: &M) -> Result<(), Rule> {
    let memory: u64 = machine.memory().iter().map(|range| range.count).sum();
    let turns = memory.min(MOST) / HELD as u64 + 2;
    for turn in 0..turns {
        let mut held = [None; HELD];
        let result = hold(machine, &mut held, turn);
        for frame in held.into_iter().flatten() {
            // SAFETY: allocated by `hold` for this purpose, known to nobody, given back once.
            unsafe { machine.free_frame(frame, FrameUse::PageTable) };
        }
        result?;
    }
    Ok(())
}

fn hold<M: Machine>(machine: &M, held: &mut [Option<Frame>; HELD], turn: u64) -> Result<(), Rule> {
    for index in 0..HELD {
        let Some(frame) = machine.allocate_frame(FrameUse::PageTable) else {
            // In the first turn the machine may just be small.
            let is_small = turn == 0 && index > 0;
            return if is_small { stamps(machine, held) } else { Err(Rule::FrameNotReturned) };
        };
        if frame.0 == 0 || !machine.memory().iter().any(|r| frame.0.wrapping_sub(r.start.0) < r.count) {
            return Err(Rule::FrameOutsideMemory);
        }
        if held.contains(&Some(frame)) {
            return Err(Rule::FrameTwice);
        }
        held[index] = Some(frame);
        at(machine, frame)?;
        // ORD: Relaxed, here and below; the frame is ours.
        let used =
            words(machine, frame).iter().map(|word| word.load(Ordering::Relaxed)).find(|word| *word != 0);
        if let Some(found) = used {
            let others = held[..index].iter().flatten().any(|other| stamp(*other) == found);
            return Err(if others { Rule::DirectMapOverlaps } else { Rule::FrameNotZeroed });
        }
        words(machine, frame).iter().for_each(|word| word.store(stamp(frame), Ordering::Relaxed)); // ORD: as above
    }
    stamps(machine, held)
}

fn stamp(frame: Frame) -> u64 {
    !frame.0
}

/// Every frame still holds what was written into it.
fn stamps<M: Machine>(machine: &M, held: &[Option<Frame>; HELD]) -> Result<(), Rule> {
    for frame in held.iter().copied().flatten() {
        // ORD: Relaxed; the frame is ours.
        if words(machine, frame).iter().any(|word| word.load(Ordering::Relaxed) != stamp(frame)) {
            return Err(Rule::DirectMapOverlaps);
        }
    }
    Ok(())
}
