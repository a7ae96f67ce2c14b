//! `pmaplab flush-cost`: what it costs this processor to invalidate page by page, or everything.
//!
//! A program cannot execute INVLPG, but it can have the kernel do it. Linux invalidates page by page when it takes rights from up to
//! so many pages (33, `tlb_single_page_flush_ceiling`), and everything when they are more. So the cost of `mprotect` by the number of pages has two
//! slopes, whose difference is one INVLPG, with a step between them, which is the full invalidation without what the pages would
//! have cost; and after the step the pages of a working set must be walked for again, which is timed by itself.
//!
//! From these follows at how many pages a full invalidation is the cheaper one; the pmap's threshold rests on such a measurement.

use serde_json::{Value, json};

use crate::error::Error;

/// Most pages that rights are taken from.
const MOST: usize = 66;
/// Pages that are used again afterwards.
const WORKING_SET: usize = 512;
const ROUNDS: usize = 400;

/// What was measured, in nanoseconds.
#[derive(Clone, Copy, Debug)]
pub struct Costs {
    /// Pages up to which the kernel invalidates one by one.
    pub ceiling: usize,
    /// One INVLPG.
    pub page: f64,
    /// A full invalidation.
    pub full: f64,
    /// Then, for each page that is used again: a walk, with others under way at the same time.
    pub refill: f64,
}

impl Costs {
    /// Pages from which on a full invalidation is cheaper, if `used` pages are used again afterwards.
    #[must_use]
    pub fn break_even(&self, used: usize) -> f64 {
        (self.full + self.refill * used as f64) / self.page
    }

    /// Pages of the working set with which the pmap's threshold is right.
    #[must_use]
    pub fn fitting_working_set(&self) -> f64 {
        (pmap::shootdown::PAGES_BEFORE_FULL as f64 * self.page - self.full) / self.refill
    }

    /// From the times of taking rights from 1, 2, … pages, and those of touching the working set after it.
    fn from_times(protect: &[f64], touch: &[f64]) -> Option<Self> {
        let ceiling = (1..touch.len()).find(|n| touch[*n] > 2.0 * touch[n - 1])?;
        let slope = |times: &[f64]| match times {
            [first, .., last] => Some((last - first) / (times.len() - 1) as f64),
            _ => None,
        };
        let (one_by_one, bare) = (slope(&protect[..ceiling])?, slope(&protect[ceiling..])?);
        let page = one_by_one - bare;
        let without = protect[ceiling - 1] - page * ceiling as f64 + bare;
        let mean = |times: &[f64]| times.iter().sum::<f64>() / times.len() as f64;
        let refill = (mean(&touch[ceiling..]) - mean(&touch[..ceiling])) / WORKING_SET as f64;
        let costs = Self { ceiling, page, full: protect[ceiling] - without, refill };
        (page > 0.0 && refill > 0.0).then_some(costs)
    }

    /// As a JSON object.
    #[must_use]
    pub fn json(&self) -> Value {
        json!({
            "ok": true,
            "kernel_ceiling": self.ceiling,
            "page_ns": self.page,
            "full_ns": self.full,
            "refill_ns": self.refill,
            "threshold": pmap::shootdown::PAGES_BEFORE_FULL,
            "fitting_working_set": self.fitting_working_set(),
        })
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "one page: {:.0} ns; everything: {:.0} ns, and {:.1} ns for each page that is used again\n",
            self.page, self.full, self.refill
        );
        for used in [64, 256, 512, 1024] {
            out += &format!(
                "  if {used:>4} pages are used again, a full invalidation is cheaper from {:.0} pages on\n",
                self.break_even(used)
            );
        }
        out += &format!(
            "the pmap's threshold of {} pages fits a working set of {:.0} pages\n",
            pmap::shootdown::PAGES_BEFORE_FULL,
            self.fitting_working_set()
        );
        out
    }
}

/// Measures. Takes about half a second.
///
/// # Errors
/// If the system is not Linux, refuses memory, or shows no step: on a machine with other work to do, or with another ceiling.
pub fn measure() -> Result<Costs, Error> {
    let (protect, touch) = times()?;
    Costs::from_times(&protect, &touch).ok_or_else(|| {
        Error::Setup(
            "the times show no step: the machine is too busy, or the kernel invalidates in another way"
                .into(),
        )
    })
}

#[cfg(not(target_os = "linux"))]
fn times() -> Result<(Vec<f64>, Vec<f64>), Error> {
    Err(Error::Setup("this measures by what Linux does: run it there".into()))
}

/// The shortest time in nanoseconds, for each number of pages from 1 on, of taking the right to write from so many, and of touching
/// the working set afterwards.
#[cfg(target_os = "linux")]
fn times() -> Result<(Vec<f64>, Vec<f64>), Error> {
    use std::time::Instant;

    // One page more than is ever protected, so that the kernel always has the mapping to split.
    let (victims, used) = (region::Region::new(MOST + 1)?, region::Region::new(WORKING_SET)?);
    let mut best = (vec![f64::MAX; MOST], vec![f64::MAX; MOST]);
    for round in 0..ROUNDS {
        for pages in 1..=MOST {
            victims.store(pages);
            used.load();
            used.load();
            let start = Instant::now();
            victims.protect(pages, libc::PROT_READ)?;
            let protect = start.elapsed();
            let start = Instant::now();
            used.load();
            let touch = start.elapsed();
            victims.protect(pages, libc::PROT_READ | libc::PROT_WRITE)?;
            // The first rounds fault pages in.
            if round > 2 {
                let shorter =
                    |best: &mut f64, time: std::time::Duration| *best = best.min(time.as_nanos() as f64);
                shorter(&mut best.0[pages - 1], protect);
                shorter(&mut best.1[pages - 1], touch);
            }
        }
    }
    Ok(best)
}

#[cfg(target_os = "linux")]
mod region {
    use std::ptr::NonNull;
    use std::sync::atomic::{AtomicU64, Ordering};

    use crate::error::Error;

    const PAGE: usize = 4096;

    /// Anonymous memory in pages of 4 KiB.
    pub(super) struct Region {
        base: NonNull<u8>,
        pages: usize,
    }

    impl Region {
        pub(super) fn new(pages: usize) -> Result<Self, Error> {
            let (read_write, flags) =
                (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            // SAFETY: a new mapping wherever the kernel likes; it touches nothing that exists.
            let base = unsafe { libc::mmap(std::ptr::null_mut(), pages * PAGE, read_write, flags, -1, 0) };
            let base = NonNull::new(base.cast::<u8>()).filter(|_| base != libc::MAP_FAILED);
            let base =
                base.ok_or_else(|| Error::Setup("the system refuses memory for the measurement".into()))?;
            // SAFETY: the mapping just made. Large pages would hide what is measured; a kernel that has none may refuse.
            unsafe { libc::madvise(base.as_ptr().cast(), pages * PAGE, libc::MADV_NOHUGEPAGE) };
            let region = Self { base, pages };
            region.store(pages);
            Ok(region)
        }

        /// A word of a page, on another cache line in each.
        fn word(&self, page: usize) -> &AtomicU64 {
            assert!(page < self.pages);
            // SAFETY: inside the mapping, aligned, initialised with zeroes by the kernel, and mapped as long as `self` lives; used by
            // atomics only.
            unsafe { self.base.add(page * PAGE + 64 * (page % 64)).cast::<AtomicU64>().as_ref() }
        }

        /// Stores to the first pages, which must be writable.
        pub(super) fn store(&self, pages: usize) {
            // ORD: Relaxed; one thread.
            (0..pages).for_each(|page| self.word(page).store(1, Ordering::Relaxed));
        }

        /// Loads from all pages.
        pub(super) fn load(&self) {
            for page in 0..self.pages {
                // ORD: Relaxed; one thread.
                std::hint::black_box(self.word(page).load(Ordering::Relaxed));
            }
        }

        /// Gives the first pages these rights.
        pub(super) fn protect(&self, pages: usize, rights: libc::c_int) -> Result<(), Error> {
            assert!(pages <= self.pages);
            // SAFETY: pages of this mapping, to which nobody stores while they are read-only: there is one thread, and it
            // gives the right back before it stores.
            match unsafe { libc::mprotect(self.base.as_ptr().cast(), pages * PAGE, rights) } {
                0 => Ok(()),
                _ => Err(Error::Setup("the system refuses mprotect".into())),
            }
        }
    }

    impl Drop for Region {
        fn drop(&mut self) {
            // SAFETY: made by `new`, and nothing refers to it any more.
            unsafe { libc::munmap(self.base.as_ptr().cast(), self.pages * PAGE) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_costs_come_out_of_times_that_were_made_from_them() {
        // 50 ns a page, 40 ns an INVLPG up to 33 pages, 300 ns a full invalidation, 2 ns a page used again.
        let step = |n: usize| if n <= 33 { 40.0 * n as f64 } else { 300.0 };
        let protect: Vec<f64> = (1..=MOST).map(|n| 1000.0 + 50.0 * n as f64 + step(n)).collect();
        let touch: Vec<f64> =
            (1..=MOST).map(|n| if n <= 33 { 200.0 } else { 200.0 + 2.0 * WORKING_SET as f64 }).collect();
        let costs = Costs::from_times(&protect, &touch).unwrap();
        assert_eq!(costs.ceiling, 33);
        for (found, expected) in [(costs.page, 40.0), (costs.full, 300.0), (costs.refill, 2.0)] {
            assert!((found - expected).abs() < 1e-6, "{costs:?}");
        }
        assert!((costs.break_even(512) - 33.1).abs() < 1e-6);
        assert!(Costs::from_times(&protect, &[200.0; MOST]).is_none(), "no step");
    }
}
