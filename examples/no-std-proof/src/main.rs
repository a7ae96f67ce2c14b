//! Proof that the four libraries need no std.
//!
//! On a machine that has only a hosted target a plain build with default features off proves nothing:
//! std is there, and a crate that uses it behind one's back links. This program brings its own panic
//! handler and entry point; a hidden std would be a second panic handler, which does not link. It also
//! runs: one CPU over a static array of frames enters, protects and removes mappings.
#![no_std]
#![no_main]

mod machine;
mod runtime;

use core::num::NonZeroU64;

use gencount::GenerationWord;
use pmap::{Access, EnterFlags, Frame, Options, Protection, System, VirtAddr, VirtRange};
use turnstile::{Address, Outcome, Queue, Turnstiles};

use machine::{Board, Spin};

static QUEUE: dcas_queue::Queue = dcas_queue::Queue::new(0);
static NODE: dcas_queue::Node = dcas_queue::Node::new();
static TURNSTILES: Turnstiles<Spin, 4> = Turnstiles::new(Spin);

/// The number of the step that failed.
fn run() -> Result<(), u8> {
    queue().ok_or(1)?;
    turnstiles().ok_or(2)?;
    pmap()
}

fn queue() -> Option<()> {
    // SAFETY: queue and node are static; nobody else uses the node, which is idle here.
    let payload = unsafe { QUEUE.append(&NODE, NonZeroU64::new(3)?, ()) }.ok()?;
    let before = QUEUE.watermark();
    // SAFETY: as above; the node is in the queue.
    unsafe { QUEUE.remove(&NODE, ()) };
    (payload == 3 && before == 0 && QUEUE.watermark() == 3).then_some(())
}

fn turnstiles() -> Option<()> {
    let address = Address::of(&TURNSTILES);
    // What would be waited for has happened already, so this returns at once.
    let outcome = TURNSTILES.block(address, Queue::Exclusive, 0, || false);
    (outcome != Outcome::Woken).then_some(())
}

fn pmap() -> Result<(), u8> {
    let board = Board::take().ok_or(3)?;
    let layout = System::<Board>::storage_layout(&board, Options::default()).map_err(|_| 4)?;
    let storage = machine::storage(layout).ok_or(5)?;
    // SAFETY: a static array of the right size and alignment, handed out once.
    let system = unsafe { System::with_storage(board, Options::default(), storage) }.map_err(|_| 6)?;
    system.start_cpu();
    let space = system.create().map_err(|_| 7)?;
    space.activate();
    let va = VirtAddr(0x40_0000);
    let frame = Frame(machine::FIRST_DATA_FRAME);
    let read_write = Protection::READ | Protection::WRITE;
    space.enter(va, frame, read_write, Access::Write, EnterFlags::empty()).map_err(|_| 8)?;
    let page = system.page(frame).ok_or(9)?;
    let mapped = space.extract(va) == Some(frame.addr()) && system.is_modified(page);
    space.protect(VirtRange::page_of(va), Protection::READ);
    let protected = !system.is_modified(page) && page.is_dirty();
    system.remove_all(page);
    let removed = space.extract(va).is_none() && !system.page_is_mapped(page);
    system.activate_kernel();
    space.destroy().map_err(|_| 10)?;
    let clean = system.audit(|_| {}) == 0;
    let word = GenerationWord::new();
    pmap::Machine::participant(system.machine()).wait(&word);
    (mapped && protected && removed && clean).then_some(()).ok_or(11)
}

/// Where the program starts; called on an aligned stack by `_start`.
#[unsafe(no_mangle)]
extern "C" fn proof_main() -> ! {
    runtime::exit(match run() {
        Ok(()) => 0,
        Err(step) => i32::from(step),
    })
}
