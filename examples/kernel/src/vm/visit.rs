//! Kernel threads that use the memory of an address space as a program would: a word at a time, through the processor's own translations.
//!
//! Page faults of [`load`] and [`store`] are resolved as a program's are. Those of [`peek`] and [`poke`] are not: these use a translation that
//! is there, in the page tables or only in the CPU's TLB, and wait for nobody.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use core::arch::global_asm;
use core::ptr::{NonNull, with_exposed_provenance, with_exposed_provenance_mut};

use pmap::{Access, VirtAddr};
use turnstile::ThreadId;
use x86_64::instructions::{interrupts, smap::Smap};
use x86_64::structures::idt::PageFaultErrorCode as Cause;

use super::Space;
use crate::arch::trap::TrapFrame;
use crate::sched::{self, Mutex};

global_asm!(include_str!("word.s"), options(att_syntax));

unsafe extern "C" {
    fn load_word(from: *const u64, to: *mut u64) -> u32;
    fn store_word(to: *mut u64, value: u64) -> u32;
    fn peek_word(from: *const u64, to: *mut u64) -> u32;
    fn poke_word(to: *mut u64, value: u64) -> u32;
    static load_word_at: u8;
    static store_word_at: u8;
    static peek_word_at: u8;
    static poke_word_at: u8;
    static word_refused: u8;
}

/// The access was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal;

/// Which kernel thread is in which address space.
static VISITORS: Mutex<BTreeMap<ThreadId, Arc<Space>>> = Mutex::new(BTreeMap::new());

/// Has the calling thread run in `space` from now on, instead of where it was before.
pub(crate) fn enter(space: &Arc<Space>) {
    let left = VISITORS.lock().insert(sched::current().id(), space.clone());
    // SAFETY: the table keeps it until the thread is somewhere else.
    unsafe { sched::set_address_space(Some(NonNull::from(space.pmap()))) };
    // After that, and not under the lock: it may be the last reference.
    drop(left);
}

/// Has the calling thread run in no address space. To be called before it ends.
pub(crate) fn leave() {
    // SAFETY: none any more.
    unsafe { sched::set_address_space(None) };
    let left = VISITORS.lock().remove(&sched::current().id());
    drop(left);
}

/// Reads the word at `va` of the address space that the calling thread is in.
///
/// # Errors
///
/// [`Refusal`] if the space permits it not, or there is no memory for the page.
pub(crate) fn load(va: VirtAddr) -> Result<u64, Refusal> {
    read(load_word, va)
}

/// Writes the word at `va`.
///
/// # Errors
///
/// [`Refusal`], as for [`load`].
pub(crate) fn store(va: VirtAddr, value: u64) -> Result<(), Refusal> {
    write(store_word, va, value)
}

/// Reads the word at `va` if the processor has a translation for it.
///
/// # Errors
///
/// [`Refusal`] if it has not.
pub(crate) fn peek(va: VirtAddr) -> Result<u64, Refusal> {
    read(peek_word, va)
}

/// Writes the word at `va` if the processor has a translation that permits it.
///
/// # Errors
///
/// [`Refusal`] if it has not.
pub(crate) fn poke(va: VirtAddr, value: u64) -> Result<(), Refusal> {
    write(poke_word, va, value)
}

fn read(how: unsafe extern "C" fn(*const u64, *mut u64) -> u32, va: VirtAddr) -> Result<u64, Refusal> {
    let mut value = 0;
    let from = with_exposed_provenance(word(va)?);
    // SAFETY: a word in the user half, where no Rust object lives; the fault is foreseen if it cannot be read. `value` is ours.
    finish(|| unsafe { how(from, &raw mut value) })?;
    Ok(value)
}

fn write(how: unsafe extern "C" fn(*mut u64, u64) -> u32, va: VirtAddr, value: u64) -> Result<(), Refusal> {
    let to = with_exposed_provenance_mut(word(va)?);
    // SAFETY: as in `read`.
    finish(|| unsafe { how(to, value) })
}

/// A whole word in the user half.
fn word(va: VirtAddr) -> Result<usize, Refusal> {
    if va.is_user() && va.0.is_multiple_of(8) { Ok(va.0 as usize) } else { Err(Refusal) }
}

fn finish(access: impl FnOnce() -> u32) -> Result<(), Refusal> {
    let refused = match Smap::new() {
        Some(smap) => smap.without_smap(access),
        None => access(),
    };
    if refused == 0 { Ok(()) } else { Err(Refusal) }
}

/// Handles the page fault at `address` if it is one of a visiting thread's accesses; says whether it is.
pub(crate) fn page_fault(frame: &mut TrapFrame, address: u64) -> bool {
    let at = |symbol: *const u8| frame.rip == symbol.addr() as u64;
    let resolves = at(&raw const load_word_at) || at(&raw const store_word_at);
    if frame.is_user() || !(resolves || at(&raw const peek_word_at) || at(&raw const poke_word_at)) {
        return false;
    }
    if !(resolves && resolve(frame.error_code, VirtAddr(address))) {
        frame.rip = (&raw const word_refused).addr() as u64;
    }
    true
}

/// Makes the access possible; says whether it is.
fn resolve(error_code: u64, va: VirtAddr) -> bool {
    let write = Cause::from_bits_truncate(error_code).contains(Cause::CAUSED_BY_WRITE);
    let access = if write { Access::Write } else { Access::Read };
    // As an ordinary thread from here on, as it was before: it may block, and be preempted.
    interrupts::enable();
    let space = VISITORS.lock().get(&sched::current().id()).cloned();
    let resolved = space.as_ref().is_some_and(|space| space.resolve(va, access).is_ok());
    drop(space);
    interrupts::disable();
    resolved
}
