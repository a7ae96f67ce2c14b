//! A software machine for hosted use: CPUs, TLBs, interrupts and memory that behave as badly as the
//! architecture permits, and that notice every mistake.
//!
//! # What is modelled
//!
//! * **Memory.** One real allocation in domains; frames have owners, and every hand-over has its own stamp.
//! * **Processors.** A [`CpuModel`] says what there is: PCIDs, INVPCID, INVLPGB, the no-execute bit, and one erratum.
//! * **Translation.** Real walks over real frames in the 4-level format, with rights over all levels,
//!   reserved bits, large leaves, and accessed and dirty flags set atomically. A TLB and
//!   paging-structure caches per CPU, tagged with PCIDs; global translations.
//! * **Freedom.** Translations stay as long as nothing must drop them; they are also filled unasked and
//!   dropped unasked; interrupts come late. All of it from one seed.
//! * **Interrupts.** One kind, the shootdown. Taken between accesses, at points, and by whoever waits.
//! * **Guarantees.** When the pmap states one, or a frame is freed, all CPUs are searched for what it
//!   forbids.
//!
//! # What is not
//!
//! 5-level paging, protection keys, SMEP and SMAP, memory types, and
//! the weak order of stores (accesses are Acquire and Release). A stale access to a frame with a new
//! owner is counted, not performed.
//!
//! # Threads and modes
//!
//! Every CPU is a host thread ([`SimMachine::run_cpu`], [`SimMachine::run_cpus`]). What such a thread
//! shares with others it protects with [`Mutex`] and [`RwLock`] from here, whose waiters take
//! interrupts; locks of the host may be held only as leaves, around nothing of the machine's or the
//! pmap's. In [`Mode::Deterministic`] one CPU runs at a time and the seed fixes the history, provided
//! that the program is deterministic too: no time, no hash maps with random state, and no host thread
//! that talks to CPUs from outside. With [`SimMachine::with_executor`] the CPUs are tasks of a checker of schedules,
//! which then decides in place of the seed.
//!
//! # Where to find what
//!
//! `walk` is the hardware's walk, `tlb` and `structure_cache` what it remembers, `mmu` one CPU's use of
//! them, `invalidate` and `broadcast` the instructions that drop it, `cpu_model` which of those there are; `run` has the threads, `cpu` the interrupts, `wait` the waits, on `doorbell`, `turns` and `baton`; `lock` and
//! `scheduler` are what others block on; `memory` has frames, `guarantee` the search, `report` the result.
//!
//! ```
//! use pmap::CpuId;
//! use pmap::sim::{Config, SimMachine};
//!
//! let machine = SimMachine::new(Config { cpus: 2, frames: 64, ..Config::default() }).unwrap();
//! let results = machine.run_cpus(|cpu: CpuId| {
//!     let frame = machine.allocate_data_frame(true).unwrap();
//!     machine.free_data_frame(frame);
//!     cpu.index()
//! });
//! assert_eq!(results.unwrap(), [0, 1]);
//! assert!(machine.report().is_clean());
//! ```

mod access;
mod baton;
mod broadcast;
mod config;
mod context;
mod cpu;
mod cpu_model;
mod doorbell;
mod fault;
mod guarantee;
mod invalidate;
mod lock;
mod machine;
mod memory;
mod mmu;
mod report;
mod run;
mod scheduler;
mod structure_cache;
mod tlb;
mod turns;
mod wait;
mod walk;

#[cfg(test)]
mod tests;

pub use config::{Adversary, Check, Config, MAX_FRAMES, MIN_FRAMES, Mode, SimError};
pub use cpu_model::CpuModel;
pub use fault::Fallible;
pub use lock::{Mutex, MutexGuard, RawMutex, RawRwLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
pub use machine::SimMachine;
pub use memory::{Owner, POISON};
pub use mmu::PageFault;
pub use report::Report;
pub use scheduler::{SimScheduler, SimThreads};
pub use turns::Executor;
