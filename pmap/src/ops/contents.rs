//! The contents of pages: zeroing and copying, through the direct map.
//!
//! Programs may store to the same pages meanwhile, through mappings, and a simulated machine does so with atomic
//! words. So everything here is done word by word with relaxed atomics, which cost nothing on amd64, and the
//! bytes of a word that do not belong to the area are kept by compare-exchange.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::addr::{Frame, PAGE_SIZE};
use crate::error::{AreaError, FrameError};
use crate::machine::Machine;
use crate::system::System;

const WORD: u64 = 8;

type Words = [AtomicU64; (PAGE_SIZE / WORD) as usize];

/// The low `bytes` bytes of a word.
const fn low(bytes: u64) -> u64 {
    if bytes >= WORD { u64::MAX } else { (1 << (bytes * 8)) - 1 }
}

/// Calls `f` with each word that `size` bytes from `offset` on touch, the first byte in it that belongs to
/// them, and the number of those bytes.
fn words_of(offset: u64, size: u64, mut f: impl FnMut(usize, u64, u64)) {
    let mut at = offset;
    while at < offset + size {
        let skip = at % WORD;
        let bytes = (WORD - skip).min(offset + size - at);
        f((at / WORD) as usize, skip, bytes);
        at += bytes;
    }
}

/// Stores the low `bytes` bytes of `value` into a word, after its first `skip` bytes.
fn store(word: &AtomicU64, skip: u64, bytes: u64, value: u64) {
    if bytes == WORD {
        // ORD: Relaxed; contents of pages are ordered by whoever hands the pages on.
        word.store(value, Ordering::Relaxed);
        return;
    }
    let mask = low(bytes) << (skip * 8);
    let merged = |old: u64| Some((old & !mask) | ((value << (skip * 8)) & mask));
    // ORD: Relaxed, both; as above.
    let _ = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, merged);
}

/// `bytes` bytes, at most 8, from byte `offset` of a page on, in the low bytes of the result.
fn load(words: &Words, offset: u64, bytes: u64) -> u64 {
    let (index, shift) = ((offset / WORD) as usize, offset % WORD * 8);
    // ORD: Relaxed, both; as in `store`.
    let first = words[index].load(Ordering::Relaxed) >> shift;
    if offset % WORD + bytes <= WORD {
        return first & low(bytes);
    }
    let second = words[index + 1].load(Ordering::Relaxed) << (u64::BITS as u64 - shift); // ORD: as above
    (first | second) & low(bytes)
}

fn copy(from: (&Words, u64), to: (&Words, u64), size: u64) {
    if (from.1 | to.1 | size).is_multiple_of(WORD) {
        // Whole words to whole words, as of a whole page: what is below takes some ten times as many instructions.
        let part = |offset: u64| (offset / WORD) as usize..((offset + size) / WORD) as usize;
        for (from, to) in from.0[part(from.1)].iter().zip(&to.0[part(to.1)]) {
            // ORD: Relaxed, both; as in `store`.
            to.store(from.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        return;
    }
    let mut done = 0;
    words_of(to.1, size, |index, skip, bytes| {
        store(&to.0[index], skip, bytes, load(from.0, from.1 + done, bytes));
        done += bytes;
    });
}

impl<M: Machine> System<M> {
    fn contents(&self, frame: Frame) -> Result<&Words, FrameError> {
        self.check_frame(frame)?.ok_or(FrameError::NotMemory)?;
        self.machine().point();
        // SAFETY: the frame belongs to the machine's memory, so the direct map gives 4096 bytes, aligned to a
        // page, which are there as long as the machine; everybody who touches frames that may be mapped
        // does so by atomics or through translations.
        Ok(unsafe { self.machine().direct_map(frame).cast::<Words>().as_ref() })
    }

    /// Fills the page at `frame` with zeroes.
    ///
    /// # Errors
    ///
    /// [`FrameError`] if the frame is none of the machine's memory, or is the pmap's own.
    pub fn zero_page(&self, frame: Frame) -> Result<(), FrameError> {
        // ORD: Relaxed; as in `store`.
        self.contents(frame)?.iter().for_each(|word| word.store(0, Ordering::Relaxed));
        Ok(())
    }

    /// Fills `size` bytes of the page at `frame`, from byte `offset` on, with zeroes, and leaves the others alone.
    ///
    /// # Errors
    ///
    /// [`AreaError`] if the area reaches beyond the page, or for a frame as [`zero_page`](Self::zero_page);
    /// nothing has changed.
    pub fn zero_page_area(&self, frame: Frame, offset: u64, size: u64) -> Result<(), AreaError> {
        if offset.checked_add(size).is_none_or(|end| end > PAGE_SIZE) {
            return Err(AreaError::Beyond);
        }
        let words = self.contents(frame)?;
        words_of(offset, size, |index, skip, bytes| store(&words[index], skip, bytes, 0));
        Ok(())
    }

    /// Copies the page at `from` to the page at `to`.
    ///
    /// # Errors
    ///
    /// [`FrameError`] as [`zero_page`](Self::zero_page); nothing has been copied.
    pub fn copy_page(&self, from: Frame, to: Frame) -> Result<(), FrameError> {
        copy((self.contents(from)?, 0), (self.contents(to)?, 0), PAGE_SIZE);
        Ok(())
    }

    /// Copies `size` bytes from the pages `from`, taken as one run of bytes and beginning at its byte `from_offset`,
    /// to the pages `to` from byte `to_offset` on. The offsets may have any value inside the runs. If a page is in
    /// both, what the overlap holds afterwards is not specified.
    ///
    /// # Errors
    ///
    /// [`AreaError`] if an area reaches beyond its pages, or for a frame as [`zero_page`](Self::zero_page);
    /// nothing has been copied.
    pub fn copy_pages(
        &self,
        from: &[Frame],
        from_offset: u64,
        to: &[Frame],
        to_offset: u64,
        size: u64,
    ) -> Result<(), AreaError> {
        for (frames, offset) in [(from, from_offset), (to, to_offset)] {
            let end = offset.checked_add(size).ok_or(AreaError::Beyond)?;
            if end.div_ceil(PAGE_SIZE) > frames.len() as u64 {
                return Err(AreaError::Beyond);
            }
            frames.iter().try_for_each(|frame| self.contents(*frame).map(|_| ()))?;
        }
        let mut done = 0;
        while done < size {
            let (source, target) = (from_offset + done, to_offset + done);
            // As far as both pages go.
            let part = (size - done).min(PAGE_SIZE - source % PAGE_SIZE).min(PAGE_SIZE - target % PAGE_SIZE);
            let source_page = self.contents(from[(source / PAGE_SIZE) as usize])?;
            let target_page = self.contents(to[(target / PAGE_SIZE) as usize])?;
            copy((source_page, source % PAGE_SIZE), (target_page, target % PAGE_SIZE), part);
            done += part;
        }
        Ok(())
    }
}
