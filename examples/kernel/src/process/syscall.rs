//! System calls.

use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec;

use pmap::{PAGE_SHIFT, Protection, VirtAddr, VirtRange};
use turnstile::Priority;

use super::Process;
use super::{Recovery, exit_thread, limits};
use crate::abi::{self, Call, Error, Figure, Finding, Tally};
use crate::arch::percpu;
use crate::arch::serial;
use crate::arch::trap::TrapFrame;
use crate::sched;
use crate::vm::{Backing, Hint, InsertError, LimitReached, Vma, copy};

/// Longest text that can be printed at once, in bytes.
const MAX_TEXT: u64 = 512;
/// User threads are less urgent than any of the kernel's: those must come through to watch and to end them.
const MOST_URGENT: Priority = Priority::new(Priority::NORMAL.level() - 1);

/// Does what the program asks for. The result goes into the frame.
pub(crate) fn dispatch(frame: &mut TrapFrame) {
    let Some(process) = Process::current() else {
        panic!("a system call by a thread without a process, at {:#x}", frame.rip);
    };
    let call = Call::from_number(frame.rax);
    if process.is_dying() || call == Some(Call::Exit) {
        drop(process);
        exit_thread(frame.rdi);
    }
    let result = call.ok_or(Error::Invalid).and_then(|call| perform(&process, call, frame));
    frame.rax = result.unwrap_or_else(|error| (error as u64).wrapping_neg());
}

fn perform(process: &Arc<Process>, call: Call, frame: &TrapFrame) -> Result<u64, Error> {
    let (first, second, third) = (frame.rdi, frame.rsi, frame.rdx);
    match call {
        // Done by the caller.
        Call::Exit => {}
        Call::Spawn => {
            let priority = u8::try_from(frame.r10).ok().map(Priority::new);
            let priority = priority.filter(|priority| *priority <= MOST_URGENT).ok_or(Error::Invalid)?;
            let mut begin = TrapFrame::user(user(first)?.0, user(second)?.0);
            begin.rdi = third;
            process.begin_thread(begin, priority).map_err(|_| Error::Memory)?;
        }
        Call::Fork => {
            let mut child = frame.clone();
            child.rax = 0;
            return process.fork(child, sched::current().own_priority()).map_err(|_| Error::Memory);
        }
        Call::Wait => {
            // It would wait for ever.
            if first == process.id {
                return Err(Error::NoChild);
            }
            let status = process.run().wait_unless(first, || process.is_dying()).ok_or(Error::NoChild)?;
            copy::copy_out(user(second)?, &status.to_le_bytes()).map_err(|_| Error::Address)?;
        }
        Call::Map => return map(process, frame),
        Call::Unmap => {
            process.space().unmap(range(first, second)?).map_err(|LimitReached| Error::Memory)?;
        }
        Call::Protect => {
            let changed = process.space().protect(range(first, second)?, rights(third));
            changed.map_err(|LimitReached| Error::Memory)?;
        }
        Call::Advise => {
            let hint = match abi::Hint::from_number(third).ok_or(Error::Invalid)? {
                abi::Hint::Idle => Hint::Idle,
                abi::Hint::PageOut => Hint::PageOut,
            };
            process.space().advise(range(first, second)?, hint);
        }
        Call::Yield => sched::yield_now(),
        Call::Sleep => process.sleep(first),
        Call::Ticks => return Ok(sched::ticks()),
        Call::Cpu => return Ok(percpu::current_cpu().index() as u64),
        Call::Write => return write(first, second),
        Call::Recover => {
            *process.recovery().lock() = Some(Recovery { first, end: second, resume: user(third)?.0 });
        }
        Call::Report => {
            let finding = Finding::from_number(first).ok_or(Error::Invalid)?;
            process.report(finding, second, third, frame.r10);
        }
        Call::Figure => {
            let figure = Figure::from_number(first).ok_or(Error::Invalid)?;
            process.run().add_figure(figure, second, third).map_err(|LimitReached| Error::Memory)?;
        }
        Call::Tally => {
            process.run().add_tally(Tally::from_number(first).ok_or(Error::Invalid)?, second);
        }
    }
    Ok(0)
}

/// A user address.
fn user(address: u64) -> Result<VirtAddr, Error> {
    Some(VirtAddr(address)).filter(|va| va.is_user()).ok_or(Error::Invalid)
}

/// A range of user addresses that is not empty.
fn range(address: u64, pages: u64) -> Result<VirtRange, Error> {
    let end =
        pages.checked_shl(PAGE_SHIFT).and_then(|bytes| address.checked_add(bytes)).ok_or(Error::Invalid)?;
    VirtRange::new(VirtAddr(address), VirtAddr(end))
        .filter(|range| range.is_user() && !range.is_empty() && range.pages() == pages)
        .ok_or(Error::Invalid)
}

fn rights(bits: u64) -> Protection {
    let mut rights = Protection::empty();
    rights.set(Protection::READ, bits & abi::READ != 0);
    rights.set(Protection::WRITE, bits & abi::WRITE != 0);
    rights
}

fn map(process: &Process, frame: &TrapFrame) -> Result<u64, Error> {
    let range = range(frame.rdi, frame.rsi)?;
    let first = frame.r8;
    let end = first.checked_add(range.pages()).ok_or(Error::Invalid)?;
    let run = process.run();
    let backing = match abi::Backing::from_number(frame.r10).ok_or(Error::Invalid)? {
        abi::Backing::Anonymous => Backing::Anonymous,
        _ if end > limits::OBJECT_PAGES => return Err(Error::Memory),
        abi::Backing::Shared => Backing::Shared { object: run.shared().clone(), first },
        abi::Backing::File => Backing::Private { object: run.file().clone(), first },
    };
    let vma = Vma { range, protection: rights(frame.rdx), backing };
    match process.space().insert(vma) {
        Ok(()) => Ok(0),
        Err(InsertError::Occupied) => Err(Error::Address),
        Err(InsertError::LimitReached) => Err(Error::Memory),
    }
}

fn write(address: u64, bytes: u64) -> Result<u64, Error> {
    let bytes = Some(bytes).filter(|bytes| *bytes <= MAX_TEXT).ok_or(Error::Invalid)?;
    let mut text = vec![0; bytes as usize];
    copy::copy_in(user(address)?, &mut text).map_err(|_| Error::Address)?;
    serial::print(format_args!("{}", String::from_utf8_lossy(&text)));
    Ok(bytes)
}
