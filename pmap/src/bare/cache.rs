//! Instructions for cache lines: writing memory back before something looks at it that does not snoop.

use core::arch::asm;
use core::fmt;
use core::ptr::NonNull;

use super::features::{CpuFeatures, Features, Vendor};

/// A way to write cache lines back and drop them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CacheMethod {
    /// CLFLUSHOPT, between fences.
    Clflushopt,
    /// CLFLUSH; between fences but on Intel's processors, which order it by themselves.
    Clflush,
    /// WBINVD, in ring 0: everything, in the caches of the current CPU only.
    Wbinvd,
}

impl CacheMethod {
    /// All of them, the best first.
    pub const ALL: [Self; 3] = [Self::Clflushopt, Self::Clflush, Self::Wbinvd];

    /// The name used on command lines.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Clflushopt => "clflushopt",
            Self::Clflush => "clflush",
            Self::Wbinvd => "wbinvd",
        }
    }

    /// Whether a processor with these features can do it.
    #[must_use]
    pub const fn is_possible(self, features: &CpuFeatures) -> bool {
        match self {
            Self::Clflushopt => features.cache_line != 0 && features.has(Features::CLFLUSHOPT),
            Self::Clflush => features.cache_line != 0 && features.has(Features::CLFLUSH),
            Self::Wbinvd => true,
        }
    }

    /// The best that a processor with these features can do.
    #[must_use]
    pub fn best(features: &CpuFeatures) -> Self {
        Self::ALL.into_iter().find(|method| method.is_possible(features)).unwrap_or(Self::Wbinvd)
    }

    /// Whether it reaches the caches of the current CPU only, and must be done on all others, too.
    #[must_use]
    pub const fn is_local(self) -> bool {
        matches!(self, Self::Wbinvd)
    }
}

impl fmt::Display for CacheMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A loop over the lines of some memory.
pub(super) struct Loop {
    /// # Safety
    ///
    /// The processor has the instruction; the lines from the first up to the end are mapped and readable; in ring 0 for WBINVD.
    run: unsafe fn(first: usize, end: usize, line: usize),
    /// Full fences before and after are part of it.
    #[cfg_attr(not(test), expect(dead_code, reason = "said for the test of H-33"))]
    pub(super) fenced: bool,
}

/// The loops that fit a processor.
#[derive(Clone, Copy)]
pub(super) struct Lines {
    line: usize,
    pub(super) flush: &'static Loop,
    pub(super) write_back: &'static Loop,
}

impl Lines {
    pub(super) fn of(method: CacheMethod, features: &CpuFeatures) -> Self {
        let flush = match method {
            CacheMethod::Clflushopt => &CLFLUSHOPT,
            CacheMethod::Clflush if features.vendor == Vendor::Intel => &CLFLUSH,
            CacheMethod::Clflush => &CLFLUSH_FENCED,
            CacheMethod::Wbinvd => &WBINVD,
        };
        let clwb_too = method == CacheMethod::Clflushopt && features.has(Features::CLWB);
        // Without CLFLUSH no line is looked at; any size does.
        let line = usize::from(features.cache_line.max(1));
        Self { line, flush, write_back: if clwb_too { &CLWB } else { flush } }
    }

    /// # Safety
    ///
    /// The processor has the instruction; the memory is mapped and readable; in ring 0 for WBINVD.
    #[inline]
    pub(super) unsafe fn flush(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.each(self.flush, start, bytes) };
    }

    /// # Safety
    ///
    /// As [`flush`](Self::flush).
    #[inline]
    pub(super) unsafe fn write_back(&self, start: NonNull<u8>, bytes: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.each(self.write_back, start, bytes) };
    }

    unsafe fn each(&self, body: &Loop, start: NonNull<u8>, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let start = start.as_ptr().expose_provenance();
        let first = start & !(self.line - 1);
        // SAFETY: the caller's promise; a line with a byte of the memory in it is in the same page.
        unsafe { (body.run)(first, start.saturating_add(bytes), self.line) };
    }
}

fn fence() {
    // SAFETY: orders memory accesses and flushes, changes nothing.
    unsafe { asm!("mfence", options(nostack, preserves_flags)) };
}

macro_rules! loops {
    ($($name:ident: $instruction:literal, fenced: $fenced:literal;)*) => {$(
        static $name: Loop = {
            unsafe fn run(first: usize, end: usize, line: usize) {
                if $fenced {
                    fence();
                }
                let mut at = first;
                while at < end {
                    // SAFETY: the caller's promise, see `Loop`; the contents of memory do not change.
                    unsafe { asm!(concat!($instruction, " [{}]"), in(reg) at, options(nostack, preserves_flags)) };
                    match at.checked_add(line) {
                        Some(next) => at = next,
                        None => break,
                    }
                }
                if $fenced {
                    fence();
                }
            }
            Loop { run, fenced: $fenced }
        };
    )*};
}

// Intel orders CLFLUSH with itself and with stores; CLFLUSHOPT and CLWB are ordered by fences only, everywhere (H-33).
loops! {
    CLFLUSH: "clflush", fenced: false;
    CLFLUSH_FENCED: "clflush", fenced: true;
    CLFLUSHOPT: "clflushopt", fenced: true;
    CLWB: "clwb", fenced: true;
}

/// Serializing, so it needs no fence.
static WBINVD: Loop = {
    unsafe fn run(_first: usize, _end: usize, _line: usize) {
        // SAFETY: the caller's promise, see `Loop`; the contents of memory as CPUs see it do not change.
        unsafe { asm!("wbinvd", options(nostack, preserves_flags)) };
    }
    Loop { run, fenced: true }
};
