//! Tests of the parts together, over tables built by hand. What a real pmap does is another layer's test:
//! here the program is right or wrong on purpose, and the machine must behave and judge accordingly.

mod deterministic;
mod guarantees;
mod interrupts;
mod invalidation;
mod locks;
mod pcids;
mod shootdowns;
mod walks;

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use super::{Adversary, Config, SimMachine, walk};
use crate::machine::{FrameUse, Machine};
use crate::pinned::Pinned;
use crate::{CpuId, Cr3, Frame, Pcid, VirtAddr, VirtRange};

const P: u64 = walk::PRESENT;
const W: u64 = walk::WRITABLE;
const U: u64 = walk::USER;
const A: u64 = walk::ACCESSED;
const D: u64 = walk::DIRTY;
const PS: u64 = walk::LARGE;
const G: u64 = walk::GLOBAL;
const NX: u64 = walk::NO_EXECUTE;
const MANAGED: u64 = walk::MANAGED;
/// What entries above the leaves hold.
const LINK: u64 = P | W | U;

const VA: VirtAddr = VirtAddr(0x0000_1234_5678_9000);

fn cpu(index: usize) -> CpuId {
    CpuId::new(index).unwrap()
}

fn tame(cpus: usize) -> Config {
    Config { cpus, frames: 512, adversary: Adversary::tame(), ..Config::default() }
}

fn machine(config: Config) -> SimMachine {
    SimMachine::new(config).unwrap()
}

/// Tables of one address space, made and changed word by word.
struct Tables<'m> {
    machine: &'m SimMachine,
    root: Frame,
}

impl<'m> Tables<'m> {
    fn new(machine: &'m SimMachine) -> Self {
        Self { machine, root: machine.allocate_frame(FrameUse::PageTable).unwrap() }
    }

    /// The entry for `va` in the table of `level`; tables above it are made.
    fn entry(&self, va: VirtAddr, level: u32) -> &'m AtomicU64 {
        let mut table = self.root;
        for at in (level + 1..=4).rev() {
            let word = &self.machine.frame_words(table)[va.index(at)];
            if word.load(SeqCst) & P == 0 {
                let below = self.machine.allocate_frame(FrameUse::PageTable).unwrap();
                word.store(below.addr().0 | LINK, SeqCst);
            }
            table = Frame((word.load(SeqCst) & walk::ADDRESS) >> 12);
        }
        &self.machine.frame_words(table)[va.index(level)]
    }

    fn table(&self, va: VirtAddr, level: u32) -> Frame {
        Frame((self.entry(va, level + 1).load(SeqCst) & walk::ADDRESS) >> 12)
    }

    fn map(&self, va: VirtAddr, frame: Frame, bits: u64) {
        self.entry(va, 1).store(frame.addr().0 | bits, SeqCst);
    }

    /// A data frame that holds `value` in every word, mapped at `va`.
    fn map_value(&self, va: VirtAddr, value: u64, bits: u64) -> Frame {
        let frame = self.machine.allocate_data_frame(true).unwrap();
        self.machine.frame_words(frame).iter().for_each(|word| word.store(value, SeqCst));
        self.map(va, frame, bits);
        frame
    }

    /// Makes this the current address space of the current CPU.
    fn activate(&self) {
        self.load(Pcid::KERNEL, false);
    }

    /// As [`activate`](Self::activate), under this PCID.
    fn load(&self, pcid: Pcid, no_flush: bool) {
        let machine = self.machine;
        let cr3 = Cr3 { root: self.root, pcid, no_flush };
        Pinned::run_masked(machine, |here| {
            machine.shootdowns().set_current(here, cr3);
            // SAFETY: the software machine executes nothing through its tables.
            unsafe { machine.load_cr3(cr3) };
        });
    }
}

fn page(va: VirtAddr) -> VirtRange {
    VirtRange::page_of(va)
}

/// Runs `f` on CPU 0 of a tame machine whose current address space is `Tables`.
fn on_one_cpu(f: impl FnOnce(&SimMachine, &Tables<'_>)) {
    let machine = machine(tame(1));
    machine.run_cpu(cpu(0), || {
        let tables = Tables::new(&machine);
        tables.activate();
        f(&machine, &tables);
    });
}
