//! The pmap on this machine's MMU: what one CPU changes holds on all.
//!
//! An MMU that keeps old translations, as it may, fails these checks unless every CPU is told: each step reads on every CPU what the next step
//! changes.

use alloc::boxed::Box;
use alloc::format;
use alloc::sync::Arc;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicUsize, Ordering};

use pmap::{
    Access, CpuId, EnterFlags, Frame, Machine as _, PAGE_SIZE, Pmap, Protection, VirtAddr, VirtRange,
};
use turnstile::Priority;
use x86_64::instructions::smap::Smap;

use crate::arch::{percpu, probe};
use crate::machine::{self, Board, System};
use crate::memory::frames;
use crate::programs::report::Report;
use crate::sched::{self, Handle};

/// Somewhere in the user half.
const USER: VirtAddr = VirtAddr(0x40_0000);
/// What the two frames hold.
const STAMPS: [u8; 2] = [0x5a, 0xc3];

/// Runs the checks.
pub(super) fn run(report: &mut Report) {
    let Some(system) = machine::system() else {
        return report.check("there is a pmap", false, || "the machine was not started".into());
    };
    let Some(pages) = stamped_frames(system) else {
        return report.check("there are two frames", false, || "no memory".into());
    };
    kernel_window(report, system, pages);
    user_space(report, system, pages);
    pages.into_iter().for_each(frames::free);
    let mut faults = alloc::vec::Vec::new();
    system.audit(|error| faults.push(format!("{error}")));
    report.check("the pmap's audit", faults.is_empty(), || format!("{faults:?}"));
}

fn stamped_frames(system: &System) -> Option<[Frame; 2]> {
    let frames = [frames::allocate()?, frames::allocate()?];
    for (frame, stamp) in frames.iter().zip(STAMPS) {
        // SAFETY: the frame is ours, and the direct map is valid for all of it.
        unsafe { system.machine().direct_map(*frame).write_bytes(stamp, PAGE_SIZE as usize) };
    }
    Some(frames)
}

/// Runs `step` on every CPU, in `space` if there is one, which the CPUs keep loaded; says on how many it held.
fn holds(space: Option<&'static Pmap<'static, Board>>, step: fn() -> bool) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let cpus = (0..percpu::cpu_count()).filter_map(CpuId::new);
    let threads = cpus.map(|cpu| {
        let count = count.clone();
        let body = move || {
            if let Some(space) = space {
                // SAFETY: the space is destroyed only after the CPUs have left it.
                unsafe { sched::set_address_space(Some(NonNull::from(space))) };
            }
            // ORD: Relaxed: read after the joins.
            count.fetch_add(usize::from(step()), Ordering::Relaxed);
        };
        sched::spawn_on(cpu, "translation", Priority::NORMAL, body).expect("memory for a thread on every CPU")
    });
    threads.collect::<alloc::vec::Vec<_>>().into_iter().for_each(Handle::join);
    count.load(Ordering::Relaxed) // ORD: the threads have ended
}

fn everywhere(report: &mut Report, name: &str, held: usize) {
    let all = percpu::cpu_count();
    report.check(name, held == all, || format!("only on {held} of {all} CPUs"));
}

fn kernel_page() -> VirtAddr {
    crate::memory::layout::kernel_window().start()
}

fn kernel_pointer() -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(kernel_page().0 as usize)
}

fn kernel_byte() -> u8 {
    // SAFETY: called while the page is mapped; nothing of Rust's lies there.
    unsafe { kernel_pointer().read_volatile() }
}

fn kernel_window(report: &mut Report, system: &'static System, [first, second]: [Frame; 2]) {
    let entered = system.qenter(kernel_page(), &[first]);
    report.check("a kernel page is entered", entered.is_ok(), || format!("{entered:?}"));
    everywhere(report, "every CPU sees the kernel page", holds(None, || kernel_byte() == STAMPS[0]));
    let entered = system.qenter(kernel_page(), &[second]);
    report.check("another one in its place", entered.is_ok(), || format!("{entered:?}"));
    everywhere(report, "every CPU sees the other one", holds(None, || kernel_byte() == STAMPS[1]));
    let removed = system.qremove(kernel_page(), 1);
    report.check("the kernel page is removed", removed.is_ok(), || format!("{removed:?}"));
    everywhere(report, "no CPU sees it any more", holds(None, || !probe::can_read(kernel_pointer())));
}

/// Runs `f` with user addresses within reach.
fn with_user_access<R>(f: impl FnOnce() -> R) -> R {
    match Smap::new() {
        Some(smap) => smap.without_smap(f),
        None => f(),
    }
}

fn user_pointer() -> *mut u8 {
    core::ptr::with_exposed_provenance_mut(USER.0 as usize)
}

/// The byte at [`USER`], if it can be read.
fn user_byte() -> Option<u8> {
    // SAFETY: readable, as was just tried; nothing of Rust's lies there.
    with_user_access(|| probe::can_read(user_pointer()).then(|| unsafe { user_pointer().read_volatile() }))
}

fn can_write() -> bool {
    // SAFETY: the page is one of the two frames, which hold nothing but stamps; the byte is the second one's.
    with_user_access(|| unsafe { probe::can_write(user_pointer(), STAMPS[1]) })
}

fn user_space(report: &mut Report, system: &'static System, [first, second]: [Frame; 2]) {
    let space: &'static Pmap<'static, Board> = match system.create() {
        Ok(space) => Box::leak(Box::new(space)),
        Err(shortage) => return report.check("an address space", false, || format!("{shortage}")),
    };
    let page = VirtRange::page_of(USER);
    let both = Protection::READ | Protection::WRITE;
    let enter = |frame| space.enter(USER, frame, both, Access::Write, EnterFlags::empty());
    let entered = enter(first);
    report.check("a user page is entered", entered.is_ok(), || format!("{entered:?}"));
    let sees = |stamp: fn() -> bool| holds(Some(space), stamp);
    everywhere(report, "every CPU sees the user page", sees(|| user_byte() == Some(STAMPS[0])));
    space.remove(page);
    everywhere(report, "no CPU sees the removed page", sees(|| user_byte().is_none()));
    let entered = enter(first).and_then(|()| enter(second));
    report.check("another user page in its place", entered.is_ok(), || format!("{entered:?}"));
    everywhere(report, "every CPU sees the other user page", sees(|| user_byte() == Some(STAMPS[1])));
    everywhere(report, "every CPU can write to it", sees(can_write));
    space.protect(page, Protection::READ);
    everywhere(report, "no CPU can write to what is read-only", sees(|| !can_write()));
    if let Some(record) = system.page(second) {
        system.remove_all(record);
    }
    everywhere(report, "no CPU sees the page taken from all", sees(|| user_byte().is_none()));
    destroy(report, space);
}

/// Destroys the address space, which CPUs have kept loaded.
fn destroy(report: &mut Report, space: &'static Pmap<'static, Board>) {
    // SAFETY: leaked by `user_space`; the threads that had it have ended, and CPUs know it by its core, not by this.
    let mut space = *unsafe { Box::from_raw(core::ptr::from_ref(space).cast_mut()) };
    for _ in 0..100 {
        match space.destroy() {
            Ok(()) => return report.check("the address space ends", true, || unreachable!()),
            Err(error) => space = error.pmap,
        }
        sched::leave_address_spaces();
        sched::sleep(1);
    }
    report.check("the address space ends", false, || "some CPU never left it".into());
}
